# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a long run on many processes meets: each fault is one line, and nothing that was saved is lost."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import sys
import time

import pytest
from test_processes import last_run, wait_for
from toy_runs import TOY_CONFIG, children, read_losses, running, start
from warm import LIMIT

from sapiens.engine import read_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, 'SIGUSR1'), reason='needs POSIX signals'),
]
needs_ray = pytest.mark.skipif(not importlib.util.find_spec('ray'), reason='needs ray[train]')


def run(*command, code=0):
    process = start(*command)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == code, output[-3000:]
    return output


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def config(tmp_path, *hooks, extra=''):
    """The toy config with sharded checkpoints at every second iteration, and further hooks."""
    file = tmp_path / 'faulty_run.py'
    custom = [dict(type='PreemptionHook'), dict(type='EMAHook', momentum=0.5), *hooks]
    file.write_text(
        f'_base_ = [{str(TOY_CONFIG)!r}]\n'
        'default_hooks = dict(checkpoint=dict(sharded=True, interval=2, max_keep_ckpts=9, save_best=None))\n'
        'train_cfg = dict(max_iters=8, val_interval=100)\n'
        f'custom_hooks = {custom!r}\n' + extra
    )
    return file


def start_ray(monkeypatch, file, folder):
    monkeypatch.setenv('RAY_worker_niceness', '0')  # of 15 by default: starved on a machine with other work
    options = ['--workers', 2, '--global-batch', 8, '--work-dir', folder]
    return start(sys.executable, 'tools/ray_train.py', file, *options)


def train(file, processes, folder, *options, code=0):
    command = ['tools/dist_train.sh', file, processes, '--fsdp', '--global-batch', 8, '--work-dir', folder]
    return run(*command, *options, code=code)


def test_saved_on_four_processes_it_goes_on_with_two_eight_and_in_two_groups(tmp_path):
    file, folder = config(tmp_path), tmp_path / 'four'
    train(file, 4, folder)
    whole = read_losses(folder)
    for name, processes in (('two', 2), ('eight', 8), ('groups', 4)):
        target = tmp_path / name
        target.mkdir()
        shutil.copytree(folder / 'iter_4.dcp', target / 'iter_4.dcp')
        kind = config(tmp_path, extra=f'fsdp = {"dict(replicas=2)" if name == "groups" else True}\n')
        run('tools/dist_train.sh', kind, processes, '--global-batch', 8, '--work-dir', target, '--resume')
        assert last_run(target) == pytest.approx({i: whole[i] for i in (5, 6, 7, 8)}, rel=1e-5), name
        one, other = (read_checkpoint(place / 'iter_8.dcp')[0] for place in (folder, target))
        assert max(float((one[k] - other[k]).abs().max()) for k in one) < 1e-4


