# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A z-buffer rasterizer: for each pixel centre the nearest triangle, its depth and barycentric coordinates.

Camera axes are OpenCV's (x right, y down, z forward); the centre of pixel (row, column) is the image point
(x = column, y = row). Rasterization is exact at pixel centres, in double precision, and does not anti-alias:
labels are samples, never mixtures.
"""

from __future__ import annotations

import numba
import numpy as np

NEAR = 0.05
"""Triangles with a corner nearer than this many metres are dropped."""


@numba.njit(cache=True, fastmath=False)
def _raster_perspective(points, faces, fx, fy, cx, cy, uv, material, texels, table, depth, face_id, bary):
    height, width = depth.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        za, zb, zc = points[a, 2], points[b, 2], points[c, 2]
        if za < NEAR or zb < NEAR or zc < NEAR:
            continue
        ia, ib, ic = 1.0 / za, 1.0 / zb, 1.0 / zc
        xa, ya = fx * points[a, 0] * ia + cx, fy * points[a, 1] * ia + cy
        xb, yb = fx * points[b, 0] * ib + cx, fy * points[b, 1] * ib + cy
        xc, yc = fx * points[c, 0] * ic + cx, fy * points[c, 1] * ic + cy
        x0 = max(int(np.ceil(min(xa, xb, xc))), 0)
        x1 = min(int(np.floor(max(xa, xb, xc))), width - 1)
        y0 = max(int(np.ceil(min(ya, yb, yc))), 0)
        y1 = min(int(np.floor(max(ya, yb, yc))), height - 1)
        if x0 > x1 or y0 > y1:
            continue
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if area == 0.0:
            continue
        inverse = 1.0 / area
        m = material[f]
        tested = table[m, 3] != 0
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                wa = ((xb - x) * (yc - y) - (xc - x) * (yb - y)) * inverse
                wb = ((xc - x) * (ya - y) - (xa - x) * (yc - y)) * inverse
                wc = 1.0 - wa - wb
                if wa < 0.0 or wb < 0.0 or wc < 0.0:
                    continue
                z = 1.0 / (wa * ia + wb * ib + wc * ic)
                if z >= depth[y, x]:
                    continue
                pa, pb = wa * ia * z, wb * ib * z
                if tested:
                    pc = 1.0 - pa - pb
                    u = pa * uv[f, 0, 0] + pb * uv[f, 1, 0] + pc * uv[f, 2, 0]
                    v = pa * uv[f, 0, 1] + pb * uv[f, 1, 1] + pc * uv[f, 2, 1]
                    w, h = table[m, 1], table[m, 2]
                    column = int(np.floor((u - np.floor(u)) * w))
                    row = int(np.floor((1.0 - (v - np.floor(v))) * h))
                    column, row = min(max(column, 0), w - 1), min(max(row, 0), h - 1)
                    if texels[table[m, 0] + row * w + column, 3] < 128:
                        continue
                depth[y, x] = z
                face_id[y, x] = f
                bary[y, x, 0] = pa
                bary[y, x, 1] = pb


@numba.njit(cache=True, fastmath=True)
def _raster_parallel(points, faces, skip, depth):
    """Orthographic depth only: ``points`` hold pixel x, pixel y and distance along the light."""
    height, width = depth.shape
    for f in range(faces.shape[0]):
        if skip[f]:
            continue
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        xa, ya, xb, yb = points[a, 0], points[a, 1], points[b, 0], points[b, 1]
        xc, yc = points[c, 0], points[c, 1]
        x0, x1 = max(int(np.ceil(min(xa, xb, xc))), 0), min(int(np.floor(max(xa, xb, xc))), width - 1)
        y0, y1 = max(int(np.ceil(min(ya, yb, yc))), 0), min(int(np.floor(max(ya, yb, yc))), height - 1)
        if x0 > x1 or y0 > y1:
            continue
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if area == 0.0:
            continue
        inverse = 1.0 / area
        za, zb, zc = points[a, 2], points[b, 2], points[c, 2]
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                wa = ((xb - x) * (yc - y) - (xc - x) * (yb - y)) * inverse
                wb = ((xc - x) * (ya - y) - (xa - x) * (yc - y)) * inverse
                if wa < 0.0 or wb < 0.0 or wa + wb > 1.0:
                    continue
                z = wa * za + wb * zb + (1.0 - wa - wb) * zc
                if z < depth[y, x]:
                    depth[y, x] = z


def rasterize(
    points: np.ndarray,
    faces: np.ndarray,
    intrinsics: np.ndarray,
    size: tuple[int, int],
    uv: np.ndarray | None = None,
    material: np.ndarray | None = None,
    texels: np.ndarray | None = None,
    table: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find what each pixel centre sees.

    Args:
        points: ``(V, 3)`` vertices in camera axes, metres.
        faces: ``(F, 3)`` int32; both sides are seen.
        intrinsics: ``(3, 3)`` camera matrix, no skew.
        size: ``(H, W)``.
        uv: ``(F, 3, 2)`` texture coordinates of the corners, v up; needed where materials are alpha-tested.
        material: ``(F,)`` int32 row of ``table``.
        texels: ``(T, 4)`` uint8 RGBA, all textures one after another.
        table: ``(M, 4)`` int64: first texel, width, height, whether alpha < 128 is a hole.

    Returns:
        depth ``(H, W)`` float64 (z in metres, infinity where nothing is hit), face index ``(H, W)`` int32 (-1),
        and ``(H, W, 2)`` float64 perspective-correct weights of the face's first two corners.
    """
    height, width = size
    depth = np.full((height, width), np.inf)
    face_id = np.full((height, width), -1, np.int32)
    bary = np.zeros((height, width, 2))
    if material is None:
        material = np.zeros(len(faces), np.int32)
        table = np.zeros((1, 4), np.int64)
        texels = np.full((1, 4), 255, np.uint8)
    if uv is None:
        uv = np.zeros((len(faces), 3, 2), np.float32)
    k = np.asarray(intrinsics, np.float64)
    _raster_perspective(
        np.ascontiguousarray(points, np.float64), np.ascontiguousarray(faces, np.int32),
        k[0, 0], k[1, 1], k[0, 2], k[1, 2], uv, material, texels, table, depth, face_id, bary,
    )  # fmt: skip
    return depth, face_id, bary


