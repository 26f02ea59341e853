# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Depth of field: what lies far behind the people melts into discs, as it does behind a real lens."""

from __future__ import annotations

import cv2
import numpy as np


def disc(radius: float) -> np.ndarray:
    """A round kernel of sum 1 with a soft edge, ``(n, n)`` float32; ``radius`` in pixels."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return kernel / kernel.sum()


def spread(distance: np.ndarray, focus: float, blur: float) -> np.ndarray:
    """Radius to which the lens spreads points, in pixels.

    What stands near the people is sharp, from there on the blur grows as behind a lens.

    Args:
        distance: Metres; 0 = infinitely far.
        focus: Distance of the people, metres.
        blur: Radius of a far point.
    """
    far = np.where(distance > 0, distance, np.inf)
    return (np.maximum(1 - 1.4 * focus / far, 0) * blur).astype(np.float32)


def defocus(picture: np.ndarray, known: np.ndarray, radius: np.ndarray, most: float) -> np.ndarray:
    """Blur each pixel by a radius of its own.

    Args:
        picture: ``(H, W, 3)`` float32 linear.
        known: ``(H, W)`` bool; pixels that are hidden (False) lend nothing to the others.
        radius: ``(H, W)`` float32 radius in pixels.
        most: Largest radius.

    Returns:
        ``(H, W, 3)`` float32.
    """
    if most < 0.75:
        return picture
    height, width = known.shape
    weight = known.astype(np.float32)
    levels = [picture]
    for reach in (most / 2, most):
        # A wide blur needs no full resolution.
        shrink = max(reach / 5, 1.0)
        size = (max(round(width / shrink), 1), max(round(height / shrink), 1))
        small = cv2.resize(np.dstack([picture * weight[..., None], weight + 1e-4]), size, interpolation=cv2.INTER_AREA)
        small = cv2.filter2D(small, -1, disc(reach / shrink), borderType=cv2.BORDER_REFLECT_101)
        small = np.ascontiguousarray(small[..., :3] / small[..., 3:])
        levels.append(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
    place = np.clip(radius / most * 2, 0, 2)[..., None]
    near = np.minimum(place, 1)
    return levels[0] * (1 - near) + levels[1] * (near - np.maximum(place - 1, 0)) + levels[2] * np.maximum(place - 1, 0)
