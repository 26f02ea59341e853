# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Nearest neighbours between point sets."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, fastmath=True)
def _nearest(points, others, order, heights, out, distance):
    for i in range(points.shape[0]):
        best = 1e30
        middle = np.searchsorted(heights, points[i, 1])
        # From the same height upwards, then downwards, until the height alone is too far off.
        for step in (1, -1):
            j = middle if step > 0 else middle - 1
            while 0 <= j < others.shape[0]:
                dy = points[i, 1] - heights[j]
                if dy * dy >= best:
                    break
                o = order[j]
                dx, dz = points[i, 0] - others[o, 0], points[i, 2] - others[o, 2]
                d = dx * dx + dy * dy + dz * dz
                if d < best or (d == best and o < out[i]):
                    best = d
                    out[i] = o
                j += step
        distance[i] = np.sqrt(best)


def nearest_and_distance(points: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``points`` (N, 3) the index of the nearest of ``others`` (M, 3) and how far it is; M > 0."""
    out, distance = np.zeros(len(points), np.int64), np.zeros(len(points))
    others = np.ascontiguousarray(others, np.float64)
    order = np.argsort(others[:, 1], kind='stable')
    heights = np.ascontiguousarray(others[order, 1])
    _nearest(np.ascontiguousarray(points, np.float64), others, order, heights, out, distance)
    return out, distance


def nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each of ``points`` (N, 3) the index of the nearest of ``others`` (M, 3); M > 0."""
    return nearest_and_distance(points, others)[0]
