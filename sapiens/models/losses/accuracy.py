# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Cheap accuracies to watch while training; evaluation has the metrics proper."""

from __future__ import annotations

import torch

from ...utils.on_device import constants


def pose_accuracy(
    points: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, size: tuple[int, int], threshold: float = 0.05
) -> torch.Tensor:
    """PCK with distances measured in tenths of the heatmap's sides.

    Args:
        points, target: ``(B, K, 2)`` x, y in heatmap pixels.
        valid: ``(B, K)`` bool.
        size: ``(h, w)`` of the heatmap; x is divided by ``w / 10`` and y by ``h / 10``.
        threshold: Largest distance of a hit.

    Returns:
        Scalar in [0, 1]: the mean over the keypoints that have a valid sample; 0 without any.
    """
    unit = constants([size[1] / 10, size[0] / 10], points)
    hit = (((points - target) / unit).norm(dim=-1) < threshold) & valid
    count = valid.sum(0)
    each = hit.sum(0) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)


def pixel_accuracy(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int = 255) -> torch.Tensor:
    """Percentage of labelled pixels that are right: ``(B, C, H, W)``, ``(B, H, W)`` -> scalar in [0, 100]."""
    valid = labels != ignore_index
    right = (logits.argmax(1) == labels) & valid
    return 100 * right.sum() / valid.sum().clamp(min=1)
