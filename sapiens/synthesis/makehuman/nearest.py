# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Nearest neighbours between point sets."""

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
                out[i] = j


def nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each of ``points`` (N, 3) the index of the nearest of ``others`` (M, 3); M > 0."""
    out = np.zeros(len(points), np.int64)
    _nearest(np.ascontiguousarray(points, np.float64), np.ascontiguousarray(others, np.float64), out)
    return out
