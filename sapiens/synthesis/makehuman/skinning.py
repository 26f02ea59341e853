# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Skinning weights: the four strongest bones of a vertex, and mixes of them."""

from __future__ import annotations

import numpy as np


def strongest(dense: np.ndarray, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The ``count`` largest weights of each row, normalised: int16 columns and float32 weights."""
    columns = np.argpartition(-dense, count, axis=1)[:, :count]
    values = np.take_along_axis(dense, columns, 1)
    return columns.astype(np.int16), (values / np.maximum(values.sum(1, keepdims=True), 1e-9)).astype(np.float32)


def dense_skin(bones: np.ndarray, weights: np.ndarray, bone_count: int) -> np.ndarray:
    """Weights ``(V, B)`` float32 of all bones, from what `strongest` gives."""
    dense = np.zeros((len(bones), bone_count), np.float32)
    np.put_along_axis(dense, bones.astype(np.int64), weights, 1)
    return dense


def mixed_skin(
    bones: np.ndarray, weights: np.ndarray, sources: np.ndarray, shares: np.ndarray, bone_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Skinning ``(N, 4)`` of vertices that lie between the ``sources`` (N, K), with shares, of ``bones`` (V, 4)."""
    dense = np.zeros((len(sources), bone_count), np.float32)
    rows = np.arange(len(sources))
    for v, share in zip(sources.T, shares.T, strict=True):
        for k in range(bones.shape[1]):
            dense[rows, bones[v, k]] += (share * weights[v, k]).astype(np.float32)
    return strongest(dense)
