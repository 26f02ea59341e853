# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Cut triangle meshes along level lines and split their triangles in four."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..rasterizer import vertex_normals


@dataclass
class Cut:
    """Triangles on both sides of the line where a vertex value is 0.

    Attributes:
        faces: ``(F, 3)`` int32 over the V old and N new vertices.
        inside: ``(F,)`` bool, whether the value is greater than 0 there.
        origin: ``(F,)`` the triangle that each came from.
        corners: ``(C, 3, 3)`` float32: of each corner of the last C triangles the shares of the three corners of its
            origin; the triangles before those were not cut.
        sources: ``(N, 2)`` int32 old vertices between which each new one lies.
        mix: ``(N,)`` share of the second.
    """

    faces: np.ndarray
    inside: np.ndarray
    origin: np.ndarray
    corners: np.ndarray
    sources: np.ndarray
    mix: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """``(N, 2)`` shares of both ``sources``."""
        return np.stack([1 - self.mix, self.mix], 1)

    def spread(self, uv: np.ndarray) -> np.ndarray:
        """Corner values ``(F_old, 3, C)`` of the new triangles, ``(F, 3, C)`` float32."""
        old = uv[self.origin]
        first = len(old) - len(self.corners)
        old[first:] = self.corners @ old[first:]
        return old.astype(np.float32)


def cut(faces: np.ndarray, value: np.ndarray) -> Cut:
    """Cut ``faces`` (F, 3) along ``value`` (V,) = 0; every triangle stays, those on the line in three pieces."""
    flags = (value > 0)[faces]
    count = flags.sum(1)
    mixed = np.flatnonzero((count == 1) | (count == 2))
    whole = np.flatnonzero((count == 0) | (count == 3))
    lone_inside = count[mixed] == 1
    lone = np.where(lone_inside, np.argmax(flags[mixed], 1), np.argmin(flags[mixed], 1))
    order = (lone[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(faces[mixed], order, 1).T
    ends = np.sort(np.concatenate([np.stack([a, b], 1), np.stack([a, c], 1)]), 1).astype(np.int64)
    codes, number = np.unique(ends[:, 0] * len(value) + ends[:, 1], return_inverse=True)
    sources = np.stack([codes // len(value), codes % len(value)], 1).astype(np.int32)
    first, second = value[sources[:, 0]], value[sources[:, 1]]
    mix = first / np.where(first == second, 1.0, first - second)
    ab, ac = np.split(len(value) + number.ravel(), 2)
    t = (value[a] / (value[a] - value[b]), value[a] / (value[a] - value[c])) if len(a) else (np.zeros(0), np.zeros(0))
    corner = np.eye(3, dtype=np.float32)[order]  # (M, 3 [a, b, c], 3)
    on_ab = corner[:, 0] * (1 - t[0][:, None]) + corner[:, 1] * t[0][:, None]
    on_ac = corner[:, 0] * (1 - t[1][:, None]) + corner[:, 2] * t[1][:, None]
    new = np.concatenate([np.stack([a, ab, ac], 1), np.stack([ab, b, c], 1), np.stack([ab, c, ac], 1)])
    shares = np.concatenate([
        np.stack([corner[:, 0], on_ab, on_ac], 1),
        np.stack([on_ab, corner[:, 1], corner[:, 2]], 1),
        np.stack([on_ab, corner[:, 2], on_ac], 1),
    ])  # fmt: skip
    return Cut(
        faces=np.concatenate([faces[whole], new]).astype(np.int32),
        inside=np.concatenate([count[whole] == 3, lone_inside, ~lone_inside, ~lone_inside]),
        origin=np.concatenate([whole, mixed, mixed, mixed]),
        corners=shares,
        sources=sources,
        mix=mix,
    )


def between(values: np.ndarray, sources: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """Values ``(N, ...)`` on edges: ``sources`` (N, 2) are their ends, ``mix`` (N,) the share of the second."""
    mix = np.asarray(mix).reshape(-1, *[1] * (values.ndim - 1))
    return values[sources[:, 0]] * (1 - mix) + values[sources[:, 1]] * mix


def subdivide(faces: np.ndarray, uv: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Split each triangle in four at the middles of its edges.

    Args:
        faces: ``(F, 3)`` over ``count`` vertices.
        uv: ``(F, 3, 2)``.
        count: Number of vertices.

    Returns:
        Faces ``(4F, 3)`` int32, uv ``(4F, 3, 2)``, the ends ``(M, 2)`` of the edges on whose middles the new vertices
        ``count + i`` lie, and the triangle that each face came from.
    """
    ends = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1).astype(np.int64)
    codes, number = np.unique(ends[:, 0] * count + ends[:, 1], return_inverse=True)
    edges = np.stack([codes // count, codes % count], 1).astype(np.int32)
    ab, bc, ca = np.split(count + number.ravel(), 3)
    a, b, c = faces.T
    new = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    ua, ub, uc = uv[:, 0], uv[:, 1], uv[:, 2]
    uab, ubc, uca = (ua + ub) / 2, (ub + uc) / 2, (uc + ua) / 2
    each = ((ua, uab, uca), (uab, ub, ubc), (uca, ubc, uc), (uab, ubc, uca))
    corners = np.concatenate([np.stack(t, 1) for t in each])
    return new.astype(np.int32), corners.astype(np.float32), edges, np.tile(np.arange(len(faces)), 4)


def refined(points: np.ndarray, faces: np.ndarray, edges: np.ndarray, most: float = 0.12) -> np.ndarray:
    """Vertices ``(V, 3)`` of a mesh and, behind them, the `rounded_middles` ``(M, 3)`` of edges."""
    return np.concatenate([points, rounded_middles(points, vertex_normals(points, faces), edges, most)])


def rounded_middles(points: np.ndarray, normals: np.ndarray, edges: np.ndarray, most: float = 0.12) -> np.ndarray:
    """Middles ``(M, 3)`` of edges on the curved surface that the normals at their ends tell of (cubic, as in PN
    triangles), at most ``most`` of the edge's length off its straight middle.
    """
    a, b = points[edges[:, 0]], points[edges[:, 1]]
    na, nb = normals[edges[:, 0]], normals[edges[:, 1]]
    d = b - a
    bulge = ((d * nb).sum(1, keepdims=True) * nb - (d * na).sum(1, keepdims=True) * na) / 8
    limit = most * np.linalg.norm(d, axis=1, keepdims=True)
    size = np.linalg.norm(bulge, axis=1, keepdims=True)
    return (a + b) / 2 + bulge * np.minimum(1, limit / np.maximum(size, 1e-12))
