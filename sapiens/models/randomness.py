# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Random numbers for a batch that is shared between processes.

Training seeds every process alike before each step. With numbers drawn for the global batch, of which each process
takes the rows of its samples, dropout and masks are the same however many processes share the batch; drawn for the
local batch alone, they would be the same on every process.
"""

from __future__ import annotations

import torch
from mmengine.dist import get_dist_info
from torch import nn


def rand_per_sample(shape: tuple[int, ...], device: torch.device | str | None = None) -> torch.Tensor:
    """Uniform numbers in [0, 1) of shape ``(B, ...)``, B being the local batch.

    Sample i of process r is sample ``i * processes + r`` of the global batch.
    """
    rank, world_size = get_dist_info()
    return torch.rand(shape[0] * world_size, *shape[1:], device=device)[rank::world_size]


class ChannelDropout(nn.Module):
    """`torch.nn.Dropout2d` whose choice does not depend on the number of processes.

    Args:
        p: Probability of setting a channel of a sample to zero; the others are scaled by 1 / (1 - p).
    """

    axes = 2  # the first axes of the input, along which it draws

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f'the probability of {type(self).__name__} must lie in [0, 1), not {p}')
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, C, ...)`` -> ``(B, C, ...)``; in eval mode and at p = 0 the identity, which draws no numbers."""
        if not self.training or self.p == 0:
            return x
        # The draw is in float32 whatever x is: 1 - p need not be representable in bf16.
        shape = *x.shape[: self.axes], *[1] * (x.ndim - self.axes)
        return x * (rand_per_sample(shape, x.device) >= self.p).to(x.dtype) / (1 - self.p)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f'p={self.p}'


class DropPath(ChannelDropout):
    """Drops the residual branch ``(B, ...)`` of whole samples."""

    axes = 1

    def __init__(self, p: float = 0.0) -> None:
        super().__init__(p)
