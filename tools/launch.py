# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Start a script in several processes on this machine, and be as mortal as they are.

Usage: python tools/launch.py NUMBER SCRIPT [arguments of the script]
Several machines: set NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT on each.

It sets the environment that torchrun sets. Unlike torchrun it passes SIGTERM and SIGUSR1 on without killing the
processes afterwards, so that they can save, and it leaves with their exit code (75: stopped on request, continue
with --resume), which a job scheduler can act on.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

GRACE = 10.0  # seconds that processes get to end after one of them has failed


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def start(count: int, command: list[str]) -> list[subprocess.Popen]:
    """Start ``count`` processes of this machine."""
    nodes, node = int(os.environ.get('NNODES', 1)), int(os.environ.get('NODE_RANK', 0))
    shared = dict(os.environ, WORLD_SIZE=str(nodes * count), LOCAL_WORLD_SIZE=str(count))
    shared.setdefault('MASTER_ADDR', '127.0.0.1')
    if 'MASTER_PORT' not in shared:
        shared['MASTER_PORT'] = str(free_port()) if nodes == 1 else '29500'
    if count > 1:
        # Each process would otherwise start a thread per core.
        shared.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // count)))
    return [
        subprocess.Popen(
            [sys.executable, *command], env={**shared, 'RANK': str(node * count + i), 'LOCAL_RANK': str(i)}
        )
        for i in range(count)
    ]


def wait(processes: list[subprocess.Popen]) -> int:
    """Wait for all; when one fails end the others. Returns the first failure's code, or 75 when stopped on request."""
    failure, deadline = 0, None
    while any(p.poll() is None for p in processes):
        codes = [p.poll() for p in processes]
        bad = [c for c in codes if c not in (None, 0, os.EX_TEMPFAIL)]
        if bad and deadline is None:
            failure = bad[0]
            deadline = time.monotonic() + GRACE
            for process in processes:
                process.terminate()  # nothing, of one that has ended
        if deadline is not None and time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(0.1)
    codes = [p.returncode for p in processes]
    failure = failure or next((c for c in codes if c not in (0, os.EX_TEMPFAIL)), 0)
    if failure:
        return 128 - failure if failure < 0 else failure
    return os.EX_TEMPFAIL if os.EX_TEMPFAIL in codes else 0


def main() -> int:
    """Start, pass signals on, wait."""
    if len(sys.argv) < 3 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 1:
        print(__doc__, file=sys.stderr)
        return 2
    processes = start(int(sys.argv[1]), sys.argv[2:])

    def pass_on(number: int, frame: object) -> None:
        for process in processes:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, pass_on)
    return wait(processes)


if __name__ == '__main__':
    sys.exit(main())
