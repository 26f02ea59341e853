# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Several processes, killed and asked to stop, for real."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from toy_runs import TOY_CONFIG, children, read_losses, start
from warm import LIMIT, train_together

from sapiens.engine import load_config, load_model_weights, read_checkpoint
from sapiens.engine.distributed import init_distributed
from sapiens.errors import UserError
from sapiens.registry import MODELS

pytestmark = pytest.mark.skipif(not hasattr(signal, 'SIGUSR1'), reason='needs POSIX signals')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Losses of an uninterrupted run in one process, step -> loss."""
    work_dir = tmp_path_factory.mktemp('whole')
    train_together(1, TOY_CONFIG, '--work-dir', work_dir)
    losses = read_losses(work_dir)
    assert sorted(losses) == list(range(1, 13))
    return losses


def crashing(tmp_path, **kwargs):
    """The toy config with a hook that fails, or waits to be killed."""
    file = tmp_path / 'crashing.py'
    hooks = [dict(type='PreemptionHook'), dict(type='CrashHook', **kwargs)]
    file.write_text(f'_base_ = [{str(TOY_CONFIG)!r}]\ncustom_hooks = {hooks!r}\n')
    return file


def last_run(work_dir):
    """Losses of the last run alone."""
    file = max(Path(work_dir).glob('*/vis_data/scalars.json'))
    return {i['step']: i['loss'] for i in map(json.loads, file.read_text().splitlines()) if 'loss' in i}


def wait_for(process, condition, timeout=LIMIT):
    """Wait until a condition holds while a process lives."""
    end = time.monotonic() + timeout
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(process.communicate()[0][-3000:])
        time.sleep(0.05)


def test_two_processes_give_the_losses_of_one_even_after_kill_9(tmp_path, whole):
    options = ['--global-batch', 4, '--work-dir', tmp_path]
    process = start('tools/dist_train.sh', crashing(tmp_path, at=8, wait=True), 2, *options)
    wait_for(process, lambda: all((tmp_path / f'paused{rank}').exists() for rank in range(2)))
    workers = children(process.pid)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    assert process.wait(timeout=LIMIT) == 128 + signal.SIGKILL
    assert sorted(read_losses(tmp_path)) == list(range(1, 9))

    train_together(2, TOY_CONFIG, *options, '--resume')
    assert min(last_run(tmp_path)) == 7  # the last checkpoint was at 6
    assert read_losses(tmp_path) == pytest.approx(whole, rel=1e-4)


def test_a_sharded_model_saves_and_resumes(tmp_path, whole):
    """Each process writes its part of weights, optimiser and moving average; one process continues from them."""
    hooks = [dict(type='PreemptionHook'), dict(type='EMAHook', momentum=0.5), dict(type='CrashHook', at=8)]
    config, tmp_path = tmp_path / 'parts.py', tmp_path / 'run'
    text = f'_base_ = [{str(TOY_CONFIG)!r}]\ndefault_hooks = dict(checkpoint=dict(sharded=True))\ncustom_hooks = '
    config.write_text(text + repr(hooks))
    options = ['--fsdp', '--global-batch', 4, '--work-dir', tmp_path]
    output = train_together(2, config, *options, code=1)
    assert 'RuntimeError: crash' in output
    config.write_text(text + repr(hooks[:2]))
    train_together(2, config, *options, '--resume')
    assert min(last_run(tmp_path)) == 7
    assert read_losses(tmp_path) == pytest.approx(whole, rel=1e-4)
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_12.dcp')
    assert not list(tmp_path.glob('*.part')), 'nothing half-written'

    resumed = train_together(1, config, '--work-dir', tmp_path / 'one', '--resume', tmp_path / 'iter_9.dcp')
    assert 'iteration 9' in resumed
    assert last_run(tmp_path / 'one') == pytest.approx({i: whole[i] for i in (10, 11, 12)}, rel=1e-4)

    # What one process wrote, whole tensors and the optimiser in the common layout, is what the parts come to.
    checkpoint = torch.load(tmp_path / 'one' / 'iter_12.pth', weights_only=True)
    weights, meta = read_checkpoint(tmp_path / 'iter_12.dcp')
    assert meta['iter'] == 12 and meta['sapiens']['patch_padding'] == 0
    for name, value in checkpoint['state_dict'].items():
        # A bias before an InstanceNorm has no gradient; Adam makes steps of its rounding errors.
        no_gradient = name.endswith('conv_layers.0.bias')
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=2e-5 if no_gradient else 1e-6)
        assert checkpoint['ema_state_dict'][f'module.{name}'].shape == value.shape
    model = MODELS.build(load_config(TOY_CONFIG).model)
    assert load_model_weights(model, weights).complete
    shapes = dict(model.named_parameters())
    for index, name in enumerate(checkpoint['optimizer_names']):
        assert checkpoint['optimizer']['state'][index]['exp_avg'].shape == shapes[name].shape


@pytest.mark.parametrize('options', [('--fsdp', '--precision', 'bf16'), ()], ids=['sharded bf16', 'moving average'])
def test_one_process_reads_for_all(tmp_path, options):
    """Every process read and held the whole checkpoint, and made the whole model."""
    hooks = [dict(type='PreemptionHook'), dict(type='OneReaderHook')]
    hooks += [] if options else [dict(type='EMAHook', momentum=0.5)]
    config = tmp_path / 'one_reader.py'
    text = f'_base_ = [{str(TOY_CONFIG)!r}]\ncustom_hooks = {hooks!r}\nrandomness = dict(seed=1)\n'
    config.write_text(
        text + 'train_cfg = dict(max_iters=4, val_interval=8)\ndefault_hooks = dict(checkpoint=dict(interval=2))'
    )
    start = tmp_path / 'start'
    train_together(1, config, '--work-dir', start, '--cfg-options', 'train_cfg.max_iters=1')
    common = ['--global-batch', 4, '--work-dir']
    load = ['--cfg-options', f'load_from={start}/iter_1.pth']
    output = train_together(2, config, *options, *common, tmp_path / 'a', *load)
    assert 'backbone: ' in output and ' loaded' in output
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'iter_2.pth').write_bytes((tmp_path / 'a' / 'iter_2.pth').read_bytes())
    train_together(2, config, *options, *common, tmp_path / 'b', '--resume')
    one, other = (torch.load(tmp_path / n / 'iter_4.pth', weights_only=True) for n in 'ab')
    for part in ('state_dict', 'ema_state_dict'):
        assert (part in one) == (part in other)
        for name, value in one.get(part, {}).items():
            torch.testing.assert_close(other[part][name], value, rtol=1e-4, atol=1e-6)
    assert ('ema_state_dict' in one) == (not options)
    if options:
        return
    # What the config has now holds in all processes, as it does in one.
    (tmp_path / 'c').mkdir()
    (tmp_path / 'c' / 'iter_2.pth').write_bytes((tmp_path / 'a' / 'iter_2.pth').read_bytes())
    changes = ['optim_wrapper.optimizer.lr=3e-3', 'optim_wrapper.optimizer.weight_decay=0.3']
    output = train_together(2, config, *options, *common, tmp_path / 'c', '--resume', '--cfg-options', *changes)
    assert 'its schedules are not those of the checkpoint' in output
    groups = torch.load(tmp_path / 'c' / 'iter_4.pth', weights_only=True)['optimizer']['param_groups']
    assert {group['weight_decay'] for group in groups} == {0.0, 0.3}
    assert max(group['initial_lr'] for group in groups) == pytest.approx(3e-3)


@pytest.mark.parametrize(('number', 'processes'), [(signal.SIGTERM, 2), (signal.SIGUSR1, 1)])
def test_asked_to_stop_it_saves_and_leaves_with_code_75(tmp_path, number, processes):
    changes = ['train_cfg.max_iters=4000', 'default_hooks.checkpoint.interval=-1', 'train_dataloader.num_workers=1']
    options = ['--work-dir', tmp_path, '--cfg-options', *changes]
    process = start('tools/dist_train.sh', TOY_CONFIG, processes, *options)
    wait_for(process, lambda: bool(list(tmp_path.glob('*/vis_data/scalars.json'))))
    group = [process.pid]
    for pid in group:
        group += children(pid)
    assert len(group) > processes, 'the worker of the loader too, as schedulers do'
    for pid in group:
        os.kill(pid, number)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 75, output[-3000:]
    assert 'continue with --resume' in output and 'Traceback' not in output
    pointer = Path((tmp_path / 'last_checkpoint').read_text())
    done = int(pointer.stem.split('_')[1])
    assert torch.load(pointer, weights_only=True)['meta']['iter'] == done
    # What was logged before is what was saved: no step is lost or repeated.
    assert max(read_losses(tmp_path)) == done


def test_a_torchrun_whose_restarts_would_wait_for_the_dead_is_refused(monkeypatch):
    environment = dict(RANK=0, WORLD_SIZE=2, LOCAL_RANK=0, MASTER_ADDR='localhost', MASTER_PORT=1)
    for name, value in (environment | dict(TORCHELASTIC_USE_AGENT_STORE=True, TORCHELASTIC_MAX_RESTARTS=3)).items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UserError, match='TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1'):
        init_distributed('pytorch')
