# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Families of poses, each a distribution over joint angles: standing, walking, sitting, reaching, lying..."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .imported import IMPORTED, IMPORTED_WEIGHT, ImportedPose, draw_imported
from .posing import SIDES, Pose, neutral
from .skeleton import rotation

Angles = dict[str, np.ndarray]


_JITTER = {'spine': 3, 'neck': 5.5, 'shoulder': 4, 'elbow': 4.5, 'forearm': 9, 'wrist': 5.5, 'hip': 2, 'knee': 2,
           'ankle': 1.5}  # fmt: skip
"""How far the angles of a joint stray from what a family drew, degrees."""
_CURLS = {
    'relaxed': (15, 20, 26, 30, 33, 2), 'open': (2, 3, 2, 3, 4, 11), 'fist': (52, 82, 86, 86, 84, 0),
    'point': (42, 3, 78, 82, 82, 2), 'pinch': (38, 52, 30, 22, 18, 4),
}  # fmt: skip


def _put(angles: Angles, side: str, **joints) -> None:
    """Set joints of one side, each to an angle or to several."""
    for joint, values in joints.items():
        angles[f'{joint}.{side}'] = np.atleast_1d(values)


def _fingers(rng: np.random.Generator) -> np.ndarray:
    """Curls of a hand that does something: relaxed, open, fist, pointing, pinching, counting, or at random."""
    kind = rng.choice([*_CURLS, 'count', 'random'], p=[0.3, 0.2, 0.12, 0.1, 0.08, 0.08, 0.12])
    if kind in _CURLS:
        base = np.array(_CURLS[kind])
    elif kind == 'count':
        base = np.where(rng.random(6) < 0.5, 4.0, 82.0)
        base[0], base[5] = rng.choice([5.0, 50.0]), 6
    else:
        base = np.concatenate([rng.uniform(0, 60, 1), rng.uniform(0, 85, 4), rng.uniform(0, 12, 1)])
    return base + rng.normal(0, [4, 5, 5, 5, 5, 1.5])


def _arm(angles: Angles, side: str, kind: str, rng: np.random.Generator) -> None:
    """Put an arm somewhere; ``kind`` 'any' draws from all."""
    u = rng.uniform
    if kind == 'any':
        kind = rng.choice(
            ['hang', 'front', 'up', 'side', 'hip', 'wave', 'chest', 'face', 'back', 'carry', 'random'],
            p=[0.2, 0.12, 0.1, 0.09, 0.07, 0.07, 0.08, 0.07, 0.04, 0.06, 0.10],
        )
    shoulder, elbow, forearm = {
        'hang': ((u(6, 22), u(0, 60), u(-15, 25)), u(5, 35), u(70, 120)),
        'front': ((u(45, 100), u(70, 105), u(-20, 20)), u(0, 70), u(60, 140)),
        'up': ((u(125, 168), u(0, 100), u(-30, 30)), u(0, 60), u(50, 130)),
        'side': ((u(60, 105), u(-20, 25), u(-30, 30)), u(0, 70), u(60, 140)),
        'hip': ((u(38, 52), u(-5, 12), u(40, 62)), u(88, 112), u(60, 110)),
        'wave': ((u(70, 120), u(0, 40), u(-70, -45)), u(60, 120), u(80, 140)),
        'chest': ((u(25, 50), u(60, 100), u(35, 65)), u(80, 115), u(60, 120)),
        'face': ((u(40, 75), u(70, 110), u(10, 50)), u(105, 140), u(30, 120)),
        'back': ((u(20, 40), u(-35, -25), u(-10, 30)), u(10, 60), u(80, 140)),
        'carry': ((u(5, 25), u(40, 90), u(-10, 15)), u(75, 110), u(10, 70)),
        'random': ((u(5, 150), u(-30, 115), u(-60, 60)), u(0, 130), u(10, 160)),
    }[kind]
    _put(angles, side, shoulder=shoulder, elbow=elbow, forearm=forearm)


def _arms(angles: Angles, rng: np.random.Generator) -> None:
    same = rng.random() < 0.25  # both do the same
    state = rng.bit_generator.state
    for side in SIDES:
        if same:
            rng.bit_generator.state = state
        _arm(angles, side, 'any', rng)


