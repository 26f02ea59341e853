# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What every drawing function shares: the checked copy of the image and the width of a line on it."""

from __future__ import annotations

import numpy as np

SHIFT = 4
"""Fractional bits of OpenCV's drawing coordinates: lines and circles are placed to 1/16 pixel."""


def new_canvas(image: np.ndarray) -> np.ndarray:
    """A contiguous copy of a uint8 RGB image.

    Args:
        image: ``(H, W, 3)`` uint8.

    Raises:
        TypeError: Another type or shape: scaling floats by a guess would draw a wrong picture.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise TypeError(f'an image is uint8 RGB (H, W, 3), got {image.dtype} {image.shape}')
    return image.copy(order='C')


def line_width(height: float, width: float) -> float:
    """Width in pixels of a line that looks alike at every size: 2 at 640 x 480, 12 on a 4K image."""
    return max(1.0, (height * width) ** 0.5 / 280)


def fixed(points: np.ndarray) -> np.ndarray:
    """Float pixel coordinates -> OpenCV's fixed-point int32, kept within what it can draw."""
    return np.clip(np.round(np.asarray(points, np.float64) * (1 << SHIFT)), -(2**26), 2**26).astype(np.int32)