def rasterize_parallel(points: np.ndarray, faces: np.ndarray, skip: np.ndarray, resolution: int) -> np.ndarray:
    """Depth map of a parallel projection, for shadows.

    Args:
        points: ``(V, 3)`` float32: pixel x, pixel y, distance along the view.
        faces: ``(F, 3)`` int32.
        skip: ``(F,)`` bool; faces that cast no shadow.
        resolution: Side of the square map in pixels.

    Returns:
        ``(resolution, resolution)`` float32 distances, infinity where nothing is hit.
    """
    depth = np.full((resolution, resolution), np.inf, np.float32)
    _raster_parallel(points, faces, skip, depth)
    return depth


def interpolate(values: np.ndarray, faces: np.ndarray, face_id: np.ndarray, bary: np.ndarray) -> np.ndarray:
    """Interpolate ``(V, C)`` vertex values at the pixels; pixels without a face get 0.

    Args:
        values: ``(V, C)``.
        faces: ``(F, 3)``.
        face_id: ``(H, W)`` from `rasterize`.
        bary: ``(H, W, 2)`` from `rasterize`.

    Returns:
        ``(H, W, C)`` float64.
    """
    hit = face_id >= 0
    corners = faces[face_id[hit]]
    a, b = bary[hit][:, :1], bary[hit][:, 1:]
    out = np.zeros((*face_id.shape, values.shape[1]))
    out[hit] = a * values[corners[:, 0]] + b * values[corners[:, 1]] + (1 - a - b) * values[corners[:, 2]]
    return out


@numba.njit(cache=True)
def _vertex_normals(points, faces, out):
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(out.shape[0]):
        length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2)
        if length > 0:
            for k in range(3):
                out[i, k] /= length


def vertex_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals ``(V, 3)`` float32 of a mesh whose faces turn counter-clockwise seen from outside."""
    out = np.zeros((len(points), 3))
    _vertex_normals(np.ascontiguousarray(points, np.float64), np.ascontiguousarray(faces, np.int32), out)
    return out.astype(np.float32)