def _look(angles: Angles, rng: np.random.Generator, up: float = 0) -> None:
    angles['neck'] = np.array([rng.normal(2, 13) - up, rng.normal(0, 9), rng.normal(0, 24)])


def standing(rng: np.random.Generator) -> Pose:
    """On both feet, weight on one or both, arms anywhere."""
    angles = neutral()
    shift, width = rng.normal(0, 6), abs(rng.normal(5, 5))
    for side, sign in (('L', 1), ('R', -1)):
        hip = rng.normal(4, 5), width - sign * shift * 0.5, rng.uniform(0, 18)
        _put(angles, side, hip=hip, knee=abs(rng.normal(4, 7)))
    angles['spine'] = np.array([rng.normal(3, 6), shift * 0.8, rng.normal(0, 9)])
    _arms(angles, rng)
    _look(angles, rng)
    return Pose(angles, family='standing')


def walking(rng: np.random.Generator) -> Pose:
    """Some phase of a step, slow to running."""
    angles = neutral()
    phase, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.6)
    lead = rng.choice([-1, 1])
    for side, sign in (('L', lead), ('R', -lead)):
        swing, lift = np.sin(phase) * sign, max(np.cos(phase) * sign, 0)
        hip, ankle = (4 + 24 * speed * swing + 14 * speed * lift, 2, 4), -12 * speed * max(-swing, 0) + 4
        _put(angles, side, hip=hip, knee=6 + 38 * speed * lift + 16 * speed * max(-swing, 0), ankle=ankle)
        shoulder = 10 + 26 * speed * abs(swing), 90 if swing < 0 else -35, 0
        _put(angles, side, shoulder=shoulder, elbow=15 + 38 * max(speed - 0.5, 0) + 12 * rng.random())
    angles['spine'] = np.array([3 + 9 * max(speed - 0.7, 0), 0, 7 * speed * np.sin(phase) * -lead])
    _look(angles, rng)
    if rng.random() < 0.3:
        _arm(angles, rng.choice(SIDES), 'any', rng)
    return Pose(angles, family='running' if speed > 1.25 else 'walking')


def sitting(rng: np.random.Generator) -> Pose:
    """On a seat."""
    angles = neutral()
    lean = rng.uniform(-12, 32)
    for side in SIDES:
        hip = rng.uniform(78, 98), rng.uniform(2, 20), rng.uniform(-5, 15)
        _put(angles, side, hip=hip, knee=rng.uniform(55, 105), ankle=rng.uniform(-10, 10))
    angles['spine'] = np.array([max(lean, -10) * 0.8 + 10, rng.normal(0, 5), rng.normal(0, 10)])
    kind = rng.choice(['lap', 'any'])
    for side in SIDES:
        if kind == 'lap':
            shoulder = rng.uniform(20, 38), rng.uniform(55, 90), rng.uniform(0, 25)
            _put(angles, side, shoulder=shoulder, elbow=rng.uniform(40, 75), forearm=rng.uniform(100, 150))
        else:
            _arm(angles, side, 'any', rng)
    _look(angles, rng)
    return Pose(angles, rotation((1, 0, 0), rng.uniform(-14, 6)), 'sitting', 'seat')


def floor_sitting(rng: np.random.Generator) -> Pose:
    """On the floor: legs stretched, crossed or drawn up."""
    angles = neutral()
    kind = rng.choice(['stretched', 'crossed', 'drawn'])
    back = rng.uniform(10, 22) if kind == 'drawn' else rng.uniform(0, 18)
    for side in SIDES:
        if kind == 'stretched':  # thighs level with the floor
            hip = 90 - back, rng.uniform(2, 22), rng.uniform(0, 20)
            _put(angles, side, hip=hip, knee=rng.uniform(0, 8), ankle=rng.uniform(-25, 5))
        elif kind == 'crossed':
            hip = 88 - back, rng.uniform(36, 47), rng.uniform(30, 42)
            _put(angles, side, hip=hip, knee=rng.uniform(108, 125), ankle=rng.uniform(-20, 0))
        else:  # thighs rise as much as shins fall, so that feet and buttocks are level
            rise = rng.uniform(28, 26 + back)
            hip = 90 + rise - back, rng.uniform(2, 14), rng.uniform(-3, 8)
            _put(angles, side, hip=hip, knee=2 * rise, ankle=-rise / 2)
        _arm(angles, side, rng.choice(['hang', 'front', 'carry', 'chest', 'any']), rng)
    angles['spine'] = np.array([rng.uniform(8, 34), rng.normal(0, 5), rng.normal(0, 9)])
    _look(angles, rng)
    return Pose(angles, rotation((1, 0, 0), -back), 'floor_sitting', 'body')


