# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Cloth on a body at rest: it hangs over hollows, stands off the skin, and has folds. Nothing is simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np


@dataclass
class Fit:
    """How a garment sits.

    Attributes:
        ease: Least distance from what is under it, metres.
        loose: How much farther it stands off the body, metres.
        folds: Depth of the long folds that run down the body and along the limbs, metres.
        wrinkles: Depth of the short wrinkles across joints, metres.
    """

    ease: float
    loose: float
    folds: float
    wrinkles: float


def random_fit(rng: np.random.Generator, ease: float) -> Fit:
    """One garment in seven is tight; the others hang more or less loosely."""
    if rng.random() < 0.15:
        return Fit(ease, rng.uniform(0, 0.003), rng.uniform(0, 0.001), rng.uniform(0.001, 0.003))
    loose = 0.003 + 0.022 * rng.random() ** 1.7
    return Fit(ease, loose, 0.0015 + loose * rng.uniform(0.1, 0.35), rng.uniform(0.003, 0.007))


@dataclass
class FoldFrame:
    """Where folds go on a garment; made once, on the body without a person's shape.

    Attributes:
        body: ``(V, 3)`` metres: two axes across and the way down.
        arm: ``(V, 3)`` the same along the arm.
        share: ``(V,)`` how much of a vertex belongs to an arm.
        joint: ``(V,)`` 0 to 1, nearness to elbows, knees, waist, groins, armpits and ankles.
        room: ``(V,)`` metres of free space in front of each vertex.
    """

    body: np.ndarray
    arm: np.ndarray
    share: np.ndarray
    joint: np.ndarray
    room: np.ndarray


JOINTS = (
    ('lowerarm01', 0.055, 1.0), ('upperarm01', 0.07, 0.8), ('lowerleg01', 0.075, 1.0), ('upperleg01', 0.10, 0.7),
    ('foot', 0.06, 1.0), ('wrist', 0.04, 0.7),
)  # fmt: skip
"""Bones at whose heads cloth wrinkles, how far around, metres, and how much."""


def fold_frame(points: np.ndarray, share: np.ndarray, room: np.ndarray, skeleton) -> FoldFrame:
    """Frame of a garment on the unshaped body.

    Args:
        points: ``(V, 3)`` metres.
        share: ``(V,)`` blend weight of the arm bones.
        room: See `FoldFrame`.
        skeleton: Bones of that body.
    """
    body = np.stack([points[:, 0], points[:, 2], -points[:, 1]], 1)
    arm = np.zeros_like(points)
    joint = np.exp(-0.5 * ((points[:, 1] - skeleton.head('spine05')[1] - 0.06) / 0.05) ** 2) * 0.6 * (share < 0.3)
    for side, sign in (('L', 1), ('R', -1)):
        mine = points[:, 0] * sign >= 0
        a, b, c = (skeleton.head(f'{n}.{side}') for n in ('upperarm01', 'lowerarm01', 'wrist'))
        along = np.zeros(len(points))
        across = points - a
        for start, end, before in ((a, b, 0.0), (b, c, np.linalg.norm(b - a))):
            d = (end - start) / np.linalg.norm(end - start)
            t = (points - start) @ d
            here = t > 0
            along[here] = before + t[here]
            across[here] = (points - start)[here] - t[here, None] * d
        arm[mine] = np.stack([across[:, 0] * 0.7 + across[:, 2], across[:, 1], along], 1)[mine]
        for name, reach, strength in JOINTS:
            distance = np.linalg.norm(points - skeleton.head(f'{name}.{side}'), axis=1)
            joint = np.maximum(joint, strength * np.exp(-0.5 * (distance / (reach * 1.2)) ** 2))
    return FoldFrame(body, arm, np.clip(share, 0, 1), joint, room)


def waves(q: np.ndarray, rng: np.random.Generator, across: tuple[float, float], along: tuple[float, float],
          count: int = 5) -> np.ndarray:  # fmt: skip
    """Ridges ``(V,)`` in [0, 1] from a sum of bent sine waves.

    Args:
        q: ``(V, 3)`` two axes across and one along, metres.
        rng: Source of randomness.
        across: Range of wavelengths across, metres.
        along: The same along.
        count: Number of waves.
    """
    total = np.zeros(len(q))
    bend = 0.4 * np.sin(2 * np.pi * (q @ rng.uniform(-4, 4, 3) + rng.random()))
    for _ in range(count):
        turn = rng.uniform(0, 2 * np.pi)
        f = np.array([np.cos(turn) / rng.uniform(*across), np.sin(turn) / rng.uniform(*across),
                      rng.choice([-1, 1]) / rng.uniform(*along)])  # fmt: skip
        total += np.sin(2 * np.pi * (q @ f + bend + rng.random()))
    # Cloth folds are sharp on top and wide between.
    return np.clip(0.5 + 0.45 * total / np.sqrt(count * 0.5), 0, 1) ** 1.5


