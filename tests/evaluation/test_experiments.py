# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The experiments give every row the same schedule, continue where they were, and draw table and plot."""

import importlib
import json
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from in_process import TOOLS, run_tool

from sapiens.engine import load_config

ROOT = TOOLS.parent
MAE, NORMAL = (str(ROOT / f'configs/{name}.py') for name in ('pretrain/sapiens_tiny_mae', 'normal/sapiens_tiny_normal'))


@pytest.fixture
def commands(monkeypatch):
    """The tools are replaced by ones that only note their command and leave what the real ones leave."""
    monkeypatch.syspath_prepend(str(TOOLS / 'experiments'))
    runs = importlib.import_module('runs')
    noted = []

    def run(command, stdout, stderr):
        name, arguments = Path(command[1]).stem, command[2:]
        noted.append([name, *arguments])
        folder = Path(arguments[arguments.index('--work-dir') + 1])
        if 'broken_run' in str(folder):
            stdout.write(b'error: the data are not there\n')
            return types.SimpleNamespace(returncode=1)
        if name == 'train':
            (folder / 'iter_9.pth').touch()
            (folder / 'last_checkpoint').write_text('iter_9.pth')
        else:
            # The figure depends on the encoder that was loaded, as it would.
            value = {'random': 30.0, 'general': 20.0}.get(folder.parts[-3], 10.0)
            (folder / 'report.json').write_text(
                json.dumps({'mean': value, 'within_30': 1 / value, 'metric': 'NormalMetric'})
            )
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(runs.subprocess, 'run', run)
    return noted


def start(name, *arguments):
    return run_tool(f'experiments/{name}.py', *arguments)


def images(folder, count):
    folder.mkdir()
    for i in range(count):
        cv2.imwrite(str(folder / f'{i}.png'), np.zeros((4, 4, 3), np.uint8))
    return folder


def schedule(command):
    return {option for option in command if option.startswith(('train_cfg.', 'param_scheduler'))}


def length(iterations, warm_up):
    return {f'train_cfg.max_iters={iterations}', f'train_cfg.val_interval={iterations}',
            f'param_scheduler.0.end={warm_up}', f'param_scheduler.1.begin={warm_up}'}  # fmt: skip


def test_pretraining_source(tmp_path, commands):
    sources = [f'{name}={images(tmp_path / name, 2)}' for name in ('general', 'human')]
    arguments = ['--pretrain', MAE, '--finetune', NORMAL, '--source', *sources, '--pretrain-iters', 7,
                 '--finetune-iters', 5, '--out', tmp_path / 'out']  # fmt: skip
    done = start('pretraining_source', *arguments)
    assert done.code == 0, done.error
    pretrained = [c for c in commands if c[1] == MAE]
    finetuned = [c for c in commands if c[:2] == ['train', NORMAL]]
    assert len(pretrained) == 2 and len(finetuned) == 3 and sum(c[0] == 'test' for c in commands) == 3
    assert all(schedule(c) == length(7, 1) for c in pretrained)
    assert all(schedule(c) == length(5, 1) for c in finetuned)
    loaded = [[o for o in c if o.startswith('load_from=')] for c in finetuned]
    assert loaded[0] == [] and loaded[1] != loaded[2] and 'general/pretrain/iter_9.pth' in loaded[1][0]
    table = (tmp_path / 'out' / 'table.md').read_text()
    for row in ('| random initialisation | 30 | 0.03333 |', '| general | 20 | 0.05 |', '| human | 10 | 0.1 |'):
        assert row in table
    assert 'sapiens_tiny_normal mean (less is better)' in table and 'the same for every row' in table
    assert cv2.imread(str(tmp_path / 'out' / 'plot.png')) is not None
    # Once more: nothing is run again; with another schedule it is refused rather than mixed.
    before = len(commands)
    assert start('pretraining_source', *arguments).code == 0 and len(commands) == before
    arguments[arguments.index(5)] = 6
    assert 'holds a finished run of another command' in start('pretraining_source', *arguments).error


def test_data_size(tmp_path, commands):
    folder = images(tmp_path / 'photos', 9)
    arguments = ['--pretrain', MAE, '--finetune', NORMAL, '--images', folder, '--sizes', 2, 4, 'all',
                 '--seeds', 0, 1, '--metrics', 'mean', '--out', tmp_path / 'out']  # fmt: skip
    done = start('data_size', *arguments)
    assert done.code == 0, done.error
    lists = [set(p.read_text().split()) for p in sorted((tmp_path / 'out' / 'lists').glob('*.txt'))]
    assert [len(names) for names in lists] == [2, 4, 9]
    assert lists[0] < lists[1] < lists[2] == {f'{i}.png' for i in range(9)}
    pretrained = [c for c in commands if c[1] == MAE]
    used = [next(o for o in c if 'ann_file=' in o).split('/')[-1] for c in pretrained]
    assert used == ['000000002.txt', '000000004.txt', '000000009.txt']
    assert sum(c[0] == 'test' for c in commands) == 6
    assert '| 9 | 10 |' in (tmp_path / 'out' / 'table.md').read_text()
    assert cv2.imread(str(tmp_path / 'out' / 'plot.png')) is not None
    arguments[arguments.index(4)] = 40
    assert '--sizes 40: give numbers from 1 to 9' in start('data_size', *arguments).error


def test_a_warm_up_takes_a_tenth_of_a_short_run_at_most(commands):
    """The config's 2,000 iterations went on beyond the end, at next to no learning rate: every row was the same."""
    schedule_options = importlib.import_module('runs').schedule_options
    for iterations, warm_up in ((400, 40), (20_000, None)):
        options = dict(o.split('=') for o in schedule_options(MAE, iterations, []))
        config = load_config(MAE, {key: int(value) for key, value in options.items()})
        first, second = config.param_scheduler
        assert first.end == second.begin == (warm_up or 2000) and config.train_cfg.max_iters == iterations
    assert schedule_options(MAE, 400, ['param_scheduler=None'])[-1] == 'param_scheduler=None'
    assert not schedule(schedule_options(MAE, None, []))


def test_failures_are_one_line(tmp_path, commands):
    base = ['--pretrain', MAE, '--finetune', NORMAL]
    done = start('pretraining_source', *base, '--source', 'a=nowhere', '--out', tmp_path / 'o')
    assert done.code == 1 and 'write NAME=FOLDER with a folder that exists' in done.error
    folder = images(tmp_path / 'a', 1)
    done = start('pretraining_source', *base, '--source', f'a={folder}', '--out', tmp_path / 'broken_run')
    assert done.code == 1 and done.error.count('\n') == 1
    assert 'train.py ended with code 1 (error: the data are not there); see' in done.error
    done = start('pretraining_source', *base, '--source', f'a={folder}', '--out', tmp_path / 'p', '--metrics', 'IoU')
    assert 'no task has these; there are mean, within_30' in done.error
