# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What keeps a pose physical: feet on the ground, balance, and no limb inside another."""

from __future__ import annotations

import numpy as np

from .posing import SIDES, Pose, bone_rotations, clip, leg_rotations
from .skeleton import Skeleton, rotation, unit

CAPSULES: tuple[tuple[str, str, str, float], ...] = (
    ('pelvis', 'root', 'spine04', 0.085),
    ('chest', 'spine03', 'neck01', 0.095),
    ('head', 'neck03', 'head', 0.09),
    *[(f'{name}.{s}', f'{a}.{s}', f'{b}.{s}', r) for s in SIDES for name, a, b, r in (
        ('upperarm', 'upperarm01', 'lowerarm01', 0.035), ('lowerarm', 'lowerarm01', 'wrist', 0.028),
        ('hand', 'wrist', 'finger3-2', 0.024), ('upperleg', 'upperleg01', 'lowerleg01', 0.058),
        ('lowerleg', 'lowerleg01', 'foot', 0.042), ('foot', 'foot', 'toe1-1', 0.036))],
)  # fmt: skip
"""Name, bones whose heads are the ends, radius in metres for a body 1.7 m tall; thinner than flesh: skin yields."""

_JOINED = {
    frozenset(pair)
    for s in SIDES
    for pair in (
        ('chest', f'upperarm.{s}'), (f'upperarm.{s}', f'lowerarm.{s}'), (f'lowerarm.{s}', f'hand.{s}'),
        ('pelvis', f'upperleg.{s}'), (f'upperleg.{s}', f'lowerleg.{s}'), (f'lowerleg.{s}', f'foot.{s}'),
        ('head', f'upperarm.{s}'), ('chest', f'upperleg.{s}'), (f'upperleg.{s}', f'foot.{s}'),
    )
} | {frozenset(p) for p in (('pelvis', 'chest'), ('chest', 'head'), ('upperleg.L', 'upperleg.R'))}  # fmt: skip
_MAY_TOUCH = np.array([[a[0] == b[0] or frozenset((a[0], b[0])) in _JOINED for b in CAPSULES] for a in CAPSULES])


def joints(skeleton: Skeleton, transforms: np.ndarray) -> np.ndarray:
    """``(B, 3)`` world positions of the bones' heads."""
    return np.einsum('bij,bj->bi', transforms[:, :, :3], skeleton.heads) + transforms[:, :, 3]


