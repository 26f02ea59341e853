# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a missing package says, to those who have the wheel and no checkout."""

import ast
import re
import sys
from pathlib import Path

import pytest

from sapiens.errors import MissingPackageError
from sapiens.utils.optional import need

ROOT = Path(__file__).parents[2]


def test_one_line_says_what_to_install(tmp_path, monkeypatch):
    assert need('json', 'this', extra='x').loads('1') == 1
    with pytest.raises(MissingPackageError, match=r"^drawing needs nowhere_to_be: pip install 'sapiens-toolkit\[x\]'$"):
        need('nowhere_to_be.found', 'drawing', extra='x')
    (tmp_path / 'broken_package.py').write_text('import nowhere_to_be')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingPackageError, match=r"pip install 'other' \(No module named 'nowhere_to_be'\); or not$"):
        need('broken_package', 'drawing', package='other', hint='; or not')
    assert 'broken_package' not in sys.modules


def test_messages_name_extras_that_exist_and_no_checkout():
    extras = {path.stem for path in (ROOT / 'requirements').glob('*.txt')} - {'core', 'constraints'}
    for path in [*(ROOT / 'sapiens').rglob('*.py'), *(ROOT / 'tools').rglob('*.py')]:
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == 'extra' and isinstance(node.value, ast.Constant):
                assert node.value.value in extras, path
            if isinstance(node, ast.keyword) and node.arg == 'package' and isinstance(node.value, ast.Constant):
                assert not set(str(node.value.value)) & set('\'"'), f'{path}: need() quotes it'
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                assert not re.search(r'pip install (-e|-r|\.)', node.value), f'{path}: {node.value}'
                assert set(re.findall(r'sapiens-toolkit\[(\w+)', node.value)) <= extras, f'{path}: {node.value}'
