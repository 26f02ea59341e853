# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Scale-invariant log depth loss (paper, Eq. 3)."""

from __future__ import annotations

import torch
from torch import nn

from ...registry import MODELS
from ...utils.full_precision import full_precision
from ...utils.numbers import check_number


def normalise_depth(depth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Map the depths of each image's people to [0, 1] by their minimum and maximum.

    Args:
        depth: ``(B, 1, H, W)``.
        mask: ``(B, 1, H, W)`` bool, pixels that count.

    Returns:
        ``(B, 1, H, W)`` float32; 0 outside the mask, at the nearest pixel, and in images of constant depth.
    """
    depth = depth.float()
    inf = torch.inf
    low = depth.masked_fill(~mask, inf).amin((-1, -2), keepdim=True)
    high = depth.masked_fill(~mask, -inf).amax((-1, -2), keepdim=True)
    extent = high - low
    usable = torch.isfinite(extent) & (extent > 0)
    low, extent = low.masked_fill(~usable, 0), extent.masked_fill(~usable, 1)
    return torch.where(mask & usable, (depth - low) / extent, torch.zeros_like(depth))


@MODELS.register_module()
class SiLogLoss(nn.Module):
    """With ``D = log d^ - log d`` over the valid pixels of an image: ``mean(D^2) - lam * mean(D)^2``.

    That is the paper's Eq. 3. The published models were trained on its square root, the default here. The value is
    the mean over images; one without valid pixels contributes 0. Valid pixels have a target greater than 0, so
    the nearest one of a normalised map (target 0) has no part. Predictions are clamped to ``eps`` before the
    logarithm. The gradient of the root at a perfect fit is 0, not NaN.

    Args:
        sqrt: Take the root of each image's value.
        lam: Weight of the squared mean; 1 is fully scale-invariant, the paper uses 0.5.
        eps: Smallest prediction.
        loss_weight: Factor.
    """

    def __init__(self, sqrt: bool = True, lam: float = 0.5, eps: float = 1e-6, loss_weight: float = 1.0) -> None:
        super().__init__()
        check_number('SiLogLoss.lam', lam, 0, 1)
        check_number('SiLogLoss.eps', eps, above=True)
        check_number('SiLogLoss.loss_weight', loss_weight)
        self.sqrt, self.lam, self.eps, self.loss_weight = sqrt, lam, eps, loss_weight

    @full_precision
    def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """``(B, 1, H, W)`` (or ``(B, H, W)``) predictions and targets; targets <= 0 do not count -> scalar."""
        pred = pred.flatten(1)
        target = target.to(pred.dtype).flatten(1)
        valid = target > 0
        count = valid.sum(1).clamp(min=1)
        difference = pred.clamp(min=self.eps).log() - target.masked_fill(~valid, 1).log()
        difference = difference.masked_fill(~valid, 0)
        mean = difference.sum(1) / count
        value = difference.square().sum(1) / count - self.lam * mean.square()
        if self.sqrt:
            # Both branches of the outer where stay finite, so that autograd never multiplies 0 by infinity.
            positive = value > 1e-12
            value = torch.where(positive, torch.where(positive, value, 1.0).sqrt(), value * 0)
        return self.loss_weight * value.mean()
