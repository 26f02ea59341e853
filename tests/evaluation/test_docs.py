# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The commands of ``docs/evaluation.md`` run and print the tables that the page shows."""

import re
from pathlib import Path

from in_process import run_tool

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'evaluation.md').read_text()


def numbers(line):
    return [float(word) for word in re.findall(r'(?<![\w.])\d+\.?\d*(?![\w.])', line)]


def test_page(tmp_path, monkeypatch):
    (tmp_path / 'tests').symlink_to(ROOT / 'tests')
    monkeypatch.chdir(tmp_path)
    exec(re.search(r'```python\n(import json.*?)```', PAGE, re.DOTALL)[1], {})
    shown = re.findall(
        r'```\npython tools/eval_results\.py (work_dirs/eval_demo.*?)\n```\n```\n(.*?)```', PAGE, re.DOTALL
    )
    assert len(shown) == 4
    for command, table in shown:
        done = run_tool('eval_results.py', *command.split())
        assert done.code == 0, done.error
        printed = {line.split()[0]: line for line in done.out.splitlines() if line.strip()}
        for line in table.splitlines():
            if not line.startswith('  ') or line.strip() == '...' or ':' in line:
                continue
            # Numbers may differ in the last digit with other versions of numpy.
            found = numbers(printed[line.split()[0]])
            assert len(found) == len(numbers(line))
            assert all(abs(a - b) <= 0.02 * max(1, abs(b)) for a, b in zip(found, numbers(line), strict=True)), line


def test_scripts_named_on_the_page_exist():
    for script in set(re.findall(r'tools/[\w/]+\.py', PAGE)):
        assert (ROOT / script).is_file(), script
    for config in set(re.findall(r'configs/[\w./]+\.py', PAGE)):
        assert (ROOT / config).is_file(), config