def fold_depth(frame: FoldFrame, fit: Fit, rng: np.random.Generator, where: np.ndarray | None = None) -> np.ndarray:
    """How far folds lift each vertex, ``(V,)`` metres, 0 or more; 0 where not ``where`` (V,), bool."""
    rows = np.arange(len(frame.share)) if where is None else np.flatnonzero(where)
    body, s = frame.body[rows], frame.share[rows]
    mine = s > 0
    arm = frame.arm[rows[mine]]
    long = waves(body, rng, (0.06, 0.13), (0.25, 0.8))
    short = waves(body, rng, (0.08, 0.3), (0.032, 0.06), 3)
    long[mine] += s[mine] * (waves(arm, rng, (0.05, 0.11), (0.15, 0.5)) - long[mine])
    short[mine] += s[mine] * (waves(arm, rng, (0.08, 0.3), (0.03, 0.05), 3) - short[mine])
    fade = waves(body, rng, (0.2, 0.5), (0.2, 0.5), 2)
    out = np.zeros(len(frame.share))
    out[rows] = fit.folds * 2 * long * (0.35 + fade) + fit.wrinkles * short * (frame.joint[rows] + 0.12 * fade)
    return out


@numba.njit(cache=True, fastmath=True)
def _relax(points, base, normals, floor, starts, others, hold, rounds):
    current = points.copy()
    after = points.copy()
    for _ in range(rounds):
        for i in range(points.shape[0]):
            n = starts[i + 1] - starts[i]
            if hold[i] or n == 0:
                continue
            x = y = z = 0.0
            for j in range(starts[i], starts[i + 1]):
                x += current[others[j], 0]
                y += current[others[j], 1]
                z += current[others[j], 2]
            # Along the normal only: cloth that slid would tear its hems to rags.
            d = ((x / n - base[i, 0]) * normals[i, 0] + (y / n - base[i, 1]) * normals[i, 1]
                 + (z / n - base[i, 2]) * normals[i, 2])  # fmt: skip
            old = ((current[i, 0] - base[i, 0]) * normals[i, 0] + (current[i, 1] - base[i, 1]) * normals[i, 1]
                   + (current[i, 2] - base[i, 2]) * normals[i, 2])  # fmt: skip
            d = max(0.3 * old + 0.7 * d, floor[i])
            for k in range(3):
                after[i, k] = base[i, k] + d * normals[i, k]
        current, after = after, current
        for i in range(points.shape[0]):
            if hold[i] or starts[i + 1] == starts[i]:
                after[i] = current[i] = points[i]
    return current


def neighbours(faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices beside each vertex of ``faces`` (F, n): ``(count + 1,)`` starts and the concatenated lists, int32."""
    ends = np.stack([faces, np.roll(faces, -1, 1)], -1).reshape(-1, 2).astype(np.int64)
    ends = ends[ends[:, 0] != ends[:, 1]]
    codes = np.unique(np.concatenate([ends[:, 0] * count + ends[:, 1], ends[:, 1] * count + ends[:, 0]]))
    starts = np.searchsorted(codes, np.arange(count + 1) * count)
    return starts.astype(np.int32), (codes % count).astype(np.int32)


def drape(
    base: np.ndarray, normals: np.ndarray, floor: np.ndarray, links: tuple[np.ndarray, np.ndarray], hold: np.ndarray,
    rounds: int,
) -> np.ndarray:  # fmt: skip
    """Pull cloth taut over hollows: smooth it, but never let it come nearer than ``floor``.

    Args:
        base: ``(V, 3)`` points of the surface under the cloth, metres.
        normals: ``(V, 3)`` its unit normals.
        floor: ``(V,)`` least height above it, metres.
        links: From `neighbours`.
        hold: ``(V,)`` bool; vertices that stay at their floor.
        rounds: More = stiffer cloth.

    Returns:
        ``(V, 3)`` float64.
    """
    base, normals = np.ascontiguousarray(base, np.float64), np.ascontiguousarray(normals, np.float64)
    floor = np.ascontiguousarray(floor, np.float64)
    return _relax(base + normals * floor[:, None], base, normals, floor, *links, hold, rounds)


@numba.njit(cache=True, fastmath=True)
def _smoothed(values, starts, others, rounds):
    current, after = values.copy(), values.copy()
    for _ in range(rounds):
        for i in range(len(values)):
            n = starts[i + 1] - starts[i]
            if n:
                total = 0.0
                for j in range(starts[i], starts[i + 1]):
                    total += current[others[j]]
                after[i] = 0.4 * current[i] + 0.6 * total / n
        current, after = after, current
    return current


def smoothed(values: np.ndarray, links: tuple[np.ndarray, np.ndarray], rounds: int) -> np.ndarray:
    """Vertex values ``(V,)`` averaged with those beside them, ``rounds`` times; level lines lose their corners."""
    return _smoothed(np.ascontiguousarray(values, np.float64), *links, rounds)


def hanging(normals: np.ndarray, links: tuple[np.ndarray, np.ndarray], share: np.ndarray) -> np.ndarray:
    """Directions ``(V, 3)`` in which cloth stands off a body: smooth, and level but on top of it, so that hems stay so.

    Args:
        normals: ``(V, 3)`` of the body, unit.
        links: From `neighbours`.
        share: ``(V,)`` how much of a vertex belongs to an arm; nothing is levelled there.
    """
    out = np.stack([smoothed(normals[:, k], links, 8) for k in range(3)], 1)
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
    out[:, 1] *= 0.2 + 0.8 * np.maximum(smoothstep(np.abs(out[:, 1]), 0.6, 0.95), share)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
