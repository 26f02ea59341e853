# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""NOTICE lists every file that is neither code nor documentation, and nothing that is gone."""

import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {'.py', '.md', '.txt', '.sh', '.toml', '.yml', '.yaml', '.cfg', '.in', '.cff', '.typed', '.css', '.ipynb', ''}
ENTRY = re.compile(r'^  (\S+) \| (.+) \| (.+)$', re.MULTILINE)


def tracked():
    """Files of the checkout, by git; links are not followed."""
    done = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip('not a git checkout: which files belong to it cannot be told')
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file() and not (ROOT / name).is_symlink()]


def test_every_data_file_is_listed_with_source_and_licence():
    entries = ENTRY.findall((ROOT / 'NOTICE').read_text())
    patterns = [pattern for pattern, _, _ in entries]
    assert len(entries) > 10 and len(patterns) == len(set(patterns))
    files = [name for name in tracked() if Path(name).suffix not in OURS]
    unlisted = [name for name in files if not any(fnmatchcase(name, pattern) for pattern in patterns)]
    assert not unlisted, f'write into NOTICE where these are from, and their licence: {unlisted}'
    gone = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in files)]
    assert not gone, f'NOTICE lists what is not there: {gone}'


def test_nothing_is_for_non_commercial_use_only():
    """The project is Apache-2.0: whatever travels with it can be used for anything."""
    for pattern, _, licence in ENTRY.findall((ROOT / 'NOTICE').read_text()):
        assert not re.search(r'\bNC\b|non-?commercial|research', licence, re.IGNORECASE), pattern
    for name in tracked():
        if name.startswith('tests/data/') and name.endswith('.json'):
            text = (ROOT / name).read_text()[:2000]
            assert 'jin-s13' not in text, f'{name}: the labels of COCO-WholeBody are for non-commercial research'
