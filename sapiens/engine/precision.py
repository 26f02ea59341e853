# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Which precision networks compute in: one policy for training, validation, testing and inference.

``precision = 'auto'`` in a config is bf16 (autocast) and TF32 on GPUs that have them, float32 elsewhere. Losses,
metrics and decoding are float32 in any case, see `sapiens.utils.full_precision`.
"""

from __future__ import annotations

import timeit
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from ..errors import UserError
from ..registry import OPTIM_WRAPPERS, type_name

NAMES = {
    'bf16': torch.bfloat16,
    'bfloat16': torch.bfloat16,
    'fp16': torch.float16,
    'float16': torch.float16,
    'fp32': torch.float32,
    'float32': torch.float32,
    'tf32': torch.float32,
}
# Wrappers of mmengine and ours that `complete_optimizer` may exchange for another.
WRAPPERS = ('OptimWrapper', 'AmpOptimWrapper', 'MixedPrecisionOptimWrapper')


@dataclass(frozen=True)
class Precision:
    """How a network computes; ``str()`` says it for a log or a table.

    Attributes:
        dtype: Of matrix products and convolutions; with half precisions autocast leaves the rest in float32.
        device: Kind of device, ``'cuda'``, ``'cpu'``, ...
        tf32: Whether float32 products round their factors to TF32.
    """

    dtype: torch.dtype
    device: str
    tf32: bool = False

    @property
    def is_half(self) -> bool:
        """Whether networks run under autocast."""
        return self.dtype != torch.float32

    def autocast(self) -> torch.autocast:
        """The context that a network runs in."""
        return torch.autocast(self.device, self.dtype, enabled=self.is_half)

    def apply(self) -> None:
        """Set this process's TF32 switches and the type of an autocast that names none, such as mmengine's."""
        if self.device == 'cuda':
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        if self.is_half:
            torch.set_autocast_dtype(self.device, self.dtype)

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix('torch.')
        extras = ', '.join(word for word, there in (('autocast', self.is_half), ('TF32', self.tf32)) if there)
        where = torch.cuda.get_device_name() if self.device == 'cuda' and torch.cuda.is_available() else self.device
        return f'{name} ({extras}) on {where}' if extras else f'{name} on {where}'


def choose_precision(
    name: str | torch.dtype = 'auto', device: str | torch.device | None = None, training: bool = False
) -> Precision:
    """What a precision asked for means on a device.

    Args:
        name: ``'auto'``: on GPUs bf16 with TF32 for what stays float32, on GPUs without bf16 fp16 for inference and
            float32 for training, elsewhere float32. ``'probe'``: the same, but a CPU that is faster in bf16 uses it.
            ``'bf16'``, ``'fp16'`` (a CPU uses bf16 instead), ``'tf32'``, ``'fp32'`` (exact), or a dtype.
        device: Where; this machine's GPU if it has one, else the CPU.
        training: Gradients are wanted.

    Raises:
        UserError: Unknown name.
    """
    kind = torch.device(device or get_device()).type
    if isinstance(name, torch.dtype):
        dtype = name
    elif name in ('auto', 'probe'):
        dtype = torch.float32
        if kind == 'cuda':
            older = torch.float32 if training else torch.float16
            dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else older
        elif kind == 'cpu' and name == 'probe' and bf16_is_faster_here():
            dtype = torch.bfloat16
    elif name in NAMES:
        dtype = NAMES[name]
    else:
        raise UserError(f"precision '{name}' is none of auto, probe, {', '.join(NAMES)}")
    if kind == 'cpu' and dtype == torch.float16:
        print_log('fp16 needs a GPU: bf16 is used on this CPU instead', logger='current', level=30)
        dtype = torch.bfloat16
    return Precision(dtype, kind, tf32=kind == 'cuda' and name not in ('fp32', 'float32', torch.float32))


def precision_of(config: Mapping) -> str:
    """The precision that a config names: its ``precision``, or the type that its ``optim_wrapper`` asks for."""
    wrapper = config.get('optim_wrapper') or {}
    kind = type_name(wrapper) if isinstance(wrapper, Mapping) else None
    if kind == 'MixedPrecisionOptimWrapper':
        return wrapper.get('dtype', 'bf16')
    if kind == 'AmpOptimWrapper':
        return wrapper.get('dtype') or 'fp16'
    return config.get('precision', 'auto')


def complete_optimizer(wrapper: Mapping, precision: Precision) -> dict:
    """The optimiser's config for a precision: mixed where it is half, Adam fused on GPUs unless the config says."""
    wrapper = dict(wrapper)
    known = type_name(wrapper, 'OptimWrapper') in WRAPPERS
    if known and (precision.is_half or precision.device == 'cuda'):
        wrapper.update(type='sapiens.MixedPrecisionOptimWrapper', dtype=str(precision.dtype).removeprefix('torch.'))
    optimizer = wrapper.get('optimizer') or {}
    is_adam = type_name(optimizer) in ('Adam', 'AdamW')
    if is_adam and precision.device == 'cuda' and not {'fused', 'foreach'} & set(optimizer):
        # The default for GPUs keeps one more copy of all parameters while it steps.
        wrapper['optimizer'] = {**optimizer, 'fused': True}
    return wrapper


