# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""An interrupted run continues as if nothing had happened."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from sapiens.engine import CheckpointError
from sapiens.engine.sampling import SeededSampler
from sapiens.errors import UserError


def variant(config, name):
    """Change the toy config into one of several ways to train."""
    config.train_dataloader.num_workers = 0
    if name == 'iterations':
        pass
    elif name == 'epochs':  # 6 batches an epoch; the crash is in the second epoch
        config.train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
        config.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
        config.param_scheduler = [dict(type='MultiStepLR', milestones=[1], by_epoch=True, end=2)]
    elif name == 'workers':
        config.train_dataloader.update(num_workers=2, persistent_workers=True)
    elif name == 'ema':
        config.custom_hooks.append(dict(type='EMAHook', momentum=0.1))
    elif name == 'bf16 and accumulation':
        config.optim_wrapper.update(type='MixedPrecisionOptimWrapper', dtype='bf16', accumulative_counts=2)
    elif name == 'another sampler':
        config.train_dataloader.sampler = dict(type='OtherSampler')
    elif name == 'random seed':
        config.randomness = dict(seed=None)
    return config


class OtherSampler:
    """A sampler that nothing is known about."""

    def __init__(self, dataset, seed=None):
        self.size = len(dataset)

    def __len__(self):
        return self.size

    def __iter__(self):
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(5)).tolist()
        while True:
            yield from order


@pytest.fixture(autouse=True)
def _other_sampler(monkeypatch):
    from sapiens.registry import DATA_SAMPLERS

    monkeypatch.setitem(DATA_SAMPLERS._module_dict, 'OtherSampler', OtherSampler)


VARIANTS = ['iterations', 'epochs', 'workers', 'ema', 'bf16 and accumulation', 'another sampler', 'random seed']


@pytest.mark.parametrize('name', VARIANTS)
@pytest.mark.usefixtures('on_cpu')
def test_the_losses_are_those_of_an_uninterrupted_run(toy_config, train, name):
    config = variant(toy_config, name)
    interrupted, before = train(config, 'interrupted', crash_at=8)
    config.randomness = dict(seed=interrupted.seed)
    whole_runner, whole = train(config, 'whole')
    if name == 'random seed':
        config.randomness = dict(seed=None)
    resumed_runner, resumed = train(config, 'interrupted', resume=True)

    assert before.losses == {i: whole.losses[i] for i in range(8)}
    first = min(resumed.losses)
    # The last checkpoint before the crash: with accumulation it waits until no gradients are pending.
    assert first == 6
    assert resumed.losses == {i: whole.losses[i] for i in range(first, 12)}
    assert resumed.names == {i: whole.names[i] for i in range(first, 12)}
    for (key, a), b in zip(
        whole_runner.bare_model.state_dict().items(), resumed_runner.bare_model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), key
    if name == 'ema':
        states = [torch.load(f'{r.work_dir}/iter_12.pth', weights_only=True) for r in (whole_runner, resumed_runner)]
        assert all(torch.equal(v, states[1]['state_dict'][k]) for k, v in states[0]['state_dict'].items())
        assert any(
            not torch.equal(v, states[0]['ema_state_dict'][f'module.{k}']) for k, v in states[0]['state_dict'].items()
        )


@pytest.mark.parametrize('batch', [2, 6])
def test_epochs_of_another_length_are_not_passed_over(toy_config, train, batch):
    config = variant(toy_config, 'epochs')
    train(config, 'run', crash_at=8)
    config.train_dataloader.batch_size = batch
    with pytest.raises(UserError, match=r'epoch 1, iteration 6: .* keep them \(--global-batch\)'):
        train(config, 'run', resume=True)


def test_a_checkpoint_waits_for_pending_gradients(toy_config, train, tmp_path):
    toy_config.optim_wrapper.accumulative_counts = 2
    train(toy_config, 'run')
    # Intervals of 3 end at 3, 6, 9, 12; at 3 and 9 gradients are half accumulated.
    assert sorted(p.name for p in (tmp_path / 'run').glob('iter_*.pth')) == ['iter_10.pth', 'iter_12.pth']


