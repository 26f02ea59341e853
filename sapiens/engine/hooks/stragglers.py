# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Which process makes the others wait, by its data or by its computing."""

from __future__ import annotations

import socket
import time
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_gather, all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook

from ...registry import HOOKS
from ...utils.numbers import check_number


@HOOKS.register_module()
class StragglerHook(Hook):
    """Log how much slower the slowest process is than the median one, in loading data and in computing.

    Processes end a step together, so its length says nothing. Compared are the time until a batch is there and the
    encoder's forward pass, where nobody waits for others (of a sharded model they do, for its layers: there a slow
    GPU shows less). ``slowest_data`` and ``slowest_compute`` in the log are the ratios, over ``interval`` iterations;
    a large one is a warning with process and machine. It costs two clocks an iteration (events, on a GPU) and an
    exchange of three numbers every ``interval``.

    Args:
        interval: Iterations from report to report.
        warn: Ratio above which the process is named ...
        floor: ... if it loses as much to the median, as a share of the step.
    """

    priority = 'LOWEST'  # what other hooks do is no waiting for data

    def __init__(self, interval: int = 100, warn: float = 1.5, floor: float = 0.05) -> None:
        check_number('StragglerHook.interval', interval, 1, whole=True)
        self.interval, self.warn, self.floor = interval, warn, floor
        self._spans: list[list[Any]] = []
        self._data = 0.0

    def before_train(self, runner: Any) -> None:
        """Learn who is where, and put clocks around the encoder."""
        self.active = get_world_size() > 1 and hasattr(runner.bare_model, 'backbone')
        if self.active:
            self._hosts = all_gather_object(socket.gethostname())
            encoder = runner.bare_model.backbone
            self._handles = [encoder.register_forward_pre_hook(self._start), encoder.register_forward_hook(self._stop)]

    def after_train(self, runner: Any) -> None:
        """Take the clocks away."""
        for handle in self._handles if self.active else ():
            handle.remove()

    def _start(self, encoder: Any, *_: Any) -> None:
        if encoder.training:
            self._spans.append([_now()])

    def _stop(self, encoder: Any, *_: Any) -> None:
        if encoder.training:
            self._spans[-1].append(_now())

    def before_train_epoch(self, runner: Any) -> None:
        """Start the clock."""
        self._ended = self._reported = time.perf_counter()

    def after_val(self, runner: Any) -> None:
        """Validation is no waiting for data."""
        self._ended = time.perf_counter()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """The batch is there."""
        self._data += time.perf_counter() - self._ended

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Compare, every so often; the step's losses have been fetched, so its events are over."""
        now = time.perf_counter()
        if self.active and self.every_n_train_iters(runner, self.interval):
            compute = sum(b - a if isinstance(a, float) else a.elapsed_time(b) / 1000 for a, b in self._spans)
            mine = torch.tensor([self._data, compute, now - self._reported], device=get_device())
            self.report(runner, torch.stack(all_gather(mine)).cpu())
            self._spans, self._data, self._reported = [], 0.0, now
        self._ended = time.perf_counter()

    def report(self, runner: Any, seconds: torch.Tensor) -> None:
        """Log the ratios.

        Args:
            seconds: ``(W, 3)`` of each process: waited for data, in the encoder, in all.
        """
        for column, name in enumerate(('data', 'compute')):
            values = seconds[:, column]
            slowest, median = int(values.argmax()), float(values.quantile(0.5))  # of two, their mean
            ratio = float(values[slowest]) / max(median, 1e-9)
            runner.message_hub.update_scalar(f'train/slowest_{name}', ratio)
            lost = (float(values[slowest]) - median) / max(float(seconds[slowest, 2]), 1e-9)
            if ratio > self.warn and lost > self.floor and get_rank() == 0:
                what = 'waits for its data' if name == 'data' else 'computes'
                runner.logger.warning(
                    f'process {slowest} on {self._hosts[slowest]} {what} {ratio:.1f} times as long as the median '
                    f'process; that is {lost:.0%} of every step of all'
                )


def _now() -> Any:
    """A moment, on a GPU without waiting for it."""
    if get_device() != 'cuda':
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