def capsules(skeleton: Skeleton, transforms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends ``(C, 3)``, ``(C, 3)`` and radii ``(C,)`` of the body's capsules in the world."""
    at = joints(skeleton, transforms)
    a = np.array([at[skeleton.index[c[1]]] for c in CAPSULES])
    b = np.array([at[skeleton.index[c[2]]] for c in CAPSULES])
    head = [c[0] for c in CAPSULES].index('head')
    b[head] += (b[head] - a[head]) * 0.8  # up to the middle of the skull
    scale = body_height(skeleton) / 1.7
    return a, b, np.array([c[3] for c in CAPSULES]) * scale


def body_height(skeleton: Skeleton) -> float:
    """Roughly how tall the person is, metres."""
    return float(skeleton.tails[skeleton.index['head'], 1] - skeleton.heads[skeleton.index['foot.L'], 1]) * 1.06


def segment_distances(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Distances ``(N, M)`` between segments a-b ``(N, 3)`` and c-d ``(M, 3)``."""
    u, v = (b - a)[:, None], (d - c)[None]
    w = a[:, None] - c[None]
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    uw, vw = (u * w).sum(-1), (v * w).sum(-1)
    denominator = np.maximum(uu * vv - uv * uv, 1e-12)
    s = np.clip((uv * vw - vv * uw) / denominator, 0, 1)
    t = np.clip((uv * s + vw) / np.maximum(vv, 1e-12), 0, 1)
    s = np.clip((uv * t - uw) / np.maximum(uu, 1e-12), 0, 1)
    return np.linalg.norm(w + s[..., None] * u - t[..., None] * v, axis=-1)


def self_collision(skeleton: Skeleton, transforms: np.ndarray) -> float:
    """Deepest overlap, metres, of two capsules of one body that are not joined; 0 or less = none."""
    a, b, r = capsules(skeleton, transforms)
    depth = r[:, None] + r[None] - segment_distances(a, b, a, b)
    depth[_MAY_TOUCH] = -1
    return float(depth.max())


def overlap(first: tuple, second: tuple) -> float:
    """Deepest overlap, metres, between two bodies' capsules (each from `capsules`)."""
    return float((first[2][:, None] + second[2][None] - segment_distances(*first[:2], *second[:2])).max())


def _sole(skeleton: Skeleton, transforms: np.ndarray, side: str) -> float:
    """Height of the lowest point of a foot: ankle less sole, ball, toes."""
    foot, toe = skeleton.index[f'foot.{side}'], skeleton.index[f'toe1-1.{side}']
    floor = min(skeleton.tails[:, 1].min(), skeleton.heads[toe, 1] - 0.01)
    heel = skeleton.heads[foot] * [1, 0, 1] + [0, floor, -0.045]
    ball = skeleton.heads[toe] * [1, 0, 1] + [0, floor, 0]
    tip = ball + [0, 0, 0.06]
    t = transforms[foot]
    return min(float(t[1, :3] @ p + t[1, 3]) for p in (heel, ball, tip))


def settle_feet(skeleton: Skeleton, pose: Pose) -> Pose:
    """Flatten both soles and bend the longer leg until both feet stand equally low.

    The feet of a step whose heel is off the ground (walking, running) are left alone, and so are imported poses.
    """
    if pose.family == 'running' or pose.bones:
        return pose
    angles = {k: np.array(v, np.float64) for k, v in pose.angles.items()}
    pitch = np.degrees(np.arctan2(pose.tilt[2, 1], pose.tilt[1, 1]))
    flat = pose.family != 'walking'
    rotations = bone_rotations(skeleton, pose)

    def build(sides: tuple[str, ...]) -> np.ndarray:
        for side in sides:
            if flat:
                wanted = pitch + angles[f'knee.{side}'][0] - angles[f'hip.{side}'][0]
                angles[f'ankle.{side}'] = np.array([wanted])
            leg = {joint: angles[f'{joint}.{side}'] for joint in ('hip', 'knee', 'ankle')}
            leg_rotations(rotations, skeleton, {f'{j}.{side}': clip(j, v) for j, v in leg.items()}, side)
        return skeleton.transforms(rotations, pose.tilt, np.zeros(3))

    transforms = build(SIDES)
    left, right = _sole(skeleton, transforms, 'L'), _sole(skeleton, transforms, 'R')
    long, target = ('L', right) if left < right else ('R', left)
    if flat and abs(left - right) > 0.004:
        low, high = 0.0, 70.0
        knee, hip = angles[f'knee.{long}'][0], angles[f'hip.{long}'][0]
        for _ in range(12):
            middle = (low + high) / 2
            angles[f'knee.{long}'] = np.array([knee + middle])
            angles[f'hip.{long}'][0] = hip + middle * 0.5
            if _sole(skeleton, build((long,)), long) < target:
                low = middle
            else:
                high = middle
    return Pose(angles, pose.tilt, pose.family, pose.support).clipped()


def balanced(skeleton: Skeleton, transforms: np.ndarray, slack: float = 0.09) -> bool:
    """Whether the centre of mass is above the feet, give or take ``slack`` metres."""
    at = joints(skeleton, transforms)
    soles = np.array([at[skeleton.index[f'{n}.{s}']] for s in SIDES for n in ('foot', 'toe1-1')])
    return _above(centre_of_mass(skeleton, at), soles[soles[:, 1] < soles[:, 1].min() + 0.14], slack)


_MASSES: tuple[tuple[str, str, float], ...] = (
    ('root', 'spine01', 0.5), ('head', 'head', 0.08),
    *[(f'{a}.{s}', f'{b}.{s}', share) for s in SIDES for a, b, share in (
        ('upperarm01', 'lowerarm01', 0.027), ('lowerarm01', 'wrist', 0.023), ('upperleg01', 'lowerleg01', 0.10),
        ('lowerleg01', 'foot', 0.06))],
)  # fmt: skip
"""Joints between which a part of the body lies, and its share of the mass."""


def centre_of_mass(skeleton: Skeleton, at: np.ndarray) -> np.ndarray:
    """Centre of mass ``(3,)``; ``at`` are the joints, see `joints`."""
    mass = np.zeros(3)
    for first, second, share in _MASSES:
        mass += share * ((at[skeleton.index[first]] + at[skeleton.index[second]]) / 2)
    return mass


def _above(mass: np.ndarray, carriers: np.ndarray, slack: float) -> bool:
    """Whether a point is above the box around others, turned along their main axis."""
    centre = carriers[:, [0, 2]].mean(0)
    axes = np.linalg.svd(carriers[:, [0, 2]] - centre)[2]
    local, span = axes @ (mass[[0, 2]] - centre), np.abs((carriers[:, [0, 2]] - centre) @ axes.T).max(0)
    return bool((np.abs(local) <= span + slack).all())


def settle_body(points: np.ndarray, mass: np.ndarray, most: float) -> np.ndarray | None:
    """The small rotation after which a rigid body rests on the ground instead of balancing on one limb.

    It rests where its centre of mass is lowest above its lowest point; found by steps of halving size.

    Args:
        points: ``(N, 3)`` on the body's surface, metres, y up.
        mass: ``(3,)`` centre of mass.
        most: Largest turn about each axis, degrees; who would have to turn farther falls over.

    Returns:
        ``(3, 3)``, about the x axis, then about z; None for who falls over.
    """
    # Towards a third point of contact a body rolls over two others, in any direction.
    angles = np.arange(24) / 24 * 2 * np.pi
    around = np.concatenate([[[0, 0]], np.stack([np.cos(angles), np.sin(angles)], 1)])
    best, step = np.zeros(2), 6.0
    while step > 0.1:
        turns = best + step * around
        x, z = np.radians(turns).T
        up = np.stack([np.sin(z), np.cos(z) * np.cos(x), -np.cos(z) * np.sin(x)], 1)  # second rows of the rotations
        height = up @ mass - (up @ points.T).min(1)
        chosen = int(np.argmin(height))
        best = turns[chosen]
        if np.abs(best).max() > most:
            return None
        if chosen == 0:
            step /= 2
    return rotation((0, 0, 1), best[1]) @ rotation((1, 0, 0), best[0])


_RESTS_ON = {
    'floor_sitting': (('root',), 0.20),
    'kneeling': (('lowerleg01.L', 'lowerleg01.R'), 0.13),
    'lying': (('root',), 0.24),
}
"""What carries people who are not on their feet, and how high (for 1.7 m) that joint may be above the lowest joint."""


def rests(skeleton: Skeleton, transforms: np.ndarray, family: str) -> bool:
    """Whether what should carry the body is down on the ground rather than held up by a stray limb."""
    names, most = _RESTS_ON.get(family.split('_')[0] if family.startswith('lying') else family, ((), 0.0))
    heights = joints(skeleton, transforms)[:, 1]
    low, scale = heights.min(), body_height(skeleton) / 1.7
    return not names or min(heights[skeleton.index[n]] for n in names) - low <= most * scale


def support_of(skeleton: Skeleton, pose: Pose) -> str:
    """What carries somebody in a pose that does not say so; a value of `Pose.support`."""
    transforms = skeleton.transforms(bone_rotations(skeleton, pose), pose.tilt, np.zeros(3))
    at, scale = joints(skeleton, transforms), body_height(skeleton) / 1.7
    height = {n: (at[i, 1] - at[:, 1].min()) / scale for n, i in skeleton.index.items()}
    knees = np.array([height[f'lowerleg01.{s}'] for s in SIDES])
    shins = knees - [height[f'foot.{s}'] for s in SIDES]
    if height['root'] > 0.3 and (np.abs(height['root'] - knees) < 0.15).all() and (shins > 0.2).all():
        return 'seat'
    # Less slack than the check of a drawn pose has: bodies differ.
    if height['root'] > 0.3 and knees.min() > 0.15 and balanced(skeleton, transforms, 0.05):
        return 'feet'
    trunk = unit(at[skeleton.index['neck01']] - at[skeleton.index['root']])
    low = at[at[:, 1] < at[:, 1].min() + 0.1 * scale]
    if trunk[1] < 0.7 and not _above(centre_of_mass(skeleton, at), low, 0.05):
        return 'air'
    return 'body' if height['root'] < 0.3 else 'moment'


def turned(pose: Pose, degrees: float) -> np.ndarray:
    """Root rotation of a pose after the person turns about the vertical."""
    return rotation((0, 1, 0), degrees) @ pose.tilt