def test_the_order_differs_between_epochs_and_seeds_and_covers_the_data():
    def one_epoch(seed, epoch):
        sampler = SeededSampler(50, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    orders = [one_epoch(0, 0), one_epoch(0, 1), one_epoch(1, 0)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert len({draw.number for order in orders[:2] for draw in order}) == 100


@pytest.mark.parametrize('infinite', [True, False])
def test_skipping_is_the_same_as_drawing(infinite):
    def draw(skip):
        sampler = SeededSampler(20, 3, infinite=infinite)
        sampler.skip(skip)
        numbers = [(int(d), d.number) for d, _ in zip(sampler, range(18), strict=False)]
        return numbers if infinite else numbers[: 18 - skip]

    assert draw(7)[:10] == draw(0)[7:17]


def test_processes_share_one_order(monkeypatch):
    def ranks(world):
        streams = []
        for rank in range(world):
            sampler = SeededSampler(21, 3, infinite=True)
            sampler.rank, sampler.world_size = rank, world
            iterator = iter(sampler)
            streams.append([next(iterator) for _ in range(60 // world)])
        return [(int(d), d.number) for group in zip(*streams, strict=True) for d in group]

    assert ranks(1) == ranks(2) == ranks(3) == ranks(4)


# ---------------------------------------------------------------- a damaged last checkpoint


def spoil(path, how):
    if how == 'gone':
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000] if how == 'cut' else b'')


@pytest.mark.parametrize('how', ['cut', 'empty', 'gone'])
def test_an_older_whole_checkpoint_is_taken_and_said(toy_config, train, tmp_path, how):
    toy_config.train_cfg.max_iters = 6
    toy_config.val_cfg = toy_config.val_dataloader = toy_config.val_evaluator = None
    whole, recorder = train(toy_config, crash_at=None)
    spoil(tmp_path / 'run' / 'iter_6.pth', how)
    toy_config.log_level = 'WARNING'
    again, repeated = train(toy_config, resume=True)
    assert repeated.losses == {step: recorder.losses[step] for step in (3, 4, 5)}
    log = ''.join(file.read_text() for file in (tmp_path / 'run').glob('*/*.log'))
    if how != 'gone':
        assert 'the last checkpoint cannot be read' in log and 'continuing from' in log and 'iter_3.pth' in log
    for file in (tmp_path / 'run').glob('iter_*.pth'):
        spoil(file, 'cut')
    with pytest.raises(CheckpointError, match='no whole checkpoint to resume: .*iter_6.pth.*iter_3.pth'):
        train(toy_config, resume=True)


def test_a_damaged_checkpoint_that_was_asked_for_names_another(toy_config, train, tmp_path):
    toy_config.train_cfg.max_iters = 6
    train(toy_config)
    spoil(tmp_path / 'run' / 'iter_6.pth', 'cut')
    with pytest.raises(CheckpointError, match='iter_6.pth.*iter_3.pth is there too'):
        train(toy_config, resume=True, load_from=str(tmp_path / 'run' / 'iter_6.pth'))


def test_another_input_size_cannot_be_resumed(toy_config, train):
    """The position embedding was resized, its running means were not: Adam ended in a traceback."""
    toy_config.train_cfg.max_iters = 3
    train(toy_config)
    toy_config.model.backbone.img_size = (96, 64)
    with pytest.raises(
        UserError, match=r'another input_size \(backbone.pos_embed is of 4x3 .* config 6x4\); .* load_from'
    ):
        train(toy_config, resume=True)


HOLD = """import fcntl, os, sys, time
file = open(sys.argv[1], 'a+')
fcntl.lockf(file, fcntl.LOCK_EX)
file.write('17 of there')
file.flush()
worker = os.fork()
if worker:
    print(worker, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.name != 'posix', reason='needs POSIX locks')
def test_two_trainings_do_not_share_a_work_directory(toy_config, train, tmp_path):
    """Each wrote over the other's checkpoints. A killed one leaves no lock, even while its workers live."""
    toy_config.train_cfg.max_iters = 1
    (tmp_path / 'run').mkdir()
    other = subprocess.Popen([sys.executable, '-c', HOLD, tmp_path / 'run/.in_use'], stdout=subprocess.PIPE, text=True)
    worker = int(other.stdout.readline())
    try:
        with pytest.raises(UserError, match='run: process 17 of there is at work there; give another folder') as error:
            train(toy_config)
        assert '\n' not in str(error.value) and not list(tmp_path.glob('run/*.pth'))
        other.kill()
        other.wait(20)
        train(toy_config)
        train(toy_config, resume=True)
        assert not (tmp_path / 'run/.in_use').exists()
    finally:
        other.kill()
        os.kill(worker, signal.SIGKILL)


COURSES = {
    'longer': dict(train_cfg=dict(max_iters=18, val_interval=6)),
    'shorter': dict(train_cfg=dict(max_iters=9, val_interval=3)),
    'learning rate': dict(optim_wrapper=dict(optimizer=dict(lr=3e-3))),
    'another schedule': dict(param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=False)]),
    'one more schedule': dict(
        param_scheduler=[
            dict(type='LinearLR', start_factor=1e-1, by_epoch=False, end=3),
            dict(type='PolyLR', by_epoch=False, begin=3, end=8),
            dict(type='ConstantLR', factor=0.5, by_epoch=False, begin=8, end=10),
        ]
    ),
}


def learning_rates(config, train, name, **options):
    """The learning rates of all iterations, by the number of the iteration."""
    runner, _ = train(config, name, **options)
    history = runner.message_hub.get_scalar('train/lr').data[0]
    return dict(zip(range(runner.max_iters - len(history), runner.max_iters), history, strict=True)), runner


@pytest.mark.parametrize('name', COURSES)
def test_a_continued_run_takes_the_course_that_the_config_has_now(toy_config, train, name, caplog):
    train(toy_config, 'run', crash_at=8)
    toy_config.merge_from_dict(COURSES[name])
    expected, _ = learning_rates(toy_config, train, 'whole')
    actual, runner = learning_rates(toy_config, train, 'run', resume=True)
    steps = range(6, runner.max_iters)
    assert [actual[i] for i in steps] == pytest.approx([expected[i] for i in steps])


@pytest.mark.parametrize('before', ['schedules', 'no schedules'])
def test_a_rate_without_schedules_is_that_of_the_config(toy_config, train, before):
    schedules, toy_config.param_scheduler = toy_config.param_scheduler, []
    if before == 'schedules':
        toy_config.param_scheduler = schedules
    train(toy_config, 'run', crash_at=8)
    toy_config.merge_from_dict(dict(param_scheduler=[], optim_wrapper=dict(optimizer=dict(lr=3e-3))))
    rates, _ = learning_rates(toy_config, train, 'run', resume=True)
    assert [rates[i] for i in range(6, 12)] == pytest.approx([3e-3] * 6)


def test_the_same_course_is_no_other_and_says_nothing_of_keys(toy_config, train, tmp_path):
    toy_config.param_scheduler = [dict(type='OneCycleLR', eta_max=1e-3, total_steps=12, by_epoch=False)]
    train(toy_config, 'run', crash_at=8)
    expected, _ = learning_rates(toy_config, train, 'whole')
    actual, _ = learning_rates(toy_config, train, 'run', resume=True)
    assert [actual[i] for i in range(6, 12)] == [expected[i] for i in range(6, 12)]
    log = max((tmp_path / 'run').rglob('*.log')).read_text()
    assert 'not those of the checkpoint' not in log and 'not defined in message_hub' not in log


def test_other_numbers_of_the_optimiser_are_those_of_the_config(toy_config, train):
    toy_config.optim_wrapper.optimizer.update(weight_decay=0.1)
    train(toy_config, 'run', crash_at=8)
    toy_config.optim_wrapper.optimizer.update(weight_decay=0.3, betas=(0.8, 0.9))
    runner, _ = train(toy_config, 'run', resume=True)
    groups = runner.optim_wrapper.param_groups
    assert {group['weight_decay'] for group in groups} == {0.0, 0.3} and {group['betas'] for group in groups} == {
        (0.8, 0.9)
    }
