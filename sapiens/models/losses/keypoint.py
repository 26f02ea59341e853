# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Squared errors of heatmaps against targets that are never rendered."""

from __future__ import annotations

import torch
from torch import nn

from ...registry import MODELS
from ...utils.full_precision import full_precision


@full_precision
def squared_error(heatmaps: torch.Tensor, target: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Mean squared error of each heatmap.

    With a factorised target ``T = gy gx^T`` the error needs no T:
    ``sum (H - T)^2 = sum H^2 - 2 gy^T H gx + (sum gy^2)(sum gx^2)``.

    Args:
        heatmaps: ``(B, K, h, w)``, any float dtype; summed in float32 at least.
        target: ``(B, K, h, w)``, or the pair ``gx`` (B, K, w), ``gy`` (B, K, h) of `UDPHeatmap.factors`.

    Returns:
        ``(B, K)`` float32 (or float64).
    """
    if isinstance(target, torch.Tensor):
        return ((heatmaps - target.to(heatmaps.dtype)) ** 2).mean((-1, -2))
    gx, gy = (g.to(heatmaps.dtype) for g in target)
    cross = torch.matmul(heatmaps, gx[..., None])[..., 0]
    total = heatmaps.square().sum((-1, -2)) - 2 * (cross * gy).sum(-1) + gx.square().sum(-1) * gy.square().sum(-1)
    return total / heatmaps[0, 0].numel()


@MODELS.register_module()
class KeypointMSELoss(nn.Module):
    """``loss_weight * mean over B, K of w * mean over pixels of (H - T)^2``; w is the keypoint's weight.

    Args:
        loss_weight: Factor.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    @full_precision
    def forward(
        self,
        heatmaps: torch.Tensor,
        target: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """``(B, K, h, w)`` heatmaps, target as in `squared_error`, ``(B, K)`` weights -> scalar."""
        return self.loss_weight * (squared_error(heatmaps, target) * weights).mean()


@MODELS.register_module()
class KeypointOHKMLoss(nn.Module):
    """Online hard keypoint mining: the mean of the ``topk`` largest keypoint errors of each sample.

    The error of a keypoint is ``w^2 * mean over pixels of (H - T)^2`` (heatmap and target are both weighted).

    Args:
        topk: Keypoints kept (128 of 308); all where there are fewer.
        loss_weight: Factor.
    """

    def __init__(self, topk: int = 128, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.topk, self.loss_weight = topk, loss_weight

    @full_precision
    def forward(
        self,
        heatmaps: torch.Tensor,
        target: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """``(B, K, h, w)`` heatmaps, target as in `squared_error`, ``(B, K)`` weights -> scalar."""
        errors = squared_error(heatmaps, target) * weights.square()
        return self.loss_weight * errors.topk(min(self.topk, errors.shape[1]), dim=1).values.mean()
