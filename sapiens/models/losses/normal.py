# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""L1 + cosine loss of surface normals (paper, Eq. 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ...registry import MODELS
from ...utils.full_precision import full_precision
from ...utils.numbers import check_number
from .reduce import balanced_count


@MODELS.register_module()
class NormalLoss(nn.Module):
    """Over the valid pixels of the batch: ``mean(sum_c |n^_c - n_c|)`` and ``mean(1 - cos(n^, n))``.

    The L1 term takes the raw prediction, as the published training does; it pulls the length to 1. Without
    valid pixels both are 0 with zero gradient. In distributed training the mean runs over the global batch.

    Args:
        l1_weight, cosine_weight: Factors of the two terms.
    """

    def __init__(self, l1_weight: float = 1.0, cosine_weight: float = 1.0) -> None:
        super().__init__()
        check_number('NormalLoss.l1_weight', l1_weight)
        check_number('NormalLoss.cosine_weight', cosine_weight)
        self.l1_weight, self.cosine_weight = l1_weight, cosine_weight

    @full_precision
    def forward(self, pred: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute both terms.

        Args:
            pred: ``(B, 3, H, W)`` raw output.
            target: ``(B, 3, H, W)`` unit normals where valid.
            valid: ``(B, 1, H, W)`` bool.

        Returns:
            ``loss_l1`` and ``loss_cosine``, scalars.
        """
        target = torch.where(valid, target.to(pred.dtype), torch.zeros_like(pred))
        pred = torch.where(valid, pred, torch.zeros_like(pred))
        count = balanced_count(valid.sum())
        l1 = (pred - target).abs().sum() / count
        cosine = F.cosine_similarity(pred, target, dim=1, eps=1e-8)
        angular = ((1 - cosine) * valid[:, 0]).sum() / count
        return {'loss_l1': self.l1_weight * l1, 'loss_cosine': self.cosine_weight * angular}
