# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The skin as triangles that are cut along the borders of the part classes, and pressed in under clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..zones import ZONE, both_sides, part_of_zone, zone_of_bone
from .body import BaseBody
from .cloth import neighbours, smoothed, smoothstep
from .cover import RIM, SINK
from .cutting import between, cut
from .garments import below_neck, limb_progress
from .skinning import dense_skin, mixed_skin

_NEIGHBOURS = (('Torso', 'Upper_Arm'), ('Upper_Arm', 'Lower_Arm'), ('Lower_Arm', 'Hand'), ('Torso', 'Upper_Leg'),
               ('Upper_Leg', 'Lower_Leg'), ('Lower_Leg', 'Foot'))  # fmt: skip


@dataclass
class Surface:
    """Triangles of the skin.

    Attributes:
        faces: ``(F, 3)`` int32 over the base mesh's V vertices and N new ones.
        uv: ``(F, 3, 2)`` float32.
        part, zone: ``(F,)`` uint8.
        sources, mix: ``(N, 2)`` and ``(N,)``: the new vertices lie between two old ones.
        bones, weights: ``(V + N, 4)`` skinning.
    """

    faces: np.ndarray
    uv: np.ndarray
    part: np.ndarray
    zone: np.ndarray
    sources: np.ndarray
    mix: np.ndarray
    bones: np.ndarray
    weights: np.ndarray

    def split(self, chosen: np.ndarray, value: np.ndarray) -> tuple[Surface, np.ndarray]:
        """Cut the ``chosen`` (F,) triangles, none of which was cut before, where ``value`` (V,) is 0.

        Returns:
            The new surface, and for each of its triangles 1 above, -1 below, 0 not chosen.
        """
        count = len(value)
        c = cut(self.faces[chosen], value)
        faces = np.where(c.faces >= count, c.faces + len(self.sources), c.faces)
        rest, old = ~chosen, np.flatnonzero(chosen)[c.origin]
        bone_count = int(self.bones.max()) + 1
        bones, weights = mixed_skin(self.bones[:count], self.weights[:count], c.sources, c.shares, bone_count)
        surface = Surface(
            np.concatenate([self.faces[rest], faces]).astype(np.int32),
            np.concatenate([self.uv[rest], c.spread(self.uv[chosen])]),
            np.concatenate([self.part[rest], self.part[old]]),
            np.concatenate([self.zone[rest], self.zone[old]]),
            np.concatenate([self.sources, c.sources]),
            np.concatenate([self.mix, c.mix]),
            np.concatenate([self.bones, bones]),
            np.concatenate([self.weights, weights]),
        )
        return surface, np.concatenate([np.zeros(int(rest.sum()), np.int8), np.where(c.inside, 1, -1).astype(np.int8)])

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values ``(V, ...)`` continued to the new vertices."""
        return np.concatenate([values, between(values, self.sources, self.mix)])


def make_surface(body: BaseBody, face_part: np.ndarray, face_zone: np.ndarray, parts: dict[str, int]) -> Surface:
    """Cut the base mesh's skin where one class of bare skin ends and another begins.

    Args:
        body: The base mesh.
        face_part: ``(Q,)`` part id of each of its faces, decided face by face.
        face_zone: ``(Q,)`` zones.
        parts: Names of the part vocabulary -> ids.
    """
    faces, uv, origin = body.triangles('body')
    surface = Surface(faces, uv, face_part[origin].copy(), face_zone[origin].copy(), np.zeros((0, 2), np.int32),
                      np.zeros(0), body.skin_bones, body.skin_weights)  # fmt: skip
    points = body.template * 0.1
    trunk = np.isin(surface.zone, [ZONE['neck'], ZONE['chest']])
    trunk &= np.isin(surface.part, [parts['Face_Neck'], parts['Torso']])
    # The neck ends on a smooth surface, not where bone weights do.
    links = neighbours(body.data['faces/body'], len(points))  # quads: their diagonals would bend the lines
    value = smoothed(below_neck(points, body.skeleton(points).head('neck01')), links, 30)
    surface, side = surface.split(trunk, value)
    surface.part[side > 0], surface.part[side < 0] = parts['Torso'], parts['Face_Neck']
    count = len(points)
    names = [part_of_zone(zone_of_bone(b)) for b in body.bone_names]
    dense = dense_skin(body.skin_bones, body.skin_weights, len(names))
    for a, b in _NEIGHBOURS:
        for word in ('Left_', 'Right_'):
            pair = [parts[n if n == 'Torso' else word + n] for n in (a, b)]
            mine = (surface.faces < count).all(1) & np.isin(surface.part, pair)
            share = [dense[:, [parts[n] == p for n in names]].sum(1) for p in pair]
            value = smoothed(share[0] - share[1], links, 8)
            inside = (value > 0)[np.minimum(surface.faces, count - 1)]
            surface.part[mine & inside.all(1)], surface.part[mine & ~inside.any(1)] = pair
            mine &= inside.any(1) & ~inside.all(1)
            if not mine.any():
                continue
            surface, side = surface.split(mine, value)
            surface.part[side > 0], surface.part[side < 0] = pair
    return surface


def put_socks(surface: Surface, body: BaseBody, top: float, parts: dict[str, int]) -> tuple[Surface, np.ndarray]:
    """Cut the skin at the tops of socks and label what is below them.

    Args:
        surface: The skin.
        body: The base mesh.
        top: Where the socks end, 0 = hip to 1 = ankle.
        parts: Ids of parts.

    Returns:
        The new surface and which of its triangles are socks.
    """
    legs = both_sides('lowerleg', 'foot')
    value = limb_progress(body)['leg'] - top
    count = len(value)
    chosen = np.isin(surface.zone, legs) & (surface.faces < count).all(1)
    whole = surface.spread(value)[surface.faces].mean(1) > 0
    fresh = np.isin(surface.zone, legs) & ~chosen & whole
    number = np.flatnonzero(~chosen)
    surface, side = surface.split(chosen, value)
    socks = side > 0
    socks[: len(number)] = fresh[number]
    for c, word in (('L', 'Left'), ('R', 'Right')):
        surface.part[socks & np.isin(surface.zone, [ZONE[f'lowerleg.{c}'], ZONE[f'foot.{c}']])] = parts[f'{word}_Sock']
    return surface, socks


def press_in(points: np.ndarray, normals: np.ndarray, depth: np.ndarray, scale: float) -> np.ndarray:
    """Press skin in under clothes.

    Args:
        points: ``(V, 3)`` vertices at rest.
        normals: ``(V, 3)`` their unit normals.
        depth: ``(V,)`` how far inside of the border of clothes each lies, metres.
        scale: Size of the person over 1.66 m.

    Returns:
        ``(V, 3)`` float32.
    """
    sink = SINK * scale * smoothstep(depth, -0.006 * scale, RIM * 0.7 * scale)
    return (points - normals * sink[:, None]).astype(np.float32)


def bare(surface: Surface, depth: np.ndarray, scale: float) -> np.ndarray:
    """``(F,)`` bool: triangles that are not deep under clothes."""
    return ~(surface.spread(depth > RIM * scale) > 0.99)[surface.faces].all(1)