def crouching(rng: np.random.Generator) -> Pose:
    """Deep in the knees on both feet."""
    angles = neutral()
    depth = rng.uniform(0.45, 1.0)
    for side in SIDES:
        hip = 112 * depth + rng.normal(0, 4), rng.uniform(4, 26), rng.uniform(0, 22)
        _put(angles, side, hip=hip, knee=128 * depth + rng.normal(0, 4), ankle=rng.uniform(8, 22))
        _arm(angles, side, rng.choice(['front', 'hang', 'chest', 'any'], p=[0.4, 0.2, 0.15, 0.25]), rng)
    angles['spine'] = np.array([rng.uniform(12, 48) * depth, rng.normal(0, 5), rng.normal(0, 9)])
    _look(angles, rng, 12)
    return Pose(angles, rotation((1, 0, 0), 26 * depth), 'crouching')


def bending(rng: np.random.Generator) -> Pose:
    """Bent forward over straight or soft legs, hands down."""
    angles = neutral()
    bend = rng.uniform(30, 85)
    for side in SIDES:
        hip = bend * 0.75, rng.uniform(2, 14), rng.uniform(0, 12)
        _put(angles, side, hip=hip, knee=abs(rng.normal(10, 10)))
        shoulder = rng.uniform(40, 100), rng.uniform(70, 105), rng.uniform(-10, 10)
        _put(angles, side, shoulder=shoulder, elbow=rng.uniform(0, 50))
    angles['spine'] = np.array([rng.uniform(15, 50), rng.normal(0, 8), rng.normal(0, 12)])
    _look(angles, rng, 15)
    return Pose(angles, rotation((1, 0, 0), bend * 0.75), 'bending')


def reaching(rng: np.random.Generator) -> Pose:
    """One or both hands stretched to something high, far or low."""
    angles = neutral()
    side = rng.choice(SIDES)
    step = rng.uniform(-20, 34)
    for s, sign in (('L', 1), ('R', -1)):
        hip = sign * step * 0.6 + 8, rng.uniform(3, 14), rng.uniform(0, 14)
        _put(angles, s, hip=hip, knee=max(sign * step, 0) + 6)
    for s in SIDES:
        if s == side or rng.random() < 0.35:
            shoulder = rng.uniform(60, 165), rng.uniform(-10, 110), rng.uniform(-40, 40)
            _put(angles, s, shoulder=shoulder, elbow=rng.uniform(0, 30))
        else:
            _arm(angles, s, 'any', rng)
    turn = 1 if side == 'R' else -1
    angles['spine'] = np.array([rng.uniform(-8, 30), turn * rng.uniform(-6, 20), turn * rng.uniform(-8, 25)])
    _look(angles, rng)
    return Pose(angles, family='reaching')


def kneeling(rng: np.random.Generator) -> Pose:
    """On one or both knees."""
    angles = neutral()
    one = rng.random() < 0.5
    # Of the thighs, back, which keeps the weight over the shins.
    lean = rng.uniform(0, 8) if one else rng.uniform(6, 32)
    side = rng.choice(SIDES)
    for s in SIDES:
        if one and s == side:
            hip = rng.uniform(80, 98), rng.uniform(2, 18), rng.uniform(0, 14)
            _put(angles, s, hip=hip, knee=rng.uniform(82, 100), ankle=0)
        else:
            hip = lean + rng.uniform(-8, 6), rng.uniform(2, 14), 0
            _put(angles, s, hip=hip, knee=90 + lean, ankle=-38)
    angles['spine'] = np.array([rng.uniform(0, 28), rng.normal(0, 5), rng.normal(0, 10)])
    _arms(angles, rng)
    _look(angles, rng)
    return Pose(angles, family='kneeling', support='body')


