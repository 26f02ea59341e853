# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Weights to publish: half the size, without facts of the run, and they run."""

import torch
from safetensors import safe_open

from sapiens.apis import Inferencer
from sapiens.engine.convert import convert_checkpoint
from sapiens.engine.files import save_plain
from sapiens.registry import MODELS

CONFIG = 'configs/multitask/sapiens_tiny_4tasks_128x96.py'


def test_half_weights_run_and_say_nothing_about_the_run(tmp_path, monkeypatch):
    from pathlib import Path

    from sapiens.engine.config import load_config

    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    torch.manual_seed(0)
    model = MODELS.build(load_config(CONFIG).model)
    source, target = tmp_path / 'iter_1.pth', tmp_path / 'tiny.safetensors'
    save_plain({'state_dict': model.state_dict(), 'meta': {'cfg': str(root), 'iter': 1}}, source)
    convert_checkpoint(source, target, config=CONFIG, half=True)
    with safe_open(target, 'pt') as file:
        assert 'cfg' not in file.metadata() and str(root) not in str(file.metadata())
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    assert target.stat().st_size < 0.55 * source.stat().st_size + 100_000
    result = Inferencer(CONFIG, target).predict(root / 'demo/images/astronaut.jpg')
    assert len(result.keypoints) == 1 and result.keypoints[0].xy.shape == (308, 2)
    assert result.parts.ids.shape == result.depth.data.shape == result.image.shape[:2]
