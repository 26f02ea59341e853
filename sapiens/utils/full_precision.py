# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Losses and decoding in float32, whatever precision the network around them runs in."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

Function = TypeVar('Function', bound=Callable[..., Any])


def at_least_float32(value: Any) -> Any:
    """Tensors of half precision, also in lists and tuples, as float32; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if type(value) in (list, tuple):
        return type(value)(map(at_least_float32, value))
    return value


def full_precision(function: Function) -> Function:
    """Run a function outside autocast, its half-precision arguments as float32.

    Inside autocast, `torch.matmul` computes in bf16 even where both factors are float32: casting alone is no help.
    """

    @wraps(function)
    def in_float32(*args: Any, **kwargs: Any) -> Any:
        # Autocast is a matter of the kind of device: that of the first tensor is the one computed on.
        tensors = (
            item
            for value in (*args, *kwargs.values())
            for item in (value if type(value) in (list, tuple) else (value,))
        )
        device = next((item.device.type for item in tensors if isinstance(item, torch.Tensor)), None)
        args = tuple(at_least_float32(value) for value in args)
        kwargs = {name: at_least_float32(value) for name, value in kwargs.items()}
        # Asked first, so that exported graphs hold no contexts that do nothing. Meta tensors know no autocast; to ask
        # torch which kinds do would stop the compilers of torch 2.11 and before.
        if device in (None, 'meta') or not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return in_float32  # type: ignore[return-value]
