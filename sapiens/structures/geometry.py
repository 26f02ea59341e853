# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Between the network's input frame and the original image, and between depths of different scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..utils.on_device import to_numpy

OUR_AXES = 'x-right y-up z-viewer'
NORMAL_AXES = {
    OUR_AXES: (1, 1, 1),
    'opencv': (1, -1, -1),
    'x-right y-down z-viewer': (1, -1, 1),
    'x-left y-up z-viewer': (-1, 1, 1),
}
"""Conventions of normals: signs of x, y, z relative to ours (OpenCV: x right, y down, z away from the viewer)."""


def check_axes(axes: Any, where: str | Path) -> None:
    """Raise a `UserError` that begins with ``where`` unless these are axes of `NORMAL_AXES`."""
    if not isinstance(axes, str) or axes not in NORMAL_AXES:
        raise UserError(f"{where}: unknown normal_axes '{axes}'; known are {', '.join(map(repr, NORMAL_AXES))}")


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
    points = to_numpy(points).astype(np.float64)
    if warp_mat is None:
        return points
    matrix = np.eye(3)
    matrix[:2] = to_numpy(warp_mat)[:2]
    inverse = np.linalg.inv(matrix)
    return points @ inverse[:2, :2].T + inverse[:2, 2]


def covered_window(
    warp_mat: Any, img_shape: Sequence[int] | None, ori_shape: Sequence[int]
) -> tuple[tuple[slice, slice], np.ndarray | None]:
    """The pixels of the original image that the network's input shows (those whose centres lie on its pixels).

    Args:
        warp_mat: ``(2, 3)`` or ``(3, 3)`` map of original pixel centres to the input; None = it shows everything.
        img_shape: ``(H, W)`` of the input.
        ori_shape: ``(H', W')`` of the original.

    Returns:
        Rows and columns around those pixels, and ``(h, w)`` bool which of them are shown; None = all.
    """
    if warp_mat is None or img_shape is None:
        return (slice(0, ori_shape[0]), slice(0, ori_shape[1])), None
    matrix = np.asarray(warp_mat, np.float64)[:2]
    rows, columns = np.arange(ori_shape[0])[:, None], np.arange(ori_shape[1])[None]
    if matrix[0, 1] or matrix[1, 0]:
        x = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2]
        y = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2]
        shown = (x > -0.5) & (x < img_shape[1] - 0.5) & (y > -0.5) & (y < img_shape[0] - 0.5)
        window = _around(shown.any(1)), _around(shown.any(0))
        return window, None if shown[window].all() else shown[window]
    x, y = (matrix[0, 0] * columns + matrix[0, 2])[0], (matrix[1, 1] * rows + matrix[1, 2])[:, 0]
    inside = [(v > -0.5) & (v < side - 0.5) for v, side in zip((y, x), img_shape[:2], strict=True)]
    return (_around(inside[0]), _around(inside[1])), None


def _around(flags: np.ndarray) -> slice:
    """From the first to the last that is set; empty when none is."""
    found = np.flatnonzero(flags)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes ``(..., 4)`` x1, y1, x2, y2, which broadcast; 0 for one that is empty."""
    common = _common_area(boxes, others)
    return common / np.maximum(_area(boxes) + _area(others) - common, 1e-9)


def share_inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which share of boxes ``(..., 4)`` lies in others, which broadcast; 0 for one that is empty."""
    return _common_area(boxes, others) / np.maximum(_area(boxes), 1e-9)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1)


def _common_area(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    low, high = np.maximum(boxes[..., :2], others[..., :2]), np.minimum(boxes[..., 2:], others[..., 2:])
    return np.clip(high - low, 0, None).prod(-1)


def align_scale_shift(prediction: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    r"""Closed-form least squares: the s, t that minimise :math:`\sum_i (s\,p_i + t - g_i)^2`.

    :math:`s = \mathrm{cov}(p, g) / \mathrm{var}(p)`, :math:`t = \bar g - s\,\bar p`. A constant prediction (or a
    single pixel) has no scale: s = 0, t = mean of the labels.

    Args:
        prediction: ``(N,)`` finite, N >= 1.
        label: ``(N,)`` finite.

    Returns:
        s, t.
    """
    p, g = np.asarray(prediction, np.float64), np.asarray(label, np.float64)
    p_mean, g_mean = p.mean(), g.mean()
    centred = p - p_mean
    variance = float((centred**2).mean())
    # Rounding leaves a constant map with a variance of about (1e-8 * value)^2.
    if variance <= (1e-7 * max(abs(p_mean), np.finfo(np.float64).tiny)) ** 2:
        return 0.0, float(g_mean)
    scale = float((centred * (g - g_mean)).mean() / variance)
    return scale, float(g_mean - scale * p_mean)
