# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Save and leave in good order when the scheduler wants the machine back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook

from ...registry import HOOKS
from ...utils.numbers import check_number
from .checkpoint import SafeCheckpointHook, at_update

# sysexits.h EX_TEMPFAIL, "try again later": no signal (128 + n), no Python or shell error uses it.
EXIT_REQUEUE = os.EX_TEMPFAIL if hasattr(os, 'EX_TEMPFAIL') else 75


class Preempted(SystemExit):
    """Training was asked to stop, has saved, and leaves the process with exit code 75 (`EXIT_REQUEUE`)."""

    def __init__(self) -> None:
        super().__init__(EXIT_REQUEUE)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM or SIGUSR1, save after the current step and exit with code 75, on which a job can be requeued.

    All processes stop after the same step, whichever of them got the signal. A signal during validation takes effect
    after the next training step. ``tools/slurm_train.sh`` asks Slurm for the signal and requeues the job on the code.

    Args:
        signals: Name or names of the signals to obey.
        interval: Processes ask one another every so many iterations.
    """

    priority = 'LOWEST'
    asked = False
    """``PreemptionHook.asked = True`` asks this process to stop; from a thread, too, where there are no signals."""

    def __init__(self, signals: str | Sequence[str] = ('SIGTERM', 'SIGUSR1'), interval: int = 1) -> None:
        names = (signals,) if isinstance(signals, str) else signals
        self.signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
        check_number('PreemptionHook.interval', interval, 1, whole=True)
        self.interval = interval
        self._before: dict[int, Any] = {}

    def before_train(self, runner: Any) -> None:
        """Listen."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in self.signals}

    @staticmethod
    def _ask(*_: Any) -> None:
        # Takes no lock, as threading.Event does: launchers pass on what schedulers send to all, and a second signal
        # that interrupts this would wait for the first one's lock for ever.
        PreemptionHook.asked = True

    def after_train(self, runner: Any) -> None:
        """Let the signals mean what they meant before; again does nothing."""
        PreemptionHook.asked = False
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save and leave if any process was asked to."""
        if not self.every_n_train_iters(runner, self.interval) or not at_update(runner) or not self._agreed():
            return
        runner.logger.warning('Asked to stop: saving')
        checkpoints = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
        if checkpoints:
            path = checkpoints[0].save(runner, runner.epoch, runner.iter + 1, f'iter_{runner.iter + 1}.pth')
            checkpoints[0].settle(runner, must=True)
            runner.logger.warning(f'Saved {path}; continue with --resume. Exit code {EXIT_REQUEUE}')
        PreemptionHook.asked = False
        raise Preempted

    def _agreed(self) -> bool:
        if get_world_size() == 1:
            return self.asked
        flag = torch.tensor(float(self.asked), device=get_device())
        all_reduce(flag)
        return bool(flag > 0)
