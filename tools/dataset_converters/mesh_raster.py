# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Depth and normals of a triangle mesh seen by a camera, for data sets that ship scans and cameras (numpy only)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sapiens.errors import UserError

# Candidate pixels handled at once.
_CHUNK = 4_000_000


def read_obj(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices ``(V, 3)`` and triangles ``(F, 3)`` of a Wavefront file; polygons are cut into fans.

    Raises:
        UserError: The file is missing or holds no mesh.
    """
    vertices, faces = [], []
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            for line in file:
                if line.startswith('v '):
                    vertices.append([float(x) for x in line.split()[1:4]])
                elif line.startswith('f '):
                    corners = [int(word.split('/')[0]) for word in line.split()[1:]]
                    corners = [c - 1 if c > 0 else len(vertices) + c for c in corners]
                    faces += [[corners[0], b, c] for b, c in zip(corners[1:-1], corners[2:], strict=True)]
    except FileNotFoundError:
        raise UserError(f'{path}: no such mesh') from None
    except ValueError as error:
        raise UserError(f'{path}: not a Wavefront mesh ({error})') from None
    if not vertices or not faces:
        raise UserError(f'{path}: holds no mesh')
    return np.array(vertices), np.array(faces, np.int64)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """``(V, 3)`` unit normals, the mean of the triangles' weighted by area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = np.zeros_like(vertices)
    cross = np.cross(b - a, c - a)
    for i in range(3):
        np.add.at(normals, faces[:, i], cross)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def render(
    points: np.ndarray, pixels: np.ndarray, faces: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a mesh with a depth buffer.

    Args:
        points: ``(V, 3)`` vertices in camera axes (x right, y down, z forward), metres.
        pixels: ``(V, 2)`` their projections, pixel centres at integers (lens distortion may be in them).
        faces: ``(F, 3)``.
        size: H, W.

    Returns:
        ``(H, W)`` float32 depth in metres, 0 where nothing is seen, and ``(H, W, 3)`` float32 unit normals,
        x right, y up, z towards the viewer, (0, 0, 0) where nothing is seen.
    """
    height, width = size
    depth = np.full(height * width, np.inf)
    owner = np.full(height * width, -1, np.int64)
    visible = faces[(points[faces, 2] > 1e-6).all(1)]
    corners = pixels[visible]
    low = np.ceil(corners.min(1)).astype(np.int64).clip(0, None)
    high = np.floor(corners.max(1)).astype(np.int64).clip(None, [width - 1, height - 1])
    extent = (high - low + 1).clip(0, None)
    count = extent[:, 0] * extent[:, 1]
    visible, low, extent, count = (array[count > 0] for array in (visible, low, extent, count))
    ends = np.cumsum(count)
    start = 0
    while start < len(visible):
        stop = max(start + 1, int(np.searchsorted(ends, (ends[start - 1] if start else 0) + _CHUNK, 'right')))
        part = slice(start, stop)
        which = np.repeat(np.arange(start, stop), count[part])
        offset = np.arange(len(which)) - np.repeat(ends[part] - count[part] - (ends[start] - count[start]), count[part])
        place = low[which] + np.stack([offset % extent[which, 0], offset // extent[which, 0]], 1)
        weights, inside = _barycentric(place, pixels[visible[which]])
        which, place, weights = which[inside], place[inside], weights[inside]
        # In a pinhole camera 1 / z is linear over the picture.
        z = 1 / (weights / points[visible[which], 2]).sum(1)
        flat = place[:, 1] * width + place[:, 0]
        np.minimum.at(depth, flat, z)
        nearest = z <= depth[flat]
        owner[flat[nearest]] = which[nearest]
        start = stop
    seen = np.flatnonzero(owner >= 0)
    triangles = visible[owner[seen]]
    place = np.stack([seen % width, seen // width], 1)
    weights, _ = _barycentric(place, pixels[triangles])
    weights = weights / points[triangles, 2]
    weights /= weights.sum(1, keepdims=True)
    normals = (vertex_normals(points, faces)[triangles] * weights[..., None]).sum(1)
    normals *= np.array([1, -1, -1])
    # What is seen faces the camera, whichever way the triangles wind.
    towards = (points[triangles] * weights[..., None]).sum(1) * np.array([-1, 1, 1])
    normals *= np.where((normals * towards).sum(1, keepdims=True) < 0, -1, 1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    picture = np.zeros((height * width, 3), np.float32)
    picture[seen] = normals
    depth[~np.isfinite(depth)] = 0
    return depth.reshape(size).astype(np.float32), picture.reshape(height, width, 3)


def _barycentric(place: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``(N, 3)`` of points in their triangles ``(N, 3, 2)``, and whether they lie inside."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]

    def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]

    area = cross(b - a, c - a)
    flat = np.abs(area) < 1e-12
    safe = np.where(flat, 1, area)
    second, third = cross(place - a, c - a) / safe, cross(b - a, place - a) / safe
    weights = np.stack([1 - second - third, second, third], 1)
    return weights, (weights >= -1e-9).all(1) & ~flat
