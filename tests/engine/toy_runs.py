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


def running():
    """Processes of this machine: id -> the parent's and the command line. Slim machines have no ``ps``."""
    found = {}
    if not Path('/proc/self/stat').exists():
        listed = subprocess.run(['ps', '-eo', 'pid=,ppid=,args='], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            pid, parent, command = line.split(None, 2)
            found[int(pid)] = int(parent), command
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            parent = (folder / 'stat').read_text().rpartition(')')[2].split()[1]
            command = (folder / 'cmdline').read_text().replace('\0', ' ')
        except OSError:  # it has ended
            continue
        found[int(folder.name)] = int(parent), command
    return found


def children(pid):
    """Ids of the children of a process."""
    return sorted(child for child, (parent, _) in running().items() if parent == pid)