@cache
def bf16_is_faster_here() -> bool:
    """Whether this CPU computes in bf16 faster than in float32: by its flags if PyTorch tells them, else measured."""
    flags: dict = getattr(torch.cpu, 'get_capabilities', dict)()
    if flags.get('architecture') == 'x86_64':
        return bool(flags.get('avx512_bf16') or flags.get('amx_bf16'))
    times = []
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            layer, x = nn.Linear(1024, 1024).to(dtype), torch.ones(128, 1024, dtype=dtype)
            times.append(min(timeit.repeat(partial(layer, x), number=1, repeat=4)))
    return times[1] < 0.8 * times[0]


@OPTIM_WRAPPERS.register_module()
class MixedPrecisionOptimWrapper(AmpOptimWrapper):
    """mmengine's `AmpOptimWrapper` on any device: forward passes in bf16 or fp16, parameters and optimiser in fp32.

    fp16 scales the loss so that small gradients survive, and skips steps that overflow. A config need not name this
    wrapper: the runner takes it where ``precision`` is half, and on every GPU since it does not wait for the norm of
    the gradients.

    Args:
        dtype: ``'bf16'``, ``'fp16'`` or ``'fp32'``.
        **kwargs: As `OptimWrapper` (``optimizer``, ``clip_grad``, ``accumulative_counts``).

    Attributes:
        grad_norm: Of the last step that clipped gradients, on their device; whoever logs it takes it.
    """

    def __init__(self, dtype: str = 'bf16', **kwargs: Any) -> None:
        if dtype not in NAMES:
            raise UserError(f"mixed precision is 'bf16' or 'fp16', not '{dtype}'")
        OptimWrapper.__init__(self, **kwargs)  # its own wants a GPU
        self.precision = choose_precision(dtype, training=True)
        self.loss_scaler = torch.amp.GradScaler(self.precision.device, enabled=self.precision.dtype == torch.float16)
        self._scale_update_param = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, inside the context that delays gradient exchange while gradients accumulate."""
        with OptimWrapper.optim_context(self, model), self.precision.autocast():
            yield

    def _clip_grad(self) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        norm = self.clip_func(parameters, **self.clip_grad_kwargs) if parameters else None
        if norm is not None:  # of sharded gradients each process knows its part
            self.grad_norm = norm.full_tensor() if hasattr(norm, 'full_tensor') else norm

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the optimiser and, where the checkpoint has one that is of use here, the loss scale."""
        unused = not self.loss_scaler.is_enabled() or not state_dict.get('loss_scaler')
        super().load_state_dict({k: v for k, v in state_dict.items() if not (unused and k == 'loss_scaler')})
