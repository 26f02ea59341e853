# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Training runs of the toy config in other processes, and what they logged."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOY_CONFIG = Path(__file__).with_name('toy_config.py')
sys.path.insert(0, str(TOY_CONFIG.parent))


def read_losses(work_dir):
    """Step -> loss, of all runs that logged into a work directory; later ones win."""
    losses = {}
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            item = json.loads(line)
            if 'loss' in item:
                losses[item['step']] = item['loss']
    return losses


def environment():
    """For subprocesses: our code and the toy data importable, one thread."""
    path = os.pathsep.join([str(ROOT), str(TOY_CONFIG.parent), os.environ.get('PYTHONPATH', '')])
    return dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1', PYTHON=sys.executable)


def start(*command):
    """Start a command of the toolkit from its root."""
    return subprocess.Popen(
        [str(c) for c in command],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
