# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A person who can be posed: body and clothes at rest with skinning weights, and all 308 keypoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ..vocabularies import load_vocabulary
from . import contact
from .mesh import Material, Mesh
from .posing import Pose, bone_rotations
from .rasterizer import vertex_normals
from .skeleton import Skeleton, skin
from .zones import ZONE, depth_tolerance, zones_showing

KEYPOINTS = 'keypoints308'
PARTS = 'parts28'
CLOCK = ('3', 'midpoint_1', '12', 'midpoint_4', '9', 'midpoint_3', '6', 'midpoint_2')
"""Ends of the names of the points around an iris and a pupil, anticlockwise."""


@dataclass
class Layer:
    """One skinned mesh at rest (body, a garment, hair...).

    Attributes:
        vertices: ``(V, 3)`` float32 at rest.
        bones, weights: ``(V, K)`` int16 and float32.
        faces, uv, material, part, zone, materials: As in `mesh.Mesh`.
    """

    vertices: np.ndarray
    bones: np.ndarray
    weights: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    part: np.ndarray
    zone: np.ndarray
    materials: list[Material]

    def keep(self, chosen: np.ndarray) -> None:
        """Drop all faces but the ``chosen`` (F,), bool."""
        for name in ('faces', 'uv', 'material', 'part', 'zone'):
            setattr(self, name, getattr(self, name)[chosen])


@dataclass
class Actor:
    """A person at rest.

    Attributes:
        skeleton: Bones of this very body.
        layers: Body first, then clothes and hair.
        keypoints: ``(308, 3)`` float64 at rest.
        keypoint_bones, keypoint_weights: ``(308, K)``.
        traits: Age, gender and so on, for statistics.
    """

    skeleton: Skeleton
    layers: list[Layer]
    keypoints: np.ndarray
    keypoint_bones: np.ndarray
    keypoint_weights: np.ndarray
    traits: dict = field(default_factory=dict)


@dataclass
class Figure:
    """A posed person in the world.

    Attributes:
        mesh: Everything on the person in one mesh.
        rest: ``(V, 3)`` the same vertices unposed.
        keypoints: ``(308, 3)`` world positions.
        capsules: Proxies for collisions, see `contact.capsules`.
        height: Body height in metres.
        traits, pose: Who and how.
    """

    mesh: Mesh
    rest: np.ndarray
    keypoints: np.ndarray
    capsules: tuple
    height: float
    traits: dict
    pose: Pose


@lru_cache(maxsize=1)
def keypoint_rules() -> tuple[np.ndarray, np.ndarray]:
    """Zones that may show each keypoint, ``(308, zones)`` bool, and depth tolerances, ``(308,)`` metres."""
    vocabulary = load_vocabulary(KEYPOINTS)
    group = {int(i): name for name, members in vocabulary.groups.items() for i in members}
    shown = np.zeros((vocabulary.num_keypoints, len(ZONE)), bool)
    for i, name in enumerate(vocabulary.names):
        shown[i, [ZONE[z] for z in zones_showing(name, group[i])]] = True
    tolerance = np.array([depth_tolerance(n, group[i]) for i, n in enumerate(vocabulary.names)])
    return shown, tolerance


def transforms_of(actor: Actor, pose: Pose, root: np.ndarray) -> np.ndarray:
    """Bone transforms with the root's head in the origin."""
    return actor.skeleton.transforms(bone_rotations(actor.skeleton, pose), root, np.zeros(3))


def surface_points(actor: Actor, transforms: np.ndarray, most: int = 3000) -> np.ndarray:
    """Evenly chosen posed vertices of all that is to be seen of somebody, ``(N, 3)`` with N about ``most`` or less."""
    used = [np.unique(layer.faces) for layer in actor.layers]
    step = max(sum(map(len, used)) // most, 1)
    chosen = [(layer, indices[::step]) for layer, indices in zip(actor.layers, used, strict=True)]
    return np.concatenate([skin(p.vertices[i], p.bones[i], p.weights[i], transforms) for p, i in chosen])


def pose_actor(actor: Actor, pose: Pose, turn: float, place: np.ndarray, clearance: float = 0.0) -> Figure:
    """Pose a person and put the lowest point on the ground.

    Args:
        actor: Who.
        pose: How.
        turn: Degrees about the vertical.
        place: ``(2,)`` x and z of the pelvis, metres.
        clearance: Height of the lowest point above the ground (jumps).
    """
    transforms = transforms_of(actor, pose, contact.turned(pose, turn))
    posed = [skin(layer.vertices, layer.bones, layer.weights, transforms) for layer in actor.layers]
    both = list(zip(posed, actor.layers, strict=True))
    lowest = min(float(points[np.unique(layer.faces)][:, 1].min()) for points, layer in both)
    move = np.array([place[0], clearance - lowest, place[1]])
    transforms[:, :, 3] += move
    starts = np.cumsum([0] + [len(p) for p in posed])
    looks = np.cumsum([0] + [len(layer.materials) for layer in actor.layers])
    faces = [layer.faces + s for layer, s in zip(actor.layers, starts, strict=False)]
    material = [layer.material + s for layer, s in zip(actor.layers, looks, strict=False)]
    mesh = Mesh(
        vertices=np.concatenate(posed) + move.astype(np.float32),
        faces=np.concatenate(faces).astype(np.int32),
        uv=np.concatenate([layer.uv for layer in actor.layers]),
        material=np.concatenate(material).astype(np.int32),
        part=np.concatenate([layer.part for layer in actor.layers]),
        zone=np.concatenate([layer.zone for layer in actor.layers]),
        materials=[m for layer in actor.layers for m in layer.materials],
        normals=np.concatenate([vertex_normals(points, layer.faces) for points, layer in both]),
    )
    keypoints = skin(actor.keypoints, actor.keypoint_bones, actor.keypoint_weights, transforms)
    return Figure(
        mesh=mesh,
        rest=np.concatenate([layer.vertices for layer in actor.layers]).astype(np.float32),
        keypoints=keypoints.astype(np.float64),
        capsules=contact.capsules(actor.skeleton, transforms),
        height=contact.body_height(actor.skeleton),
        traits=actor.traits,
        pose=pose,
    )