def test_a_killed_process_ends_the_run_and_nothing_saved_is_lost(tmp_path):
    file, folder = config(tmp_path, dict(type='CrashHook', at=5, wait=True)), tmp_path / 'run'
    command = ['tools/dist_train.sh', file, 2, '--fsdp', '--global-batch', 8, '--work-dir', folder]
    process = start(*command)
    wait_for(process, lambda: all((folder / f'paused{rank}').exists() for rank in range(2)))
    os.kill(children(process.pid)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + signal.SIGKILL
    train(config(tmp_path), 2, folder, '--resume')
    assert min(last_run(folder)) in (3, 5), 'the one at 4 may not have been complete'
    assert sorted(read_losses(folder)) == list(range(1, 9))


def check_that_it_went_on(process, folder, tmp_path):
    """Losses are those of a run that nobody disturbed."""
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, output[-3000:]
    assert min(last_run(folder)) in (3, 5), 'the one at 4 may not have been complete'
    train(config(tmp_path), 1, tmp_path / 'whole')
    assert read_losses(folder) == pytest.approx(read_losses(tmp_path / 'whole'), rel=1e-4)


@pytest.mark.parametrize('nodes', [1, 2])
def test_torchrun_starts_again_after_a_death_even_with_a_machine_less(tmp_path, monkeypatch, nodes):
    """Whether a process of two dies or one of two machines."""
    monkeypatch.setenv('TORCH_DISABLE_SHARE_RDZV_TCP_STORE', '1')
    port = free_port()
    file, folder = config(tmp_path, dict(type='CrashHook', at=5, wait=True)), tmp_path / 'run'
    size = ['--standalone', '--nproc-per-node', 2]
    if nodes == 2:
        conf = 'is_host={},last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=3'
        size = ['--nnodes', '1:2', '--nproc-per-node', 1, '--rdzv-backend', 'c10d', '--rdzv-id', 'toy',
                '--rdzv-endpoint', f'127.0.0.1:{port}', '--rdzv-conf', conf]  # fmt: skip
    command = [sys.executable, '-m', 'torch.distributed.run', '--max-restarts', 3, *size, 'tools/train.py', file,
               '--launcher', 'pytorch', '--resume', '--global-batch', 8, '--work-dir', folder]  # fmt: skip
    agents = [start(*[str(c).format(n == 0) for c in command]) for n in range(nodes)]
    wait_for(agents[0], lambda: all((folder / f'paused{rank}').exists() for rank in range(2)))
    if nodes == 1:
        os.kill(children(agents[0].pid)[0], signal.SIGKILL)
    else:
        for process in (agents[1].pid, *children(agents[1].pid)):
            os.kill(process, signal.SIGKILL)
        (folder / 'go').touch()  # a healthy process meets the gap in its next exchange
    check_that_it_went_on(agents[0], folder, tmp_path)


@needs_ray
def test_ray_starts_again_what_died(tmp_path, monkeypatch):
    file, folder = config(tmp_path, dict(type='CrashHook', at=5, wait=True)), tmp_path / 'run'
    process = start_ray(monkeypatch, file, folder)
    wait_for(process, lambda: all((folder / f'paused{rank}').exists() for rank in range(2)))
    workers = [pid for pid, (_, command) in running().items() if 'ray::RayTrainWorker' in command]
    os.kill(max(workers), signal.SIGKILL)
    check_that_it_went_on(process, folder, tmp_path)


@needs_ray
def test_a_signal_to_the_command_makes_the_processes_of_ray_save(tmp_path, monkeypatch):
    file, folder = config(tmp_path, extra='train_cfg = dict(max_iters=5000, val_interval=9999)\n'), tmp_path / 'run'
    process = start_ray(monkeypatch, file, folder)
    wait_for(process, lambda: (folder / 'iter_4.dcp' / '.metadata').exists())
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == os.EX_TEMPFAIL, output[-3000:]
    assert 'error' not in output.splitlines()[-1]
    saved = max(int(path.stem[5:]) for path in folder.glob('iter_*.dcp'))
    assert max(read_losses(folder)) == saved < 5000
    two_more = config(tmp_path, extra=f'train_cfg = dict(max_iters={saved + 2}, val_interval=9999)\n')
    train(two_more, 2, folder, '--resume')
    assert sorted(last_run(folder)) == [saved + 1, saved + 2]


def test_a_process_that_hangs_ends_the_run_after_the_timeout(tmp_path):
    extra = 'env_cfg = dict(dist_cfg=dict(timeout=20))\n'
    file, folder = config(tmp_path, dict(type='HangHook', at=5), extra=extra), tmp_path / 'run'
    begin = time.monotonic()
    output = train(file, 2, folder, code=1)
    assert 'error: process 0 waited 20 s for the others' in output and 'Traceback' not in output, output[-2000:]
    assert time.monotonic() - begin < LIMIT
    train(config(tmp_path), 2, folder, '--resume')
    assert sorted(read_losses(folder)) == list(range(1, 9))


def test_a_slow_process_is_named_with_what_it_is_slow_at(tmp_path):
    file = config(tmp_path, dict(type='SlowHook'), dict(type='StragglerHook', interval=4))
    output = run('tools/dist_train.sh', file, 3, '--global-batch', 6, '--work-dir', tmp_path / 'run')
    told = re.findall(r'process (\d) on \S+ (computes|waits for its data) ([\d.]+) times', output)
    assert [found[:2] for found in told] == [('2', 'waits for its data'), ('1', 'computes')] * 2, output[-3000:]
    assert all(float(ratio) > 1.5 for _, _, ratio in told)
    assert 'slowest_data: ' in output and 'slowest_compute: ' in output


def test_a_full_disk_on_one_node_costs_a_checkpoint_not_the_run(tmp_path):
    file, folder = config(tmp_path, dict(type='FullDiskHook', steps=(4,))), tmp_path / 'run'
    output = train(file, 2, folder)
    line = next(line for line in output.splitlines() if 'not saved' in line)
    assert 'iter_4.dcp: not saved (process 1: ' in line and 'No space left on device' in line
    assert 'the last one is iter_2.dcp; training goes on' in line and 'Traceback' not in output
    assert sorted(p.name for p in folder.glob('iter_*')) == ['iter_2.dcp', 'iter_6.dcp', 'iter_8.dcp']

    # At the end there is no next time.
    file, folder = config(tmp_path, dict(type='FullDiskHook', steps=(8,))), tmp_path / 'end'
    output = train(file, 2, folder, code=1)
    assert 'error: ' in output and 'make room, then continue with --resume' in output and 'Traceback' not in output
    train(config(tmp_path), 2, folder, '--resume')
    assert last_run(folder).keys() == {7, 8} and not list(folder.glob('*.part'))


def test_a_corrupt_shard_is_told_once_and_training_goes_on(tmp_path):
    import sys

    sys.path.insert(0, str(TOY_CONFIG.parents[1] / 'datasets'))
    from test_streaming import damage, write_shards

    shards = write_shards(tmp_path / 'shards', [40] * 6)
    damage(shards / '002.tar', 'cut')
    file = tmp_path / 'mae.py'
    file.write_text(
        "_base_ = ['" + str(TOY_CONFIG.parents[2] / 'configs/pretrain/sapiens_tiny_mae.py') + "']\n"
        'input_size = (32, 32)\nfsdp = True\n'
        f"source = dict(type='ShardImageDataset', data_root={str(shards)!r})\n"
        'train_dataloader = dict(batch_size=4, num_workers=1, dataset=source)\n'
        'val_dataloader = None\nval_evaluator = None\nval_cfg = None\nparam_scheduler = None\n'
        'train_cfg = dict(max_iters=30)\ndefault_hooks = dict(checkpoint=dict(sharded=True, interval=10))\n'
    )
    output = run('tools/dist_train.sh', file, 2, '--work-dir', tmp_path / 'run')
    assert sum('002.tar: the shard is cut off' in line and 'skipped' in line for line in output.splitlines()) == 1
    assert re.search(r'1 of \d+ samples could not be read and were\s+replaced: .*002.tar: the shard is cut off', output)
    assert (tmp_path / 'run' / 'bad_samples.json').is_file() and (tmp_path / 'run' / 'iter_30.dcp').is_dir()
