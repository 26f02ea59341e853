# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Numbers to a GPU and results from it without making the host wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def constants(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """``(N,)`` numbers in the type and on the device of another tensor, filled in there.

    ``like.new_tensor(values)`` copies them from the host, which first waits for all that the device has to do.
    """
    return torch.stack([like.new_full((), value) for value in values])


def take(tensor: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """``tensor[rows]``: a view of neighbours, and no index that would be copied to the device."""
    if rows and len(rows) == rows[-1] - rows[0] + 1:
        return tensor[rows[0] : rows[-1] + 1]
    return torch.stack([tensor[row] for row in rows]) if rows else tensor[:0]


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Begin to copy a result to the host; it may be read after `wait`."""
    return tensor.to('cpu', non_blocking=tensor.device.type in ('cuda', 'meta'))


def wait(device: torch.device) -> None:
    """Wait until the copies of `to_host` from a device have arrived."""
    if device.type == 'cuda':
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(device))
        done.synchronize()


def to_numpy(value: Any) -> np.ndarray:
    """Tensor (any device, bfloat16 too) or array-like -> array."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return np.asarray(value)
