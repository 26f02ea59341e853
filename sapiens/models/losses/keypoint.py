# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Squared errors of heatmaps against targets that are never rendered."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...registry import MODELS
from ...utils.full_precision import full_precision
from ...utils.numbers import check_number


class _FactorisedError(torch.autograd.Function):
    """Mean over pixels of ``(H - gy gx^T)^2`` for each heatmap, with its gradient in closed form.

    Autograd would keep and pass over several float32 copies of all maps, which on a CPU takes longer than the whole
    rest of a small model; here one difference serves both directions.
    """

    @staticmethod
    def forward(ctx: Any, heatmaps: torch.Tensor, gx: torch.Tensor, gy: torch.Tensor) -> torch.Tensor:
        difference = torch.addcmul(heatmaps, gy[..., :, None], gx[..., None, :], value=-1)
        ctx.save_for_backward(difference)
        return torch.linalg.vector_norm(difference, dim=(-1, -2)).square() / heatmaps[0, 0].numel()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (difference,) = ctx.saved_tensors
        factor = grad * (2 / difference[0, 0].numel())
        return difference * factor[..., None, None], None, None


@full_precision
def squared_error(heatmaps: torch.Tensor, target: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Mean squared error of each heatmap.

    Args:
        heatmaps: ``(B, K, h, w)``, any float dtype; summed in float32 at least.
        target: ``(B, K, h, w)``, or the pair ``gx`` (B, K, w), ``gy`` (B, K, h) of `UDPHeatmap.factors`, which
            stands for ``T = gy gx^T`` without ever rendering it; it has no gradient.

    Returns:
        ``(B, K)`` float32 (or float64).
    """
    if isinstance(target, torch.Tensor):
        return ((heatmaps - target.to(heatmaps.dtype)) ** 2).mean((-1, -2))
    gx, gy = (g.detach().to(heatmaps.dtype) for g in target)
    return _FactorisedError.apply(heatmaps, gx, gy)


class KeypointLoss(nn.Module):
    """A loss of heatmaps that is made of one error for each map, so that not all maps need to exist at once.

    Derived classes define `reduce`, and `errors` unless they take the squared error.

    Args:
        loss_weight: Factor.
    """

    of_probabilities = False

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        check_number(f'{type(self).__name__}.loss_weight', loss_weight)
        self.loss_weight = loss_weight

    def errors(self, heatmaps: torch.Tensor, target: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """``(B, K, h, w)`` heatmaps and a target as in `squared_error` -> ``(B, K)``."""
        return squared_error(heatmaps, target)

    def reduce(self, errors: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """``(B, K)`` errors and weights -> scalar."""
        raise NotImplementedError

    @full_precision
    def forward(
        self,
        heatmaps: torch.Tensor,
        target: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """``(B, K, h, w)`` heatmaps, target as in `squared_error`, ``(B, K)`` weights -> scalar."""
        return self.reduce(self.errors(heatmaps, target), weights)


@MODELS.register_module()
class KeypointMSELoss(KeypointLoss):
    """``loss_weight * mean over B, K of w * mean over pixels of (H - T)^2``; w is the keypoint's weight."""

    def reduce(self, errors: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """``(B, K)`` errors and weights -> scalar."""
        return self.loss_weight * (errors * weights).mean()


@MODELS.register_module()
class KeypointOHKMLoss(KeypointLoss):
    """Online hard keypoint mining: the mean of the ``topk`` largest keypoint errors of each sample.

    The error of a keypoint is ``w^2 * mean over pixels of (H - T)^2`` (heatmap and target are both weighted).

    Args:
        topk: Keypoints kept (128 of 308); all where there are fewer.
        loss_weight: Factor.
    """

    def __init__(self, topk: int = 128, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        check_number('KeypointOHKMLoss.topk', topk, 1, whole=True)
        self.topk = topk

    def reduce(self, errors: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """``(B, K)`` errors and weights -> scalar."""
        errors = errors * weights.square()
        return self.loss_weight * errors.topk(min(self.topk, errors.shape[1]), dim=1).values.mean()


class _Divergence(torch.autograd.Function):
    """Kullback-Leibler divergence of a softmax over pixels from a factorised target, with its gradient in closed form.

    Pixels come before keypoints in memory, as behind layers that keep channels last.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, gx: torch.Tensor, gy: torch.Tensor) -> torch.Tensor:
        height, width = logits.shape[-2:]
        flat = logits.flatten(2).transpose(1, 2)
        target = (gy.transpose(1, 2)[:, :, None] * gx.transpose(1, 2)[:, None]).flatten(1, 2)
        log_probability = flat.log_softmax(1)
        ctx.size = height, width
        ctx.save_for_backward(log_probability.exp().mul_(target.sum(1, keepdim=True)).sub_(target))
        entropy = -sum(torch.special.xlogy(g, g).sum(-1) for g in (gx, gy))
        return -(target * log_probability).sum(1) - entropy

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (difference,) = ctx.saved_tensors
        return (difference * grad[:, None]).transpose(1, 2).unflatten(2, ctx.size), None, None


@MODELS.register_module()
class KeypointDivergenceLoss(KeypointLoss):
    """``loss_weight * sum over B, K of w * KL(T / sum T || softmax over pixels of H) / sum of w``.

    Each map is one choice among all pixels, so that every keypoint has a gradient of the same size from the first step
    on; the squared error of maps that are nearly all background moves small models slowly. `PoseHead` then puts out
    probabilities, scaled so that a map that equals the target has the target's maximum of 1.
    """

    of_probabilities = True

    @full_precision
    def errors(self, heatmaps: torch.Tensor, target: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """``(B, K, h, w)`` logits and the pair of `UDPHeatmap.factors` -> ``(B, K)``."""
        gx, gy = (g / g.sum(-1, keepdim=True).clamp(min=1e-6) for g in target)
        return _Divergence.apply(heatmaps, gx, gy)

    def reduce(self, errors: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """``(B, K)`` errors and weights -> scalar."""
        return self.loss_weight * (errors * weights).sum() / weights.sum().clamp(min=1e-6)
