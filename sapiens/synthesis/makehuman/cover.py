# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What clothes cover: which skin lies how deep under a garment, and how much free space cloth has."""

from __future__ import annotations

import numba
import numpy as np

from ..rasterizer import vertex_normals
from .nearest import nearest_and_distance

RIM = 0.03
"""Skin is drawn this far in from the border of what covers it, metres."""
SINK = 0.010
"""How far covered skin is pressed in, metres: cloth and skin bend differently at joints."""


@numba.njit(cache=True, fastmath=True)
def _rays(origins, directions, corners, reach, least, out):
    # ``corners`` are sorted by the height of their centres: only those near a ray's heights are looked at.
    centres = np.empty((corners.shape[0], 3))
    radii = np.empty(corners.shape[0])
    for f in range(corners.shape[0]):
        radius = 0.0
        for k in range(3):
            centres[f, k] = (corners[f, 0, k] + corners[f, 1, k] + corners[f, 2, k]) / 3
        for v in range(3):
            d = 0.0
            for k in range(3):
                d += (corners[f, v, k] - centres[f, k]) ** 2
            radius = max(radius, d)
        radii[f] = np.sqrt(radius)
    widest = radii.max()
    heights = centres[:, 1].copy()
    for i in range(origins.shape[0]):
        ox, oy, oz = origins[i, 0], origins[i, 1], origins[i, 2]
        dx, dy, dz = directions[i, 0], directions[i, 1], directions[i, 2]
        best = reach
        low, high = oy + min(dy * least, dy * reach) - widest, oy + max(dy * least, dy * reach) + widest
        for f in range(np.searchsorted(heights, low), np.searchsorted(heights, high)):
            cx, cy, cz = centres[f, 0] - ox, centres[f, 1] - oy, centres[f, 2] - oz
            t = cx * dx + cy * dy + cz * dz
            r = radii[f]
            if t > best + r or t < least - r or cx * cx + cy * cy + cz * cz - t * t > r * r * 1.0001 + 1e-12:
                continue
            ax, ay, az = corners[f, 0, 0] - ox, corners[f, 0, 1] - oy, corners[f, 0, 2] - oz
            ux, uy, uz = corners[f, 1, 0] - ox - ax, corners[f, 1, 1] - oy - ay, corners[f, 1, 2] - oz - az
            vx, vy, vz = corners[f, 2, 0] - ox - ax, corners[f, 2, 1] - oy - ay, corners[f, 2, 2] - oz - az
            px, py, pz = dy * vz - dz * vy, dz * vx - dx * vz, dx * vy - dy * vx
            det = ux * px + uy * py + uz * pz
            if abs(det) < 1e-15:
                continue
            a = -(ax * px + ay * py + az * pz) / det
            qx, qy, qz = -(ay * uz - az * uy), -(az * ux - ax * uz), -(ax * uy - ay * ux)
            b = (dx * qx + dy * qy + dz * qz) / det
            t = (vx * qx + vy * qy + vz * qz) / det
            if a >= -1e-9 and b >= -1e-9 and a + b <= 1 + 1e-9 and least < t < best:
                best = t
        out[i] = best


def ray_lengths(
    origins: np.ndarray, directions: np.ndarray, points: np.ndarray, faces: np.ndarray, reach: float, least: float
) -> np.ndarray:
    """How far rays go until they hit a mesh.

    Args:
        origins: ``(N, 3)``.
        directions: ``(N, 3)`` unit.
        points: ``(V, 3)``.
        faces: ``(F, 3)``; both sides are hit.
        reach: Farthest; the result where nothing is hit.
        least: Nearest, may be negative: behind the origin.

    Returns:
        ``(N,)`` float64.
    """
    out = np.empty(len(origins))
    corners = np.asarray(points[faces], np.float64)
    corners = np.ascontiguousarray(corners[np.argsort(corners[..., 1].sum(1))])
    _rays(np.ascontiguousarray(origins, np.float64), np.ascontiguousarray(directions, np.float64), corners, reach,
          least, out)  # fmt: skip
    return out


def cover_depth(
    skin: np.ndarray, normals: np.ndarray, skin_faces: np.ndarray, points: np.ndarray, faces: np.ndarray,
    known: np.ndarray | None = None, reach: float = 0.05,
) -> np.ndarray:  # fmt: skip
    """How far inside of the border of a garment skin lies.

    Args:
        skin: ``(V, 3)`` metres.
        normals: ``(V, 3)`` unit, outwards.
        skin_faces: ``(F, n)`` faces of the skin.
        points: ``(W, 3)`` vertices of the garment.
        faces: ``(G, 3)`` its triangles.
        known: ``(V,)`` bool; skin that is covered whatever the rays say.
        reach: Cloth farther off than this covers nothing, metres.

    Returns:
        ``(V,)`` metres from the nearest skin that is not covered; 0 for that itself.
    """
    covered = ray_lengths(skin, normals, points, faces, reach, -0.02) < reach
    if known is not None:
        covered |= known
    # Rays slip through seams: a vertex between covered ones is covered.
    share, count = np.zeros(len(skin)), np.zeros(len(skin))
    for _ in range(2):
        share[:], count[:] = 0, 0
        mean = covered[skin_faces].mean(1)
        for corner in range(skin_faces.shape[1]):
            np.add.at(share, skin_faces[:, corner], mean)
            np.add.at(count, skin_faces[:, corner], 1)
        covered = (share > 0.7 * count) | (covered & (share > 0.35 * count))
    edge = skin_faces[(~covered)[skin_faces].any(1)]
    border = np.unique(edge)
    out = np.zeros(len(skin))
    outside = border[~covered[border]]
    out[covered] = nearest_and_distance(skin[covered], skin[outside])[1] if len(outside) else 1e3
    return out


def push_out(points: np.ndarray, base: np.ndarray, normals: np.ndarray, least: np.ndarray | float) -> np.ndarray:
    """Move points ``(N, 3)`` along ``normals`` until they are ``least`` above the planes through ``base``."""
    height = ((points - base) * normals).sum(1)
    return points + np.maximum(least - height, 0)[:, None] * normals


def free_space(points: np.ndarray, faces: np.ndarray, most: float = 0.12) -> np.ndarray:
    """Metres of free space in front of each vertex of a mesh before it would meet itself, at most ``most``."""
    normals = vertex_normals(points, faces)
    used = np.unique(faces)
    out = np.full(len(points), most)
    out[used] = ray_lengths(points[used] + normals[used] * 1e-3, normals[used], points, faces, most, 1e-4)
    return out
