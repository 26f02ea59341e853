# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Bones, posing and linear blend skinning.

Body axes at rest: y up, x to the person's left, z to the front; metres. A bone's rotation is given in these rest axes:
it turns everything below the bone about the bone's head. So no bone needs axes of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np


@dataclass
class Skeleton:
    """A tree of bones, parents before children.

    Attributes:
        names: Names of the B bones, MakeHuman's.
        parents: ``(B,)`` int32, -1 for the root.
        heads: ``(B, 3)`` float64 joints at rest.
        tails: ``(B, 3)`` float64 ends at rest.
    """

    names: tuple[str, ...]
    parents: np.ndarray
    heads: np.ndarray
    tails: np.ndarray

    def __post_init__(self) -> None:
        self.index = {name: i for i, name in enumerate(self.names)}

    def head(self, name: str) -> np.ndarray:
        """Rest position of a bone's head."""
        return self.heads[self.index[name]]

    def transforms(self, rotations: dict[str, np.ndarray], root: np.ndarray, move: np.ndarray) -> np.ndarray:
        """World transforms of all bones.

        Args:
            rotations: Bone name -> ``(3, 3)`` rotation in rest axes; absent = none.
            root: ``(3, 3)`` rotation of the whole person about the root's head.
            move: ``(3,)`` where the root's head goes.

        Returns:
            ``(B, 3, 4)`` float64: rest positions to world positions.
        """
        local = np.tile(np.eye(3), (len(self.names), 1, 1))
        for name, turn in rotations.items():
            if name in self.index:
                local[self.index[name]] = turn
        out = np.empty((len(self.names), 3, 4))
        root, move = np.ascontiguousarray(root, np.float64), np.asarray(move, np.float64)
        _chain(self.parents, np.ascontiguousarray(self.heads, np.float64), local, root, move, out)
        return out


@numba.njit(cache=True)
def _chain(parents, heads, local, root, move, out):
    place = np.empty_like(heads)
    for i in range(len(parents)):
        p = parents[i]
        for j in range(3):
            if p < 0:
                place[i, j] = move[j]
            else:
                place[i, j] = place[p, j]
                for k in range(3):
                    place[i, j] += out[p, j, k] * (heads[i, k] - heads[p, k])
            for k in range(3):
                out[i, j, k] = 0.0
                for m in range(3):
                    out[i, j, k] += (root[j, m] if p < 0 else out[p, j, m]) * local[i, m, k]
        for j in range(3):
            out[i, j, 3] = place[i, j]
            for k in range(3):
                out[i, j, 3] -= out[i, j, k] * heads[i, k]


@numba.njit(cache=True, fastmath=True)
def _skin(points, bones, weights, transforms, out):
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        ox = oy = oz = 0.0
        for k in range(bones.shape[1]):
            w = weights[i, k]
            if w == 0:
                continue
            t = transforms[bones[i, k]]
            ox += w * (t[0, 0] * x + t[0, 1] * y + t[0, 2] * z + t[0, 3])
            oy += w * (t[1, 0] * x + t[1, 1] * y + t[1, 2] * z + t[1, 3])
            oz += w * (t[2, 0] * x + t[2, 1] * y + t[2, 2] * z + t[2, 3])
        out[i, 0], out[i, 1], out[i, 2] = ox, oy, oz


def skin(points: np.ndarray, bones: np.ndarray, weights: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """Linear blend skinning.

    Args:
        points: ``(N, 3)`` rest positions.
        bones: ``(N, K)`` int16 bone indices.
        weights: ``(N, K)`` float32, rows add up to 1.
        transforms: ``(B, 3, 4)`` from `Skeleton.transforms`.

    Returns:
        ``(N, 3)`` float32.
    """
    out = np.empty((len(points), 3), np.float32)
    _skin(np.ascontiguousarray(points, np.float64), bones, weights, transforms, out)
    return out


def rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    """Rotation ``(3, 3)`` by ``degrees`` about ``axis`` (right-handed)."""
    # Plain numbers: a person takes hundreds of these, and numpy's overhead on three numbers is ten times the work.
    x, y, z = (float(v) for v in axis)
    length = math.sqrt(x * x + y * y + z * z)
    x, y, z = x / length, y / length, z / length
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    t = 1 - c
    return np.array([
        [t * x * x + c, t * x * y - s * z, t * x * z + s * y],
        [t * x * y + s * z, t * y * y + c, t * y * z - s * x],
        [t * x * z - s * y, t * y * z + s * x, t * z * z + c],
    ])  # fmt: skip


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector with length 1."""
    return vector / math.sqrt(vector @ vector)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of two single vectors; numpy's own spends most of its time on shapes."""
    (ax, ay, az), (bx, by, bz) = a, b
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
