# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Commands in README and docs exist, with the options and shipped files that they name; links lead somewhere."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from sapiens.cli import COMMANDS
from sapiens.utils.shipped import find_config_file

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]


def commands(page):
    """Words of every command line of ours in the fenced blocks of a page."""
    for block in re.findall(r'```(?:bash|sh|console)?\n(.*?)```', page.read_text(encoding='utf-8'), re.DOTALL):
        for line in block.replace('\\\n', ' ').splitlines():
            line = line.strip().removeprefix('$ ')
            if line.startswith(('sapiens ', 'python tools/', 'python demo/', 'tools/')):
                yield shlex.split(line, comments=True)


def source(words):
    """File that defines the options of a command."""
    if words[0] == 'sapiens':
        assert words[1] in COMMANDS or words[1].startswith('--'), f'sapiens has no command {words[1]}'
        name = words[1].replace('-', '_')
        return ROOT / f'sapiens/commands/{name}.py' if words[1] in COMMANDS else None
    script = ROOT / (words[1] if words[0] == 'python' else words[0])
    assert script.is_file(), f'{script} does not exist'
    if script.suffix == '.sh':
        return ROOT / f'sapiens/commands/{"test" if "test" in script.name else "train"}.py'
    found = re.search(r'from sapiens\.commands\.(\w+) import main', script.read_text())
    return ROOT / f'sapiens/commands/{found[1]}.py' if found else script


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_commands_of_the_docs_exist_with_their_options(page):
    shared = (ROOT / 'sapiens/commands/options.py').read_text()
    for words in commands(page):
        text = ' '.join(words)
        file = source(words)
        if file is None:
            continue
        known = file.read_text() + shared + ''.join(p.read_text() for p in file.parent.glob('runs.py'))
        for word in words:
            if re.fullmatch(r'--[a-z][\w-]*(=.*)?', word) and word.partition('=')[0] not in ('--help',):
                option = word.partition('=')[0]
                plain = option.replace('--no-', '--')
                assert f"'{option}'" in known or f"'{plain}'" in known or "f'--" in known, f'{text}: {option}'
            if re.fullmatch(r'configs/[\w./]+\.py', word) and not re.search(r'my_|mine', word):
                assert find_config_file(word).is_file(), f'{text}: {word}'


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text(encoding='utf-8')):
        if not re.match(r'[a-z]+:|#', target):
            assert (page.parent / target.partition('#')[0]).exists(), f'{page.name}: {target}'


def test_python_in_the_readme_imports_what_there_is():
    for block in re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL):
        compile(block, 'README.md', 'exec')
        for module, names in re.findall(r'^from (sapiens[\w.]*) import (.+)$', block, re.MULTILINE):
            for name in names.split(','):
                assert hasattr(importlib.import_module(module), name.strip())


def test_every_walk_of_the_architecture_page_registers_what_it_adds():
    walks = (ROOT / 'docs/architecture.md').read_text().split('\n### ')[1:]
    assert len(walks) == 4
    for walk in walks:
        assert '.register_module()`' in walk, walk.partition('\n')[0]


def test_files_that_the_architecture_page_names_exist():
    page = (ROOT / 'docs/architecture.md').read_text()
    names = {name for name in re.findall(r'`([\w/]+\.py)`', page) if not Path(name).name.startswith('my_')}
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob('*.py') if '.venv' not in path.parts}
    gone = {name for name in names if not any(f'/{file}'.endswith(f'/{name}') for file in files)}
    assert len(names) > 30 and not gone
