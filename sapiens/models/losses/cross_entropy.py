# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Weighted cross-entropy of part labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...registry import MODELS
from ...utils.full_precision import full_precision
from ...utils.numbers import check_number
from .reduce import balanced_count


@MODELS.register_module()
class WeightedCrossEntropy(nn.Module):
    """``l(p) = -w[y_p] log softmax(z_p)[y_p]``, 0 on ignored pixels.

    Args:
        class_weight: C weights; None is 1 for all. `PartHead` fills in the vocabulary's.
        reduction: ``'pixels'`` is the plain mean of l over **all** pixels, ignored ones counted as 0 (the published
            models' training); ``'weighted'`` is PyTorch's mean, ``sum l / sum w[y_p]`` over valid pixels.
        ignore_index: Label of pixels without one.
        loss_weight: Factor.
    """

    def __init__(
        self,
        class_weight: Sequence[float] | None = None,
        reduction: str = 'pixels',
        ignore_index: int = 255,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if reduction not in ('pixels', 'weighted'):
            raise ValueError(f"reduction is 'pixels' or 'weighted', not '{reduction}'")
        check_number('WeightedCrossEntropy.loss_weight', loss_weight)
        for value in () if class_weight is None else np.ravel(class_weight).tolist():
            check_number('WeightedCrossEntropy.class_weight', value)
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer('class_weight', weight, persistent=False)
        self.reduction, self.ignore_index, self.loss_weight = reduction, ignore_index, loss_weight

    @full_precision
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """``(B, C, H, W)`` logits and ``(B, H, W)`` integer labels -> scalar."""
        labels = labels.long()
        weight = None if self.class_weight is None else self.class_weight.to(logits.dtype)
        loss = F.cross_entropy(logits, labels, weight, ignore_index=self.ignore_index, reduction='none')
        if self.reduction == 'pixels':
            return self.loss_weight * loss.mean()
        valid = labels != self.ignore_index
        if self.class_weight is None:
            total = valid.sum()
        else:
            total = (self.class_weight[labels.clamp(max=len(self.class_weight) - 1)] * valid).sum()
        return self.loss_weight * loss.sum() / balanced_count(total)
