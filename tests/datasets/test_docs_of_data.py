# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The pages about own data run word for word."""

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[2] / 'docs'


@pytest.mark.parametrize('page', ['own_keypoints', 'own_classes', 'own_depth_and_normals'])
def test_page_from_an_export_to_a_running_demo(page, tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    text = (DOCS / f'{page}.md').read_text()
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
