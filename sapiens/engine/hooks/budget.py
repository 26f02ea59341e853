# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Train for a given time instead of a given number of iterations."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook

from ...errors import UserError
from ...registry import HOOKS


@HOOKS.register_module()
class TimeBudgetHook(Hook):
    """Warm-up and cosine decay of the learning rate over minutes of training, or ``max_iters`` where that ends sooner.

    On a shared machine nobody knows how many iterations fit, yet a schedule that is cut off leaves a bad model. Use it
    with ``param_scheduler=None``. Time counts over interruptions (it is in the checkpoint); what is lost between the
    last checkpoint and a kill is trained again. Since the schedule follows the clock, two such runs differ.

    Args:
        warmup: Share of the training with a linearly growing learning rate.
        final: Factor on the learning rate at the end.
        interval: Iterations between two looks at the clock.

    Raises:
        UserError: A number that makes no sense.
    """

    priority = 'VERY_HIGH'

    def __init__(self, minutes: float, warmup: float = 0.02, final: float = 0.0, interval: int = 10) -> None:
        if not (minutes > 0 and 0 <= warmup < 1 and interval >= 1):
            raise UserError(f'TimeBudgetHook: minutes={minutes:g}, warmup={warmup:g}, interval={interval}: minutes are '
                            'above 0, warmup from 0 to below 1, interval at least 1')  # fmt: skip
        self.minutes, self.warmup, self.final, self.interval = minutes, warmup, final, interval
        self.spent = self.last = 0.0

    def before_train(self, runner: Any) -> None:
        """Go on with the time of the run that is resumed."""
        if 'minutes_spent' in runner.message_hub.runtime_info:
            self.spent = float(runner.message_hub.get_info('minutes_spent'))
        self.last = time.perf_counter()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the learning rate; all processes follow the clock of the first."""
        if runner.iter % self.interval == 0 or self.spent == 0:
            now = time.perf_counter()
            self.spent += (now - self.last) / 60
            self.last = now
            clock = torch.tensor([self.spent], dtype=torch.float64)
            broadcast(clock)
            self.spent = float(clock)
            runner.message_hub.update_info('minutes_spent', self.spent)
        factor = self.factor(max(self.spent / self.minutes, runner.iter / runner.max_iters))
        for group in runner.optim_wrapper.param_groups:
            group['lr'] = group.setdefault('initial_lr', group['lr']) * factor

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop when the time is over."""
        if self.spent >= self.minutes:
            runner.logger.info(f'{self.minutes:g} minutes are over: training ends')
            runner.train_loop.stop_training = True

    def after_val(self, runner: Any) -> None:
        """Validation does not count."""
        self.last = time.perf_counter()

    def factor(self, progress: float) -> float:
        """Factor on the learning rate at a share of the training from 0 to 1."""
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        rest = min((progress - self.warmup) / (1 - self.warmup), 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * rest))