def lying(rng: np.random.Generator) -> Pose:
    """On the back, the belly or a side."""
    angles = neutral()
    kind = rng.choice(['back', 'belly', 'side'])
    for side in SIDES:
        if kind == 'side':
            hip, knee = (rng.uniform(10, 75), rng.uniform(-2, 6), rng.uniform(-5, 8)), rng.uniform(15, 95)
            shoulder = rng.uniform(30, 95), rng.uniform(70, 110), rng.uniform(-20, 20)
        else:
            bent = kind == 'back' and rng.random() < 0.3
            lift = rng.uniform(40, 60) if bent else rng.uniform(-2, 5)
            hip = lift, rng.uniform(2, 22), rng.uniform(0, 25)
            knee = rng.uniform(80, 110) if bent else rng.uniform(0, 12)
            shoulder = rng.uniform(10, 150), rng.uniform(-3, 8), rng.uniform(-20, 20)
        ankle, elbow = rng.uniform(-40, -10), rng.uniform(5, 95)
        if kind == 'belly':  # arms flat beside or above the head, a shin may be up
            knee = rng.uniform(0, 100) if rng.random() < 0.4 else rng.uniform(0, 10)
            shoulder = shoulder[0], rng.uniform(-6, 5), rng.uniform(40, 70)
            elbow = rng.uniform(2, 16)
        _put(angles, side, hip=hip, knee=knee, shoulder=shoulder, ankle=ankle, elbow=elbow)
    angles['spine'] = np.array([rng.uniform(-4, 8), rng.normal(0, 6), rng.normal(0, 8)])
    angles['neck'] = np.array([rng.uniform(-5, 12), rng.normal(0, 8), rng.normal(0, 25)])
    tilt = rotation((1, 0, 0), 90 if kind == 'belly' else -90)
    if kind == 'side':
        tilt = rotation((0, 0, 1), rng.choice([-90, 90]))
    return Pose(angles, tilt, f'lying_{kind}', 'body')


def jumping(rng: np.random.Generator) -> Pose:
    """In the air, or on one leg in a dance or a kick."""
    angles = neutral()
    for side in SIDES:
        hip = rng.uniform(-15, 85), rng.uniform(-5, 40), rng.uniform(-10, 30)
        _put(angles, side, hip=hip, knee=rng.uniform(0, 105), ankle=rng.uniform(-40, 5))
        _arm(angles, side, rng.choice(['up', 'side', 'front', 'random']), rng)
    angles['spine'] = np.array([rng.uniform(-12, 25), rng.normal(0, 10), rng.normal(0, 14)])
    _look(angles, rng)
    return Pose(angles, rotation((1, 0, 0), rng.normal(0, 10)), 'jumping', 'air')


FAMILIES: dict[str, tuple[Callable[[np.random.Generator], Pose], float]] = {
    'standing': (standing, 0.27),
    'walking': (walking, 0.16),
    'sitting': (sitting, 0.12),
    'reaching': (reaching, 0.12),
    'crouching': (crouching, 0.08),
    'bending': (bending, 0.06),
    'floor_sitting': (floor_sitting, 0.06),
    'kneeling': (kneeling, 0.04),
    'lying': (lying, 0.05),
    'jumping': (jumping, 0.04),
}
"""Family -> how to draw a pose of it, and how often it is drawn."""


def choose_family(
    rng: np.random.Generator, families: tuple[str, ...] | None = None, library: tuple[ImportedPose, ...] = ()
) -> str:
    """One of ``families``, keys of `FAMILIES` or `IMPORTED` (default: all there are), by their weights."""
    weights = {name: weight for name, (_, weight) in FAMILIES.items()}
    if library:
        weights[IMPORTED] = IMPORTED_WEIGHT
    names = [n for n in families or weights if n in weights]
    chances = np.array([weights[n] for n in names])
    return names[rng.choice(len(names), p=chances / chances.sum())]


def draw(rng: np.random.Generator, family: str, library: tuple[ImportedPose, ...] = ()) -> Pose:
    """Draw a pose of a family: of one in `FAMILIES` within the joint limits, or one of the imported ones."""
    if family == IMPORTED:
        pose = draw_imported(rng, library)
    else:
        pose = FAMILIES[family][0](rng)
        for joint, values in pose.angles.items():
            if not joint.startswith('fingers'):  # they follow
                pose.angles[joint] = values + rng.normal(0, _JITTER[joint.split('.')[0]], np.shape(values))
    for side in SIDES:
        pose.angles[f'fingers.{side}'] = _fingers(rng)
    return pose.clipped()
