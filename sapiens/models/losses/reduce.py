# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""How losses sum up: to averages that do not depend on the number of processes."""

from __future__ import annotations

import torch
from mmengine import dist


def balanced_count(count: torch.Tensor) -> torch.Tensor:
    """Number of pixels that a process divides its sum by: the mean over processes, at least 1.

    DDP averages gradients over processes. Dividing each sum by the mean count makes that average the mean over
    all pixels of the global batch.
    """
    count = count.detach().float()
    if dist.get_world_size() > 1:
        count = count.clone()
        dist.all_reduce(count, op='mean')
    return count.clamp(min=1.0)
