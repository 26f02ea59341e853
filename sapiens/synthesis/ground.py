# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The floor that people stand on, and its texture at any distance."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np

from .rasterizer import rasterize_parallel

FAR = 60.0
"""How far the floor reaches, metres."""
SRGB_TO_LINEAR = (((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4).astype(np.float32)
SRGB_TO_LINEAR[:11] = np.arange(11) / 255 / 12.92


@dataclass
class Ground:
    """The horizontal plane y = ``height`` under the people.

    Attributes:
        texture: ``(n, n, 3)`` uint8 sRGB, tiled; None = no ground, the background shows below the horizon too.
        scale: Metres that one tile covers.
        height: Metres.
    """

    texture: np.ndarray | None
    scale: float = 2.0
    height: float = 0.0

    def albedo(self, points: np.ndarray, footprint: np.ndarray, hit: np.ndarray) -> np.ndarray:
        """Linear colour of the floor, from the level of a pyramid whose texels are as large as the pixels.

        Args:
            points: ``(H, W, 3)`` points of the floor, metres.
            footprint: ``(H, W)`` metres that a pixel covers.
            hit: ``(H, W)`` bool; where the floor is seen.

        Returns:
            ``(H, W, 3)`` float32; 0 where it is not seen.
        """
        level = SRGB_TO_LINEAR[self.texture]
        levels, sides, starts = [], [], [0]
        while True:
            levels.append(level.reshape(-1, 3))
            sides.append(len(level))
            starts.append(starts[-1] + len(level) ** 2)
            if len(level) == 1:
                break
            level = cv2.resize(level, (len(level) // 2, len(level) // 2), interpolation=cv2.INTER_AREA)
        out = np.zeros((*hit.shape, 3), np.float32)
        _lookup(points[..., 0] / self.scale, points[..., 2] / self.scale, footprint / self.scale * sides[0], hit,
                np.concatenate(levels), np.array(sides), np.array(starts), out)  # fmt: skip
        return out


@numba.njit(cache=True, fastmath=True)
def _lookup(u, v, texels, hit, levels, sides, starts, out):
    for y in range(hit.shape[0]):
        for x in range(hit.shape[1]):
            if not hit[y, x]:
                continue
            level = min(np.log2(max(texels[y, x], 1.0)), len(sides) - 1.001)
            whole = int(level)
            for step in range(2):
                share = level - whole if step else 1 - (level - whole)
                side, start = sides[whole + step], starts[whole + step]
                a, b = u[y, x] * side - 0.5, v[y, x] * side - 0.5
                ia, ib = int(np.floor(a)), int(np.floor(b))
                for i in range(2):
                    for j in range(2):
                        weight = share * (a - ia if i else 1 - a + ia) * (b - ib if j else 1 - b + ib)
                        t = start + ((ia + i) % side) * side + (ib + j) % side
                        for c in range(3):
                            out[y, x, c] += weight * levels[t, c]


def contact_shade(
    points: np.ndarray, vertices: np.ndarray, faces: np.ndarray, height: float = 0.0, resolution: int = 384
) -> np.ndarray:
    """Part of the sky that people and things leave to the floor close to where they touch it.

    Args:
        points: ``(H, W, 3)`` points of the floor, metres.
        vertices: ``(V, 3)`` of what stands on it, metres.
        faces: ``(F, 3)``.
        height: Of the floor.
        resolution: Side of the map in cells.

    Returns:
        ``(H, W)`` float32 in (0, 1]; 1 away from everything.
    """
    low, high = vertices[:, [0, 2]].min(0) - 0.5, vertices[:, [0, 2]].max(0) + 0.5
    cell = float((high - low).max()) / resolution
    seen = np.empty((len(vertices), 3), np.float32)
    seen[:, :2] = (vertices[:, [0, 2]] - low) / cell - 0.5
    seen[:, 2] = vertices[:, 1] - height
    under = rasterize_parallel(seen, faces, np.zeros(len(faces), bool), resolution)
    shade = np.ones_like(under)
    # The nearer something is to the floor, the smaller and the darker the patch below it.
    for clearance, spread, strength in ((0.025, 0.02, 0.5), (0.09, 0.06, 0.45), (0.3, 0.18, 0.35)):
        covered = (under < clearance).astype(np.float32)
        shade *= 1 - strength * cv2.GaussianBlur(covered, (0, 0), max(spread / cell, 0.6))
    column, row = (points[..., 0] - low[0]) / cell - 0.5, (points[..., 2] - low[1]) / cell - 0.5
    return cv2.remap(shade, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_CONSTANT, borderValue=1)  # fmt: skip
