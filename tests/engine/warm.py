# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Processes that need not import the toolkit first: whatever a test must run in one of its own.

They are forked from one process that has the toolkit imported and has done nothing else. Tests of the launcher and of
signals start real commands instead (`conftest.start`).
"""

import faulthandler
import multiprocessing
import os
import socket
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 900  # seconds; only what hangs gets there, on however slow a machine; less than the limit of a test
SERVER = multiprocessing.get_context('forkserver') if 'forkserver' in multiprocessing.get_all_start_methods() else None
if SERVER:
    SERVER.set_forkserver_preload(['sapiens.engine.cli', 'sapiens.models', 'sapiens.datasets', 'sapiens.evaluation'])


def _run(code, arguments, environment, cwd, out, err):
    for name in [name for name in os.environ if name.startswith(('HF_', 'SAPIENS'))]:
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        with open(path, 'ab') as file:
            os.dup2(file.fileno(), number)
    faulthandler.enable()  # what ends by a signal says where
    sys.argv = arguments
    exec(compile(code, arguments[0], 'exec'), {'__name__': '__main__', '__file__': arguments[0]})


def start_warm(code, out, err, *, arguments=('-c',), cwd=ROOT, **environment):
    """Start Python code in a process of its own, with variables beside those of the tests; it writes to two files."""
    process = SERVER.Process(target=_run, args=(code, list(arguments), environment, str(cwd), str(out), str(err)))
    process.start()
    return process


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
        script = ROOT / 'tools/train.py'
        processes = []
        for rank in range(count):
            own = {**shared, 'RANK': str(rank), 'LOCAL_RANK': str(rank)} if count > 1 else shared
            command = [str(script), *arguments]
            processes.append(start_warm(script.read_text(), out.name, out.name, arguments=command, **own))
        for process in processes:
            process.join(LIMIT)
        output = Path(out.name).read_text()
    codes = [process.exitcode for process in processes]
    assert codes == [code] * count, f'exit codes {codes}; the end of what they printed:\n{output[-6000:]}'
    return output
