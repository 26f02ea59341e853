# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Joint angles with anatomical meaning, their limits, and how they turn into bone rotations.

Angles are degrees. The same angles mean the same posture on every body, whatever its rest pose is: directions are
measured from an upright person with hanging arms.

===========  =========================================  =======================================================
joint        angles                                     0 is
===========  =========================================  =======================================================
spine, neck  forward bend, bend to the left, turn left  upright
shoulder     elevation, plane (0 sideways, 90 forward), hanging; twist turns the elbow pit inwards
             twist
elbow        flexion                                    straight
forearm      pronation                                  palm as the elbow pit (supinated); 90 = thumb forward
wrist        flexion, deviation towards the thumb       straight
fingers      curl of thumb, index, middle, ring, pinky, flat hand
             spread
hip          flexion, abduction, outward rotation       standing
knee, ankle  flexion; toes up                           straight; sole at a right angle to the shin
===========  =========================================  =======================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .skeleton import Skeleton, cross, rotation, unit

SIDES = ('L', 'R')
LIMITS: dict[str, tuple[tuple[float, float], ...]] = {
    'spine': ((-22, 75), (-30, 30), (-38, 38)),
    'neck': ((-40, 45), (-32, 32), (-65, 65)),
    'shoulder': ((0, 170), (-35, 120), (-70, 70)),
    'elbow': ((0, 145),),
    'forearm': ((5, 165),),
    'wrist': ((-60, 65), (-22, 18)),
    'fingers': ((-5, 70), (-8, 95), (-8, 95), (-8, 95), (-8, 95), (-4, 14)),
    'hip': ((-22, 120), (-18, 48), (-30, 42)),
    'knee': ((0, 145),),
    'ankle': ((-42, 24),),
}
"""Range of each angle that a healthy adult reaches without help, a little on the safe side."""


@dataclass
class Pose:
    """Angles of all joints, the person's orientation and what touches the ground.

    Attributes:
        angles: ``'spine'``, ``'neck'`` and, for each side, ``'shoulder.L'``, ... -> angles as in `LIMITS`.
        tilt: ``(3, 3)`` rotation of the pelvis before the person turns about the vertical (identity: upright).
        family: Name of the kind of pose.
        support: What carries the weight: 'feet', 'body' (lying, kneeling, sitting on the floor), 'seat', 'air', or
            'moment': the ground, for an instant (one foot of a runner) or held by skill (a handstand).
        bones: Rotations of bones, in rest axes, that take the place of those from the angles (imported poses).
        touch: How deep limbs may press into each other, metres, because the pose's maker has them touch.
    """

    angles: dict[str, np.ndarray]
    tilt: np.ndarray = field(default_factory=lambda: np.eye(3))
    family: str = 'standing'
    support: str = 'feet'
    bones: dict[str, np.ndarray] = field(default_factory=dict)
    touch: float = 0.0

    def clipped(self) -> Pose:
        """The nearest pose within `LIMITS`."""
        return replace(self, angles={joint: clip(joint.split('.')[0], v) for joint, v in self.angles.items()})


def clip(joint: str, angles: np.ndarray) -> np.ndarray:
    """Angles of a joint (a key of `LIMITS`), brought within its limits."""
    low, high = np.array(LIMITS[joint]).T
    return np.minimum(np.maximum(np.atleast_1d(np.asarray(angles, np.float64)), low), high)


def within_limits(pose: Pose) -> bool:
    """Whether every joint is within `LIMITS`."""
    return all(
        low - 1e-6 <= v <= high + 1e-6
        for joint, values in pose.angles.items()
        for v, (low, high) in zip(np.atleast_1d(values), LIMITS[joint.split('.')[0]], strict=True)
    )


