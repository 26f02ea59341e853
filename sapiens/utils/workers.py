# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Processes that read for another one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable


def start_worker(then: Callable[[int], None] | None, worker: int) -> None:
    """Begin of a loader's worker: requests to stop are left to the process it reads for, which may want to save.

    Schedulers and ``timeout`` send them to every process of a job; a worker that obeyed would end the run before.

    Args:
        then: What else to do at the beginning.
    """
    if hasattr(signal, 'sigwaitinfo'):
        asked = {signal.SIGTERM, signal.SIGUSR1}
        signal.pthread_sigmask(signal.SIG_BLOCK, asked)
        threading.Thread(target=_obey_parent, args=(asked, os.getppid()), daemon=True).start()
    if then is not None:
        then(worker)


def _obey_parent(asked: set[signal.Signals], parent: int) -> None:
    while signal.sigwaitinfo(asked).si_pid != parent:
        pass
    os._exit(0)
