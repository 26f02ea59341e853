# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Training runs for the tests, in this process."""

import pytest
from toy_runs import TOY_CONFIG


@pytest.fixture
def on_cpu(monkeypatch):
    """Train on the CPU though there may be a GPU, whose sums come in another order every time."""
    from mmengine.device import utils

    monkeypatch.setattr(utils, 'DEVICE', 'cpu')


@pytest.fixture
def toy_config():
    """The toy config as an object to change."""
    from sapiens.engine import load_config

    config = load_config(TOY_CONFIG)
    config.log_level = 'WARNING'
    config.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    config.custom_hooks = [hook for hook in config.custom_hooks if 'Vis' not in hook['type']]
    config.train_cfg.val_interval = 12
    return config


@pytest.fixture
def train(tmp_path):
    """Train in this process: ``train(config, name, crash_at=None, resume=None)`` -> (runner, recorder)."""
    import copy
    import uuid

    from toy_data import RecordHook

    from sapiens.engine import SapiensRunner

    def run_it(config, name='run', crash_at=None, **changes):
        config = copy.deepcopy(config)
        config.update(changes)
        config.work_dir = str(tmp_path / name)
        config.experiment_name = uuid.uuid4().hex
        config.custom_hooks = [*config.custom_hooks, dict(type='RecordHook')]
        if crash_at is not None:
            config.custom_hooks.append(dict(type='CrashHook', at=crash_at))
        runner = SapiensRunner.from_cfg(config)
        recorder = next(hook for hook in runner.hooks if isinstance(hook, RecordHook))
        if crash_at is None:
            runner.train()
        else:
            with pytest.raises(RuntimeError, match='crash'):
                runner.train()
        return runner, recorder

    return run_it
