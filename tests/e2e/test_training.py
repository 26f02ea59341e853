# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Whole runs as a user starts them: config -> checkpoint -> numbers and pictures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).parent))
from made_people import write_people

ROOT = Path(__file__).resolve().parents[2]


def train(config, work_dir, *options):
    """Run tools/train.py and return the logged rows: ``(training rows, last validation row)``."""
    command = [sys.executable, 'tools/train.py', f'tests/e2e/configs/{config}.py', '--work-dir', str(work_dir)]
    if options:
        command += ['--cfg-options', *options]
    # One thread: on a busy machine of few cores more threads wait for each other.
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1'}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    return [row for row in rows if 'loss' in row], next(row for row in reversed(rows) if 'loss' not in row)


def pictures(work_dir):
    return [cv2.imread(str(path)) for path in work_dir.glob('*/vis_data/vis_image/*.png')]


def test_pose133_learns_one_real_photo(tmp_path):
    """200 steps on COCO 785 put 95 % of its visible whole-body points within 5 % of the box."""
    _, result = train('pose_785', tmp_path)
    assert result['pose/PCK@0.05'] >= 0.95
    assert (tmp_path / 'iter_200.pth').is_file()
    assert pictures(tmp_path)[0] is not None


def test_mae_beats_the_mean_of_each_patch_on_real_photos(tmp_path):
    """With normalised targets, predicting each patch's mean costs 767/768."""
    rows, result = train('mae_photos', tmp_path)
    mean_of_patch = 767 / 768
    assert rows[-1]['loss'] < 0.9 * mean_of_patch
    assert result['mae/loss'] < 0.9 * mean_of_patch
    assert pictures(tmp_path)[0] is not None


def test_four_tasks_overfit_four_made_samples(tmp_path):
    """Every loss falls by more than 90 % and the predictions agree with the labels."""
    people = write_people(tmp_path / 'people', count=4)
    options = [f'{split}_dataloader.dataset.data_root={people}' for split in ('train', 'val')]
    rows, result = train('overfit_4tasks', tmp_path / 'run', *options)
    for name in ('pose.loss_kpt', 'seg.loss_ce', 'depth.loss_silog', 'normal.loss_l1', 'normal.loss_cosine'):
        assert rows[-1][name] < 0.1 * rows[0][name], name
    assert result['pose/PCK@0.05'] > 0.98
    assert result['seg/aAcc'] > 0.93
    assert result['depth/AbsRel'] < 0.01
    assert result['normal/mean'] < 6
    assert pictures(tmp_path / 'run')[0] is not None
