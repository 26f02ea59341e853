# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Regions of a body: which bone belongs to which, what part label bare skin has there, what may show a keypoint."""

from __future__ import annotations

ZONES = (
    'none', 'head', 'hair', 'neck', 'chest', 'pelvis',
    'upperarm.L', 'lowerarm.L', 'hand.L', 'upperleg.L', 'lowerleg.L', 'foot.L',
    'upperarm.R', 'lowerarm.R', 'hand.R', 'upperleg.R', 'lowerleg.R', 'foot.R', 'hat',
)  # fmt: skip
"""Names of the zones; the index is the id. Clothes have the zone of the limb they cover; hair and hats their own."""

ZONE = {name: i for i, name in enumerate(ZONES)}


def both_sides(*names: str) -> list[int]:
    """Ids of the zones of limbs, left and right."""
    return [ZONE[f'{name}.{side}'] for name in names for side in 'LR']


_PREFIXES = (
    ('upperarm', 'upperarm'), ('lowerarm', 'lowerarm'), ('wrist', 'hand'), ('metacarpal', 'hand'), ('finger', 'hand'),
    ('upperleg', 'upperleg'), ('lowerleg', 'lowerleg'), ('foot', 'foot'), ('toe', 'foot'),
)  # fmt: skip

SKIN_PART = {
    'head': 'Face_Neck', 'neck': 'Face_Neck', 'chest': 'Torso', 'pelvis': 'Torso', 'hair': 'Hair',
    'upperarm': 'Upper_Arm', 'lowerarm': 'Lower_Arm', 'hand': 'Hand',
    'upperleg': 'Upper_Leg', 'lowerleg': 'Lower_Leg', 'foot': 'Foot',
}  # fmt: skip


def zone_of_bone(bone: str) -> str:
    """Zone that a bone's skin belongs to."""
    side = bone[-2:] if bone.endswith(('.L', '.R')) else ''
    for prefix, zone in _PREFIXES:
        if bone.startswith(prefix):
            return zone + side
    if bone.startswith('neck'):
        return 'neck'
    if bone.startswith(('spine', 'clavicle', 'shoulder', 'breast')):
        return 'pelvis' if bone == 'spine05' else 'chest'
    if bone.startswith(('root', 'pelvis')):
        return 'pelvis'
    return 'head'


def part_of_zone(zone: str) -> str:
    """Name of the part class of bare skin in a zone."""
    base, _, side = zone.partition('.')
    name = SKIN_PART[base]
    return {'L': 'Left_', 'R': 'Right_'}.get(side, '') + name


def zones_showing(keypoint: str, group: str) -> tuple[str, ...]:
    """Zones whose surface, when it is what the camera sees at a keypoint, shows that keypoint."""
    side = '.L' if keypoint.startswith(('left', 'l_')) else '.R' if keypoint.startswith(('right', 'r_')) else ''
    if group in ('left_hand', 'right_hand'):
        return (f'hand{side}', f'lowerarm{side}')
    if group == 'face' or keypoint in ('nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear'):
        return ('head', 'neck')
    if group == 'foot' or 'ankle' in keypoint:
        return (f'foot{side}', f'lowerleg{side}')
    if 'knee' in keypoint:
        return (f'upperleg{side}', f'lowerleg{side}')
    if 'hip' in keypoint:
        return ('pelvis', f'upperleg{side}', 'chest')
    if 'wrist' in keypoint:
        return (f'hand{side}', f'lowerarm{side}')
    if any(word in keypoint for word in ('elbow', 'olecranon', 'cubital')):
        return (f'upperarm{side}', f'lowerarm{side}')
    if any(word in keypoint for word in ('shoulder', 'acromion')):
        return ('chest', f'upperarm{side}', 'neck')
    return ('neck', 'chest', 'head')  # the neck point


def depth_tolerance(keypoint: str, group: str) -> float:
    """How far behind the seen surface a keypoint may lie and still count as visible, metres (for a 1.7 m adult)."""
    if group in ('left_hand', 'right_hand'):
        return 0.018
    if group == 'face' or keypoint in ('nose', 'left_eye', 'right_eye'):
        return 0.006 if any(word in keypoint for word in ('iris', 'pupil')) else 0.009
    # Clothes stand off the skin: the joint is under the cloth as well as under the skin.
    tolerances = {'ear': 0.02, 'hip': 0.19, 'knee': 0.105, 'ankle': 0.06, 'wrist': 0.045, 'elbow': 0.083,
                  'shoulder': 0.125, 'olecranon': 0.045, 'cubital': 0.045, 'acromion': 0.063, 'neck': 0.12}  # fmt: skip
    for word, tolerance in tolerances.items():
        if word in keypoint:
            return tolerance
    return 0.03  # feet
