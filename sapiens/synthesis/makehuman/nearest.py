# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Distances between point sets."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, fastmath=True)
def _nearest(points, others, out):
    for i in range(points.shape[0]):
        best = 1e30
        for j in range(others.shape[0]):
            dx, dy, dz = points[i, 0] - others[j, 0], points[i, 1] - others[j, 1], points[i, 2] - others[j, 2]
            d = dx * dx + dy * dy + dz * dz
            if d < best:
                best = d
        out[i] = np.sqrt(best)


def nearest_distance(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each of ``points`` (N, 3) the distance to the nearest of ``others`` (M, 3); infinity where M = 0."""
    out = np.full(len(points), np.inf)
    if len(others):
        _nearest(np.ascontiguousarray(points, np.float64), np.ascontiguousarray(others, np.float64), out)
    return out
