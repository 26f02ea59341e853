# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Poses made by others, as rotations of bones: what carries them, their mirror images, small changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import contact
from .posing import SIDES, Pose, bone_rotations, neutral
from .skeleton import Skeleton, rotation

IMPORTED, IMPORTED_WEIGHT = 'imported', 0.1
"""Family of poses that come with the assets, and how often it is drawn where they hold any."""


@dataclass(frozen=True)
class ImportedPose:
    """A pose made by somebody else.

    Attributes:
        name: Its file.
        bones: Bone -> ``(3, 3)`` rotation in rest axes.
        support, touch: As in `Pose`.
    """

    name: str
    bones: dict[str, np.ndarray]
    support: str = 'feet'
    touch: float = 0.0

    @classmethod
    def measured(cls, name: str, bones: dict[str, np.ndarray], bodies: list[Skeleton]) -> ImportedPose:
        """Find out on typical bodies what carries a pose and how deep limbs that touch are in each other."""
        pose = Pose(neutral(), bones.get('root', np.eye(3)), bones={b: r for b, r in bones.items() if b != 'root'})
        depths = [
            contact.self_collision(body, body.transforms(bone_rotations(body, pose), pose.tilt, np.zeros(3)))
            for body in bodies
        ]
        return cls(name, bones, contact.support_of(bodies[0], pose), float(np.clip(max(depths), 0, 0.06)))


def draw_imported(rng: np.random.Generator, library: tuple[ImportedPose, ...]) -> Pose:
    """One of the imported poses or its mirror image, a little changed."""
    chosen = library[int(rng.integers(len(library)))]
    bones = mirrored(chosen.bones) if rng.random() < 0.5 else dict(chosen.bones)
    for bone in ('spine03', 'neck02', 'head', *[f'{b}.{s}' for s in SIDES for b in ('upperarm01', 'lowerarm01')]):
        axis = rng.normal(size=3)
        bones[bone] = rotation(axis, float(rng.normal(0, 3))) @ bones.get(bone, np.eye(3))
    return Pose(neutral(), bones.pop('root', np.eye(3)), IMPORTED, chosen.support, bones, chosen.touch)


def mirrored(bones: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rotations of the mirror image, left and right exchanged."""
    flip = np.array([[1, -1, -1], [-1, 1, 1], [-1, 1, 1]])
    other = {'.L': '.R', '.R': '.L'}
    return {name[:-2] + other[name[-2:]] if name[-2:] in other else name: r * flip for name, r in bones.items()}
