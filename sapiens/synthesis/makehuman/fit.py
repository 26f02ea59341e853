# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""How cloth and skin lie on each other: loose cloth, folds, skin that gives way under cloth, clean borders."""

from __future__ import annotations

import numba
import numpy as np

from ..rasterizer import vertex_normals
from ..shading import _noise
from .nearest import nearest

SINK = 0.008
"""How far skin gives way under cloth, metres: bending must not bring it back to the surface."""


def border_distance(faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Straight distance ``(V,)`` of each vertex from the nearest open border of its mesh; infinite where none is.

    Args:
        faces: ``(F, 3)`` triangles.
        points: ``(V, 3)`` metres.
    """
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    border = np.unique(edges[count == 1])
    if not len(border):
        return np.full(len(points), np.inf)
    return np.linalg.norm(points - points[border[nearest(points, points[border])]], axis=1)


def covered(
    points: np.ndarray, normals: np.ndarray, cloth: np.ndarray, faces: np.ndarray, reach: float = 0.05
) -> np.ndarray:
    """How surely skin lies under a piece of cloth: 0 outside and at its borders, 1 from 3 cm inside.

    Args:
        points: ``(V, 3)`` skin, metres.
        normals: ``(V, 3)`` unit normals of the skin.
        cloth: ``(C, 3)`` vertices of the cloth.
        faces: ``(F, 3)`` its triangles.
        reach: Cloth farther away than this does not cover, metres.
    """
    closest = nearest(points, cloth)
    gap = cloth[closest] - points
    along = (gap * normals).sum(1)
    aside = np.linalg.norm(gap - along[:, None] * normals, axis=1)
    over = (along > -0.015) & (along < reach) & (aside < 0.5 * reach)
    return np.where(over, np.clip((border_distance(faces, cloth)[closest] - 0.01) / 0.02, 0, 1), 0.0)


def sink(points: np.ndarray, faces: np.ndarray, under: np.ndarray, scale: float) -> np.ndarray:
    """Skin moved inwards where it is under cloth.

    Args:
        points: ``(V, 3)`` metres.
        faces: ``(F, 3)`` triangles of the skin.
        under: ``(V,)`` from `covered`.
        scale: Size of the body relative to an adult.
    """
    return points - vertex_normals(points, faces) * (SINK * scale * under)[:, None]


def drape(
    points: np.ndarray, faces: np.ndarray, places: np.ndarray, border: np.ndarray, scale: float,
    rng: np.random.Generator, loose: float, depth: float,
) -> np.ndarray:  # fmt: skip
    """Cloth let out from the body and laid in folds; its borders keep their place.

    Args:
        points: ``(V, 3)`` vertices at rest, metres.
        faces: ``(F, 3)`` triangles.
        places: ``(V, 3)`` the same on the body of standard shape, so that folds do not depend on who wears it.
        border: ``(V,)`` from `border_distance`.
        scale: Size of the body relative to an adult.
        rng: Source of randomness.
        loose: How far the cloth stands off where it hangs, metres.
        depth: Depth of the folds, metres.
    """
    shift, lean = rng.uniform(0, 50, 3), rng.normal(0, 0.25, 2)
    # Folds run downwards, somewhat aslant, and wander.
    across = places[:, [0, 2]] + lean * places[:, 1:2]
    field = np.empty(len(points))
    _folds(np.column_stack([across[:, 0], places[:, 1], across[:, 1]]) + shift, field)
    free = np.clip(border / 0.06, 0.0, 1.0)
    offset = np.maximum((loose + depth * field) * free, 0.0) * scale
    return points + vertex_normals(points, faces) * offset[:, None]


@numba.njit(cache=True, fastmath=True)
def _folds(places, out):
    """Noise of two sizes, drawn out downwards, with sharper crests than valleys; about -1 to 1."""
    for i in range(places.shape[0]):
        x, y, z = places[i, 0], places[i, 1], places[i, 2]
        x += 0.02 * _noise(x * 8, y * 8, z * 8)
        wide = _noise(x * 13, y * 5, z * 13)
        fine = _noise(x * 26 + 7.3, y * 11, z * 26)
        out[i] = 0.7 * (1 - 2 * abs(wide)) + 0.45 * (1 - 2 * abs(fine)) - 0.3


def cut(
    faces: np.ndarray, uv: np.ndarray, field: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut triangles along ``field`` = 0 and keep both sides, so that a border between labels is a clean line.

    Args:
        faces: ``(F, 3)`` triangles over V vertices.
        uv: ``(F, 3, 2)`` texture coordinates of their corners.
        field: ``(V,)``.

    Returns:
        Faces over V + N vertices, their uv, the face that each comes from, and of the N new vertices the ``(N, 2)``
        ends of the edges on which they lie and how far along, ``(N,)``.
    """
    above = (field > 0)[faces]
    crossed = np.flatnonzero((above.sum(1) == 1) | (above.sum(1) == 2))
    # Turn each such triangle so that the corner that is alone on its side comes first.
    alone = np.argmax(above[crossed] == (above[crossed].sum(1) == 1)[:, None], axis=1)
    order = (alone[:, None] + np.arange(3)) % 3
    corner = np.take_along_axis(faces[crossed], order, 1)
    corner_uv = np.take_along_axis(uv[crossed], order[..., None], 1)
    edges = np.sort(np.concatenate([corner[:, [0, 1]], corner[:, [0, 2]]]), 1)
    sources, index = np.unique(edges, axis=0, return_inverse=True)
    index = index.reshape(-1)
    first, second = field[sources[:, 0]], field[sources[:, 1]]
    mix = first / (first - second)
    new = len(field) + index.reshape(2, -1).T
    share = np.abs(field[corner[:, :1]] / (field[corner[:, :1]] - field[corner[:, 1:]]))[..., None]
    new_uv = corner_uv[:, :1] * (1 - share) + corner_uv[:, 1:] * share
    a, b, c, ab, ac = corner[:, 0], corner[:, 1], corner[:, 2], new[:, 0], new[:, 1]
    ua, ub, uc, uab, uac = corner_uv[:, 0], corner_uv[:, 1], corner_uv[:, 2], new_uv[:, 0], new_uv[:, 1]
    kept = np.setdiff1d(np.arange(len(faces)), crossed)
    pieces = [np.stack(p, 1) for p in ((a, ab, ac), (ab, b, c), (ab, c, ac))]
    pieces_uv = [np.stack(p, 1) for p in ((ua, uab, uac), (uab, ub, uc), (uab, uc, uac))]
    return (
        np.concatenate([faces[kept], *pieces]).astype(np.int32),
        np.concatenate([uv[kept], *pieces_uv]).astype(np.float32),
        np.concatenate([kept, crossed, crossed, crossed]),
        sources.astype(np.int32),
        mix,
    )