def neutral() -> dict[str, np.ndarray]:
    """Angles of somebody who stands at ease."""
    angles = {'spine': np.zeros(3), 'neck': np.zeros(3)}
    for side in SIDES:
        angles.update({
            f'shoulder.{side}': np.array([12.0, 20, 0]), f'elbow.{side}': np.array([18.0]),
            f'forearm.{side}': np.array([95.0]), f'wrist.{side}': np.zeros(2),
            f'fingers.{side}': np.array([15.0, 22, 25, 28, 30, 2]),
            f'hip.{side}': np.array([2.0, 4, 6]), f'knee.{side}': np.array([4.0]), f'ankle.{side}': np.zeros(1),
        })  # fmt: skip
    return angles


def bone_rotations(skeleton: Skeleton, pose: Pose) -> dict[str, np.ndarray]:
    """Rotations of the bones, in rest axes, that give a pose.

    Args:
        skeleton: The person's bones; names that it lacks are passed over.
        pose: Joint angles.
    """
    out: dict[str, np.ndarray] = {}
    _column(
        out, ('spine05', 'spine04', 'spine03', 'spine02', 'spine01'), pose.angles['spine'], (0.1, 0.25, 0.3, 0.25, 0.1)
    )
    _column(out, ('neck01', 'neck02', 'neck03', 'head'), pose.angles['neck'], (0.15, 0.2, 0.25, 0.4))
    for side in SIDES:
        _arm(out, skeleton, pose.angles, side)
        _hand(out, skeleton, pose.angles, side)
        leg_rotations(out, skeleton, pose.angles, side)
    out.update(pose.bones)
    return {name: r for name, r in out.items() if name in skeleton.index}


def _column(out: dict, bones: tuple, angles: np.ndarray, shares: tuple) -> None:
    forward, left, turn = angles
    for bone, share in zip(bones, shares, strict=True):
        out[bone] = (
            rotation((0, 1, 0), turn * share)
            @ rotation((0, 0, 1), -left * share)
            @ rotation((1, 0, 0), forward * share)
        )


def _frame(direction: np.ndarray, hinge: np.ndarray) -> np.ndarray:
    hinge = unit(hinge - direction * (hinge @ direction))
    return np.stack([direction, hinge, cross(direction, hinge)], 1)


def _arm(out: dict, skeleton: Skeleton, angles: dict, side: str) -> None:
    sign = 1.0 if side == 'L' else -1.0
    elevation, plane, twist = angles[f'shoulder.{side}']
    upper = unit(skeleton.head(f'lowerarm01.{side}') - skeleton.head(f'upperarm01.{side}'))
    fore = unit(skeleton.head(f'wrist.{side}') - skeleton.head(f'lowerarm01.{side}'))
    front = np.array([0.0, 0, 1])
    hinge = unit(cross(upper, front))
    # Where the arm shall go: from hanging, swing up in the given plane.
    p = np.radians(plane)
    outward = np.array([sign * np.cos(p), 0, np.sin(p)])
    swing = rotation(cross((0, -1, 0), outward), elevation)
    target = _frame(swing @ np.array([0.0, -1, 0]), swing @ np.array([-1.0, 0, 0]))
    full = target @ _frame(upper, hinge).T
    girdle = rotation((0, 0, sign), max(elevation - 45, 0) * 0.22 * np.cos(p) + max(elevation - 90, 0) * 0.1)
    girdle = rotation((0, -sign, 0), max(elevation - 20, 0) * 0.12 * np.sin(p)) @ girdle
    out[f'clavicle.{side}'] = girdle
    turn = rotation(upper, -sign * twist)
    half = rotation(upper, -sign * twist * 0.5)
    out[f'upperarm01.{side}'] = girdle.T @ full @ half
    out[f'upperarm02.{side}'] = half.T @ turn
    # The rest pose may hold the elbow bent: take that off first.
    rest_bend = np.degrees(np.arctan2(cross(upper, fore) @ hinge, upper @ fore))
    bend = rotation(hinge, float(angles[f'elbow.{side}'][0]) - rest_bend)
    out[f'lowerarm01.{side}'] = bend
    along, palm, _ = hand_axes(skeleton, side)
    flex_side = cross(hinge, fore)
    flat = palm - fore * (palm @ fore)
    rest_turn = np.degrees(np.arctan2(cross(flex_side, flat) @ fore, flex_side @ flat)) * -sign
    turn = float(angles[f'forearm.{side}'][0]) - rest_turn
    out[f'lowerarm02.{side}'] = rotation(fore, -sign * turn * 0.5)
    flex, deviation = angles[f'wrist.{side}']
    # The hand rests in line with the forearm or not: straighten, then bend.
    rest_flex = np.degrees(np.arctan2(fore @ palm, fore @ along))
    across = cross(along, palm)
    out[f'wrist.{side}'] = (
        rotation(fore, -sign * turn * 0.5) @ rotation(across, flex + rest_flex * 0.8) @ rotation(palm, deviation * sign)
    )


