# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Shadow maps: the depth of a scene along each light, and which points its light reaches."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .environment import Lights
from .mesh import Scene
from .rasterizer import rasterize_parallel


@numba.njit(cache=True, fastmath=True)
def light_share(px, py, pz, nx, ny, nz, light, frames, maps, center, scale, bias):
    """Share of light number ``light`` that reaches a point: 2x2 filtered shadow map."""
    resolution = maps.shape[1]
    qx, qy, qz = px - center[0] + nx * bias, py - center[1] + ny * bias, pz - center[2] + nz * bias
    middle = resolution * 0.5 - 0.5
    u = (qx * frames[light, 0, 0] + qy * frames[light, 0, 1] + qz * frames[light, 0, 2]) * scale + middle
    v = (qx * frames[light, 1, 0] + qy * frames[light, 1, 1] + qz * frames[light, 1, 2]) * scale + middle
    d = -(qx * frames[light, 2, 0] + qy * frames[light, 2, 1] + qz * frames[light, 2, 2]) - bias
    iu, iv = int(np.floor(u)), int(np.floor(v))
    if iu < 0 or iv < 0 or iu >= resolution - 1 or iv >= resolution - 1:
        return 1.0
    fu, fv = u - iu, v - iv
    total = 0.0
    if d <= maps[light, iv, iu]:
        total += (1 - fu) * (1 - fv)
    if d <= maps[light, iv, iu + 1]:
        total += fu * (1 - fv)
    if d <= maps[light, iv + 1, iu]:
        total += (1 - fu) * fv
    if d <= maps[light, iv + 1, iu + 1]:
        total += fu * fv
    return total


@numba.njit(cache=True, fastmath=True)
def _project(points, matrix, shift, out):
    """BLAS takes many times as long for products with three columns."""
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        out[i, 0] = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + shift
        out[i, 1] = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + shift
        out[i, 2] = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z


class ShadowMaps(NamedTuple):
    """Depth of the scene seen from each of L lights, as `light_share` takes them.

    Attributes:
        frames: ``(L, 3, 3)`` float32: pixel x, pixel y and the light's direction as rows.
        maps: ``(L, resolution, resolution)`` float32 distances along the lights, metres.
        center: ``(3,)`` float32 what the middles of the maps show.
        scale: Pixels a metre.
        bias: How far surfaces are moved towards the light before they are compared, metres.
    """

    frames: np.ndarray
    maps: np.ndarray
    center: np.ndarray
    scale: np.float32
    bias: np.float32


def opaque(scene: Scene) -> np.ndarray:
    """Faces that cast shadows, ``(F,)`` bool: all but those whose middle is a hole of a cut-out texture."""
    out = np.ones(len(scene.faces), np.bool_)
    _find_holes(scene.uv, scene.material, scene.texels, scene.table, out)
    return out


@numba.njit(cache=True)
def _find_holes(uv, material, texels, table, out):
    for f in range(len(out)):
        m = material[f]
        if table[m, 3] != 0:
            u = (uv[f, 0, 0] + uv[f, 1, 0] + uv[f, 2, 0]) / 3
            v = (uv[f, 0, 1] + uv[f, 1, 1] + uv[f, 2, 1]) / 3
            column = min(int((u - np.floor(u)) * table[m, 1]), table[m, 1] - 1)
            row = min(int((1 - (v - np.floor(v))) * table[m, 2]), table[m, 2] - 1)
            out[f] = texels[table[m, 0] + row * table[m, 1] + column, 3] >= 128


def shadow_maps(scene: Scene, lights: Lights, resolution: int = 256) -> ShadowMaps:
    """Render the scene's depth along each light.

    Args:
        scene: What casts shadows.
        lights: L parallel lights.
        resolution: Side of each map in pixels.
    """
    low, high = scene.vertices.min(0), scene.vertices.max(0)
    center = ((low + high) / 2).astype(np.float32)
    radius = float(np.linalg.norm(high - low)) / 2 + 0.02
    scale = resolution * 0.49 / radius
    frames = np.empty((len(lights.direction), 3, 3), np.float32)
    maps = np.empty((len(frames), resolution, resolution), np.float32)
    centred = (scene.vertices - center) * np.float32(scale)
    points = np.empty_like(centred)
    skip = ~opaque(scene)
    for i, d in enumerate(lights.direction):
        side = np.cross(d, [1.0, 0, 0] if abs(d[1]) > 0.9 else [0, 1.0, 0])
        side /= np.linalg.norm(side)
        frames[i] = side, np.cross(d, side), d
        # Pixel x, pixel y and distance at once.
        _project(centred, frames[i] * np.array([[1], [1], [-1 / scale]], np.float32), resolution * 0.5 - 0.5, points)
        maps[i] = rasterize_parallel(points, scene.faces, skip, resolution)
    return ShadowMaps(frames, maps, center, np.float32(scale), np.float32(1.2 / scale))
