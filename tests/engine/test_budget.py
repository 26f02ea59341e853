# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Training for a given time."""

import pytest
from test_hooks import build

from sapiens.engine.hooks import TimeBudgetHook
from sapiens.engine.hooks import budget as module
from sapiens.errors import UserError


class Clock:
    """A clock that goes on by a fixed time whenever it is read."""

    def __init__(self, seconds):
        self.now, self.seconds = 0.0, seconds

    def perf_counter(self):
        self.now += self.seconds
        return self.now


def test_the_rate_warms_up_and_falls_to_its_end():
    hook = TimeBudgetHook(minutes=10, warmup=0.1, final=0.2)
    assert hook.factor(0.05) == pytest.approx(0.5)
    assert hook.factor(0.1) == pytest.approx(1.0)
    assert hook.factor(0.55) == pytest.approx(0.6)
    assert hook.factor(1.0) == hook.factor(2.0) == pytest.approx(0.2)


def test_training_ends_with_its_time_is_saved_and_goes_on_where_it_was(toy_config, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'time', Clock(30.0))
    toy_config.param_scheduler = None
    toy_config.train_cfg.update(max_iters=10**6, val_interval=10**6)
    toy_config.default_hooks.budget = dict(type='TimeBudgetHook', minutes=4, interval=1)
    toy_config.default_hooks.checkpoint.interval = 3
    toy_config.custom_hooks = [dict(type='SafeCheckpointHook', by_epoch=True, out_dir=str(tmp_path / 'epochs'))]
    runner = build(toy_config, tmp_path)
    runner.train()
    assert len(list((tmp_path / 'epochs').iterdir())) == 1, 'no step is saved twice'
    done = runner.iter
    assert 6 <= done <= 9 and (tmp_path / f'iter_{done}.pth').is_file()
    assert (tmp_path / 'last_checkpoint').read_text().endswith(f'iter_{done}.pth')
    assert runner.optim_wrapper.param_groups[0]['lr'] < 0.1 * runner.optim_wrapper.param_groups[0]['initial_lr']
    # Twice the time: half of it is over.
    toy_config.default_hooks.budget.minutes = 8
    again = build(toy_config, tmp_path, resume=True, load_from=str(tmp_path / f'iter_{done}.pth'))
    again.train()
    assert done + 6 <= again.iter <= done + 9


def test_a_time_that_ends_within_an_epoch_ends_training_there_and_is_saved(toy_config, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'time', Clock(30.0))
    toy_config.param_scheduler = None
    toy_config.train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=3)
    toy_config.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    toy_config.default_hooks.budget = dict(type='TimeBudgetHook', minutes=1.4, interval=1)
    toy_config.default_hooks.checkpoint.update(interval=2, by_epoch=True)
    runner = build(toy_config, tmp_path)
    runner.train()
    assert (runner.epoch, runner.iter) == (0, 3), 'of six batches an epoch'
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_0.pth')
    toy_config.default_hooks.budget.minutes = 3.4
    again = build(toy_config, tmp_path, resume=True)
    again.train()
    assert (again.epoch, again.iter) == (1, 7)


def test_iterations_may_end_first(toy_config, tmp_path):
    toy_config.param_scheduler = None
    toy_config.train_cfg.update(max_iters=6, val_interval=6)
    toy_config.default_hooks.budget = dict(type='TimeBudgetHook', minutes=1000)
    runner = build(toy_config, tmp_path)
    runner.train()
    group = runner.optim_wrapper.param_groups[0]
    assert runner.iter == 6 and group['lr'] < 0.1 * group['initial_lr']


@pytest.mark.parametrize(
    'wrong', [dict(minutes=0), dict(minutes=-1), dict(minutes=1, warmup=1), dict(minutes=1, interval=0)]
)
def test_times_that_make_no_sense_are_named(wrong):
    with pytest.raises(UserError, match='TimeBudgetHook: minutes='):
        TimeBudgetHook(**wrong)
