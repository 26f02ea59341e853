# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A moving average of the weights, also of sharded ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch.distributed.tensor import DTensor

from ...errors import UserError
from ...registry import HOOKS
from ...utils.numbers import check_number
from ..sharding import from_main_process, set_whole_weights

# momentum, gamma, steps so far -> part of the new weights.
_RULES: dict[str, Callable[[float, int, int], float]] = {
    'ExponentialMovingAverage': lambda momentum, gamma, count: momentum,
    'ExpMomentumEMA': lambda momentum, gamma, count: momentum + (1 - momentum) * math.exp(-(1 + count) / gamma),
    'MomentumAnnealingEMA': lambda momentum, gamma, count: max(momentum, gamma / (gamma + count)),
    'StochasticWeightAverage': lambda momentum, gamma, count: 1 / (count + 1),
}


@HOOKS.register_module()
class EMAHook(Hook):
    """Average the weights over training; validation, testing and checkpoints use the average.

    It keeps tensors, not a second model, so every process of a sharded one averages its own part. Files are those of
    mmengine's hook: ``state_dict`` is the average, ``ema_state_dict`` the weights that training goes on with.

    Args:
        momentum: Part of the new weights in each step's average.
        begin_iter: Until this iteration the average is the weights.
        ema_type: mmengine's or mmpose's name of a rule that makes ``momentum`` larger in the beginning (`_RULES`), by
        gamma: steps: 100 of ``'MomentumAnnealingEMA'`` and 2000 of ``'ExpMomentumEMA'`` unless told.
        update_buffers, strict_load: mmengine's words, without effect: buffers are averaged too.

    Raises:
        UserError: Another ``ema_type``, or a momentum that is no part.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        momentum: float = 0.0002,
        begin_iter: int = 0,
        ema_type: str = 'ExponentialMovingAverage',
        gamma: int | None = None,
        update_buffers: bool = True,
        strict_load: bool = False,
    ) -> None:
        if ema_type not in _RULES:
            raise UserError(f"EMAHook: ema_type '{ema_type}' is none of {', '.join(_RULES)}; type='mmengine.EMAHook' "
                            'takes any, on one process or with DDP')  # fmt: skip
        check_number('EMAHook.momentum', momentum, 0, 1, above=True)
        check_number('EMAHook.gamma', gamma or 0, whole=True)
        self.rule, self.gamma = _RULES[ema_type], gamma or (2000 if ema_type == 'ExpMomentumEMA' else 100)
        self.momentum, self.begin_iter = momentum, begin_iter
        self.average: dict[str, torch.Tensor] = {}

    def before_train(self, runner: Any) -> None:
        """Begin with the weights, unless a run with an average goes on."""
        self.average = self.average or _copies(runner)

    @torch.no_grad()
    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Move the average towards the weights."""
        weights = runner.bare_model.state_dict()
        count = runner.iter - max(0, self.begin_iter - 1)
        step = self.rule(self.momentum, self.gamma, count) if count > 0 else 1.0
        means = [v for v in self.average.values() if v.is_floating_point()]
        torch._foreach_lerp_(means, [weights[k] for k, v in self.average.items() if v.is_floating_point()], step)
        for name, value in self.average.items():
            if not value.is_floating_point():
                value.copy_(weights[name])

    @torch.no_grad()
    def exchange(self, runner: Any, metrics: dict | None = None) -> None:
        """Put the average into the model, and the weights in its place; called again, put them back."""
        for name, value in runner.bare_model.state_dict().items():
            if name in self.average:
                kept = value.clone()
                value.copy_(self.average[name])
                self.average[name].copy_(kept)

    before_val_epoch = after_val_epoch = before_test_epoch = after_test_epoch = exchange

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Add the average, whole or in parts as the weights are."""
        trained = {f'module.{name}': value for name, value in checkpoint['state_dict'].items()}
        if checkpoint.get('in_parts'):
            checkpoint.update(state_dict=dict(self.average), ema_state_dict=trained)
            return
        average = {}
        for name, value in self.average.items():
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            if is_main_process():
                average[name] = whole.detach().cpu()
        checkpoint.update(state_dict=average, ema_state_dict=trained)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Take the average of the run that goes on; the main process alone has it."""
        if not runner._resume or not from_main_process('ema_state_dict' in checkpoint):
            return
        set_whole_weights(runner.bare_model, checkpoint['state_dict'])
        self.average = _copies(runner)
        if 'ema_state_dict' in checkpoint:
            saved = checkpoint['ema_state_dict'].items()
            checkpoint['state_dict'] = {k.removeprefix('module.'): v for k, v in saved if k.startswith('module.')}


def _copies(runner: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in runner.bare_model.state_dict().items()}
