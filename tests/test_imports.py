# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Imports run one way: no room imports what lies above it, not even inside a function, and no file in a circle."""

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'sapiens'
# From the ground up: a room may import those that stand before it (docs/architecture.md).
ORDER = [
    *('errors', 'utils', 'openmmlab', 'registry', 'bridges'),
    *('vocabularies', 'structures', 'codecs'),
    *('visualization', 'datasets', 'models'),
    *('evaluation', 'engine'),
    *('deploy', 'apis'),
    *('curation', 'synthesis'),
    *('commands', 'cli', '__main__'),
]


def imports():
    """(importing module, line, imported module, whether at the top of the file) of every import of ours."""
    modules = {path.relative_to(PACKAGE).with_suffix('').parts: path for path in sorted(PACKAGE.rglob('*.py'))}
    for module, path in modules.items():
        tree = ast.parse(path.read_text(encoding='utf-8'))
        top = {id(node) for node in tree.body}
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            if node.level:
                base = module[: len(module) - node.level] + tuple(filter(None, (node.module or '').split('.')))
            elif (node.module or '').split('.')[0] == 'sapiens':
                base = tuple(node.module.split('.')[1:])
            else:
                continue
            for alias in node.names:
                for target in ((*base, alias.name), base, (*base, '__init__')):
                    if target in modules:
                        yield module, node.lineno, target, id(node) in top
                        break


def test_no_import_runs_upwards():
    rooms = {room for module, _, target, _ in imports() for room in (module[0], target[0])} - {'__init__'}
    assert rooms <= set(ORDER), f'give the new room its place in ORDER: {rooms - set(ORDER)}'
    wrong = [
        f'sapiens/{"/".join(module)}.py:{line} imports {".".join(target)}'
        for module, line, target, _ in imports()
        if module[0] != '__init__' != target[0] and ORDER.index(target[0]) > ORDER.index(module[0])
    ]
    assert not wrong, wrong


def test_no_circle():
    graph = {}
    for module, _, target, top in imports():
        if top and module != target:
            graph.setdefault(module, set()).add(target)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_names_of_test_files_are_unique():
    """pytest imports them by their bare names: two of the same name end a run of the whole suite."""
    names = [path.name for path in Path(__file__).parent.rglob('*.py') if path.name != 'conftest.py']
    assert not {name for name in names if names.count(name) > 1}
