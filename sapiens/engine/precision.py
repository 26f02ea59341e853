# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Mixed precision on GPUs and CPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from ..errors import UserError
from ..registry import OPTIM_WRAPPERS

DTYPES = {
    'bf16': torch.bfloat16,
    'bfloat16': torch.bfloat16,
    'fp16': torch.float16,
    'float16': torch.float16,
}


@OPTIM_WRAPPERS.register_module()
class MixedPrecisionOptimWrapper(OptimWrapper):
    """Forward passes in bf16 or fp16 by autocast; parameters, gradients and optimiser stay in fp32.

    fp16 scales the loss so that small gradients survive, and skips steps that overflow. A CPU has no use for fp16:
    there it becomes bf16, with a warning.

    Args:
        dtype: ``'bf16'`` or ``'fp16'``.
        **kwargs: As `OptimWrapper` (``optimizer``, ``clip_grad``, ``accumulative_counts``).
    """

    def __init__(self, dtype: str = 'bf16', **kwargs) -> None:
        if dtype not in DTYPES:
            raise UserError(f"mixed precision is 'bf16' or 'fp16', not '{dtype}'")
        super().__init__(**kwargs)
        self.device_type = get_device().split(':')[0]
        self.dtype = DTYPES[dtype]
        if self.device_type == 'cpu' and self.dtype == torch.float16:
            print_log('fp16 needs a GPU: bf16 is used on this CPU instead', logger='current', level=30)
            self.dtype = torch.bfloat16
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, inside the context that delays gradient exchange while gradients accumulate."""
        with super().optim_context(model), torch.autocast(self.device_type, dtype=self.dtype):
            yield

    def backward(self, loss: torch.Tensor, **kwargs) -> None:
        """Back-propagate the scaled loss."""
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs) -> None:
        """Unscale, clip and step; fp16 steps with infinite gradients are skipped."""
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def state_dict(self) -> dict:
        """State of the optimiser and the loss scale."""
        return {**super().state_dict(), 'loss_scaler': self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the optimiser and, where the checkpoint has one, the loss scale."""
        state_dict = dict(state_dict)
        scaler = state_dict.pop('loss_scaler', None)
        if scaler and self.scaler.is_enabled():
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)
