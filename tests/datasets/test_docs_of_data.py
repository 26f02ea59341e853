# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The page about own data runs word for word."""

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[2] / 'docs'


@pytest.mark.parametrize('section', ['Own keypoints', 'Own classes', 'Own depth and normals'])
def test_section_from_an_export_to_a_running_demo(section, tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    page = (DOCS / 'train_your_own.md').read_text()
    text = page.partition(f'\n## {section}\n')[2].partition('\n## ')[0]
    commands = []
    for kind, block in re.findall(r'^```(python|sh)\n(.*?)^```', text, re.DOTALL | re.MULTILINE):
        if kind == 'python':
            exec(block, {})
        else:
            commands += block.splitlines()
    assert len(commands) >= 4
    for command in commands:
        _, script, *arguments = command.split()
        done = run_script(script, *arguments)
        assert done.code == 0, f'{command}: {done.err or done.out[-2000:]}'
    torch.set_num_threads(threads)
    assert len(list((tmp_path / 'drawn').iterdir())) == 4
    assert len(list((tmp_path / 'predicted').glob('*.json'))) >= 8
