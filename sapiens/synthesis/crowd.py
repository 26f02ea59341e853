# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""People in poses that can be, beside each other, and the seats of those who sit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np

from . import contact, poses
from .actor import Actor, Figure, pose_actor, surface_points, transforms_of
from .floors import seat_surface
from .imported import ImportedPose
from .labels import InvalidSample
from .library import Assets
from .mesh import Material, Mesh
from .posing import Pose
from .zones import ZONE


def pose_for(
    actor: Actor, families: tuple[str, ...] | None, library: tuple[ImportedPose, ...], rng: np.random.Generator,
    rejected: Counter,
) -> Pose:  # fmt: skip
    """A pose without self-collision, settled on the ground and in balance.

    Args:
        actor: Who.
        families: See `poses.choose_family`.
        library: Imported poses.
        rng: Source of randomness.
        rejected: Counts why draws were thrown away.

    Raises:
        InvalidSample: None of many draws would do.
    """
    # The family stays: some are refused more often than others, and would become rare.
    family = poses.choose_family(rng, families, library)
    for _ in range(40):
        pose = poses.draw(rng, family, library)
        if pose.support == 'feet':
            pose = contact.settle_feet(actor.skeleton, pose)
        transforms = transforms_of(actor, pose, pose.tilt)
        if pose.support == 'body':
            mass = contact.centre_of_mass(actor.skeleton, contact.joints(actor.skeleton, transforms))
            most = 40 if pose.family.startswith('lying') else 15
            settled = contact.settle_body(surface_points(actor, transforms), mass, most)
            if settled is None:
                rejected['falling over'] += 1
                continue
            pose = replace(pose, tilt=settled @ pose.tilt)
            transforms = transforms_of(actor, pose, pose.tilt)
        if contact.self_collision(actor.skeleton, transforms) > 0.012 + pose.touch:
            rejected['self-collision'] += 1
        elif pose.support == 'feet' and pose.family != 'running' and not contact.balanced(actor.skeleton, transforms):
            rejected['out of balance'] += 1
        elif not contact.rests(actor.skeleton, transforms, pose.family):
            rejected['floating'] += 1
        else:
            return pose
    raise InvalidSample('no pose without collision')


def crowd(
    assets: Assets, count: int, families: tuple[str, ...] | None, close: bool, rng: np.random.Generator,
    rejected: Counter,
) -> tuple[list[Figure], list[Mesh]]:  # fmt: skip
    """People who do not run through each other, and the seats of those who sit.

    Args:
        assets: Source of people.
        count: Number of people.
        families: See `poses.choose_family`.
        close: They stand within reach of each other.
        rng: Source of randomness.
        rejected: Counts why draws were thrown away.

    Raises:
        InvalidSample: Somebody finds no pose or no place.
    """
    figures: list[Figure] = []
    things: list[Mesh] = []
    spread = 0.3 if close else 0.85
    for number in range(count):
        actor = assets.actor(rng)
        pose = pose_for(actor, families, assets.poses, rng, rejected)
        clearance = float(rng.uniform(0.02, 0.35)) if pose.support == 'air' else 0.0
        heading = float(rng.uniform(-180, 180)) if rng.random() < 0.45 else float(rng.normal(0, 35))
        for attempt in range(30):
            place = np.zeros(2)
            if number:
                reach = spread * (0.8 + 0.06 * attempt) * np.sqrt(number)
                around = rng.uniform(0, 2 * np.pi)
                place = reach * np.array([np.sin(around), np.cos(around)]) * rng.uniform(0.7, 1.3)
                if close:  # face each other, more or less
                    heading = float(np.degrees(np.arctan2(-place[0], -place[1])) + rng.normal(0, 30))
            figure = pose_actor(actor, pose, heading, place, clearance)
            if all(contact.overlap(figure.capsules, other.capsules) < 0.01 for other in figures):
                break
        else:
            raise InvalidSample('people overlap')
        if pose.support == 'seat':
            things.append(_seat(figure, heading, rng))
        figures.append(figure)
    return figures, things


def _seat(figure: Figure, heading: float, rng: np.random.Generator) -> Mesh:
    """A box under the thighs and buttocks of somebody who sits."""
    pelvis = figure.capsules[0][[c[0] for c in contact.CAPSULES].index('pelvis')]
    under = np.isin(figure.mesh.zone, [ZONE['pelvis'], ZONE['upperleg.L'], ZONE['upperleg.R']])
    points = figure.mesh.vertices[np.unique(figure.mesh.faces[under])]
    near = points[np.linalg.norm(points[:, [0, 2]] - pelvis[[0, 2]], axis=1) < 0.22]
    top = max(float(near[:, 1].min()) + 0.015 if len(near) else float(pelvis[1]) - 0.1, 0.03)
    depth, width = rng.uniform(0.17, 0.24), rng.uniform(0.18, 0.32)
    board = rng.uniform(0.15, 0.5) * top if rng.random() < 0.5 else min(0.04, 0.5 * top)
    c, s = np.cos(np.radians(heading)), np.sin(np.radians(heading))
    quads = np.array([[4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5], [0, 2, 3, 1]])
    boxes, sheets = [], []
    for low, high in ((0.0, top - board), (top - board, top)):  # what carries, and a board or cushion on it
        corners = np.array([[x, y, z] for y in (low, high) for x in (-width, width) for z in (-depth, depth)])
        boxes.append(corners[quads].reshape(-1, 3))
        # The two axes along each side, in metres: textures keep their scale.
        axes = np.array([[0, 2], [1, 2], [1, 2], [0, 1], [0, 1], [0, 2]])
        sheets.append(np.take_along_axis(corners[quads], axes[:, None].repeat(4, 1), 2))
    points = np.concatenate(boxes) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
    points[:, [0, 2]] += pelvis[[0, 2]] - 0.03 * np.array([s, c])
    first = 4 * np.arange(12)[:, None, None]
    faces = (first + [[0, 1, 2], [0, 2, 3]]).reshape(-1, 3).astype(np.int32)
    looks = [seat_surface(rng) for _ in range(2)]
    part = np.repeat([0, 1], 12).astype(np.int32)
    uv = np.concatenate(sheets).reshape(-1, 2)[faces] / np.array([g.scale for g in looks])[part, None, None]
    materials = [Material(cv2.cvtColor(g.texture, cv2.COLOR_RGB2RGBA)) for g in looks]
    zeros = np.zeros(len(faces), np.uint8)
    return Mesh(points.astype(np.float32), faces, uv.astype(np.float32), part, zeros, materials)