def hand_axes(skeleton: Skeleton, side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit rest axes of a hand: along the fingers, out of the palm, towards the thumb's side."""
    wrist = skeleton.head(f'wrist.{side}')
    along = unit(skeleton.head(f'finger3-1.{side}') - wrist)
    radial = skeleton.head(f'finger2-1.{side}') - skeleton.head(f'finger5-1.{side}')
    radial = unit(radial - along * (along @ radial))
    palm = cross(along, radial) * (1.0 if side == 'L' else -1.0)
    return along, palm, radial


def _hand(out: dict, skeleton: Skeleton, angles: dict, side: str) -> None:
    _, palm, radial = hand_axes(skeleton, side)
    *curls, spread = angles[f'fingers.{side}']
    sign = 1.0 if side == 'L' else -1.0
    for finger, curl in enumerate(curls, 1):
        base, middle = skeleton.head(f'finger{finger}-1.{side}'), skeleton.head(f'finger{finger}-2.{side}')
        direction = unit(middle - base)
        towards = palm if finger > 1 else unit(palm * 0.6 - radial * 0.8)
        axis = unit(cross(direction, towards))
        # Curl is measured from the rest pose's light bend.
        shares = (0.8, 1.0, 0.65) if finger > 1 else (0.3, 0.6, 0.9)
        for joint, share in enumerate(shares, 1):
            out[f'finger{finger}-{joint}.{side}'] = rotation(axis, curl * share)
        if finger > 1:
            fan = rotation(palm, sign * spread * (3 - finger + 0.5) * 0.8)
            out[f'finger{finger}-1.{side}'] = fan @ out[f'finger{finger}-1.{side}']


def leg_rotations(out: dict, skeleton: Skeleton, angles: dict, side: str) -> None:
    """Put the rotations of one leg's bones into ``out``, for `bone_rotations` and whoever moves a leg alone."""
    sign = 1.0 if side == 'L' else -1.0
    flexion, abduction, outward = angles[f'hip.{side}']
    thigh = unit(skeleton.head(f'lowerleg01.{side}') - skeleton.head(f'upperleg01.{side}'))
    shin = unit(skeleton.head(f'foot.{side}') - skeleton.head(f'lowerleg01.{side}'))
    # From rest to a vertical thigh, then abduct, flex; outward rotation about the thigh, half on each of its bones.
    upright = _align(thigh, np.array([0.0, -1, 0]))
    swing = rotation((-1, 0, 0), flexion) @ rotation((0, 0, sign), abduction)
    half = rotation(thigh, -sign * outward * 0.5)
    out[f'upperleg01.{side}'] = swing @ upright @ half
    out[f'upperleg02.{side}'] = half
    straight = _align(shin, thigh)
    out[f'lowerleg01.{side}'] = rotation((1, 0, 0), float(angles[f'knee.{side}'][0])) @ straight
    out[f'foot.{side}'] = (upright @ straight).T @ rotation((-1, 0, 0), float(angles[f'ankle.{side}'][0]))


def _align(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Smallest rotation that takes one unit vector to another."""
    axis = cross(source, target)
    sine = np.linalg.norm(axis)
    if sine < 1e-8:
        return np.eye(3)
    return rotation(axis, np.degrees(np.arctan2(sine, source @ target)))
