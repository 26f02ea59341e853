# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Runs of tools/train.py in processes of their own that need not import anything first.

They are forked from one process that has the toolkit imported and has done nothing else. Tests of the launcher and of
signals start real commands instead (`conftest.start`).
"""

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 1800  # seconds; only what hangs gets there, on however slow a machine
SERVER = multiprocessing.get_context('forkserver') if 'forkserver' in multiprocessing.get_all_start_methods() else None
if SERVER:
    SERVER.set_forkserver_preload(['sapiens.engine.cli', 'sapiens.models', 'sapiens.datasets', 'sapiens.evaluation'])


def _train(arguments, environment, out):
    os.environ.update(environment)
    with open(out, 'ab') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ['tools/train.py', *arguments]
    runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')


def train_together(count, *arguments, code=0):
    """Train in that many processes; returns what they printed. All must end with the exit code ``code``."""
    arguments = [str(argument) for argument in arguments]
    shared = dict(OMP_NUM_THREADS='1')
    if count > 1:
        arguments += ['--launcher', 'pytorch']
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            shared |= dict(WORLD_SIZE=str(count), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(probe.getsockname()[1]))
    with tempfile.NamedTemporaryFile() as out:
        processes = []
        for rank in range(count):
            own = {**shared, 'RANK': str(rank), 'LOCAL_RANK': str(rank)} if count > 1 else shared
            processes.append(SERVER.Process(target=_train, args=(arguments, own, out.name)))
            processes[-1].start()
        for process in processes:
            process.join(LIMIT)
        output = Path(out.name).read_text()
    assert [process.exitcode for process in processes] == [code] * count, output[-3000:]
    return output
