# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Between the network's input frame and the original image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def resize_matrix(source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """``(3, 3)`` map of pixel centres when an image of ``(H, W)`` is resized to another (borders meet borders)."""
    sy, sx = target[0] / source[0], target[1] / source[1]
    return np.array([[sx, 0, sx / 2 - 0.5], [0, sy, sy / 2 - 0.5], [0, 0, 1]], np.float64)


def to_original(points: Any, warp_mat: Any = None) -> np.ndarray:
    """Map points of the network's input back to pixels of the original image.

    Args:
        points: ``(..., 2)`` x, y (array or tensor).
        warp_mat: ``(2, 3)`` or ``(3, 3)`` map of original pixel centres to the input; None = they are the same.

    Returns:
        ``(..., 2)`` float64.
    """
    points = np.asarray(points.detach().cpu() if isinstance(points, torch.Tensor) else points, np.float64)
    if warp_mat is None:
        return points
    matrix = np.eye(3)
    warp_mat = np.asarray(warp_mat.detach().cpu() if isinstance(warp_mat, torch.Tensor) else warp_mat, np.float64)
    matrix[:2] = warp_mat[:2]
    inverse = np.linalg.inv(matrix)
    return points @ inverse[:2, :2].T + inverse[:2, 2]
