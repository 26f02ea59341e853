# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The base mesh's cloth helpers, refined: the surfaces that shirts, trousers and skirts are cut out of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..rasterizer import vertex_normals
from ..zones import ZONE
from .bake import strongest
from .body import BaseBody
from .cloth import FoldFrame, fold_frame, neighbours, smoothstep
from .cover import free_space
from .cutting import between, rounded_middles, subdivide
from .nearest import nearest


@dataclass
class Suit:
    """A refined helper.

    Attributes:
        ids: ``(U,)`` vertices of the base mesh; they come first.
        edges: ``(M, 2)`` ends, among those, of the edges on whose middles the others lie.
        coarse: ``(G, 3)`` triangles before refinement.
        faces: ``(F, 3)`` int32 over the N = U + M vertices.
        uv: ``(F, 3, 2)`` float32.
        bones, weights: ``(N, 4)`` skinning.
        zone: ``(N,)`` uint8.
        frame: Where folds go.
        links: See `cloth.neighbours`.
        template: ``(N, 3)`` the vertices on the unshaped body, metres.
        skin_twin: ``(13380,)`` the suit's vertex nearest to each vertex of the skin.
    """

    ids: np.ndarray
    edges: np.ndarray
    coarse: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    bones: np.ndarray
    weights: np.ndarray
    zone: np.ndarray
    frame: FoldFrame
    links: tuple[np.ndarray, np.ndarray]
    template: np.ndarray
    skin_twin: np.ndarray

    def positions(self, points: np.ndarray) -> np.ndarray:
        """Vertices ``(N, 3)`` on a shaped body ``points`` (V, 3)."""
        rough = points[self.ids]
        normals = vertex_normals(rough, self.coarse)
        return np.concatenate([rough, rounded_middles(rough, normals, self.edges)])

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values ``(V, ...)`` of the base mesh at the suit's vertices, ``(N, ...)``."""
        mine = values[self.ids]
        return np.concatenate([mine, between(mine, self.edges, np.full(len(self.edges), 0.5))])


def make_suit(body: BaseBody, group: str) -> Suit:
    """Refine ``helper-tights`` or ``helper-skirt``."""
    faces, _, _ = body.triangles(group)
    ids, coarse = np.unique(faces, return_inverse=True)
    coarse = coarse.reshape(-1, 3).astype(np.int32)
    points = body.template * 0.1
    # The cut of the cloth does not depend on who wears it.
    rest = points[ids][coarse]
    uv = np.stack([rest[..., 0] * 0.9 + rest[..., 2] * 0.35 + 0.5, rest[..., 1] * 0.9 + 0.5], -1).astype(np.float32)
    fine, uv, edges, _ = subdivide(coarse, uv, len(ids))
    rough = points[ids]
    template = np.concatenate([rough, rounded_middles(rough, vertex_normals(rough, coarse), edges)])
    dense = np.zeros((len(ids), len(body.bone_names)), np.float32)
    np.put_along_axis(dense, body.skin_bones[ids].astype(np.int64), body.skin_weights[ids], 1)
    dense = np.concatenate([dense, between(dense, edges, np.full(len(edges), 0.5, np.float32))])
    if group == 'helper-skirt':
        dense = skirt_weights(body, template)
    bones, weights = strongest(dense)
    zone = body.bone_zones[np.argmax(dense, 1)]
    zone[zone == ZONE['head']] = ZONE['neck']
    arms = np.array([b.startswith(('upperarm', 'lowerarm', 'wrist')) for b in body.bone_names])
    room = free_space(rough, coarse)
    room = np.concatenate([room, room[edges].min(1)])
    frame = fold_frame(template, dense[:, arms].sum(1), room, body.skeleton(points))
    return Suit(ids, edges, coarse, fine, uv, bones, weights, zone, frame, neighbours(fine, len(template)), template,
                nearest(points[:13380], template))  # fmt: skip


def skirt_weights(body: BaseBody, template: np.ndarray) -> np.ndarray:
    """Weights ``(N, B)`` that let a skirt follow both legs: the cloth between them goes where they go on average.

    Args:
        body: The base mesh.
        template: ``(N, 3)`` vertices of the skirt on the unshaped body, metres.
    """
    points = body.template * 0.1
    tights = np.unique(body.data['faces/helper-tights'])
    twin = tights[nearest(template, points[tights])]
    out = np.zeros((len(template), len(body.bone_names)), np.float32)
    np.put_along_axis(out, body.skin_bones[twin].astype(np.int64), body.skin_weights[twin], 1)
    width = body.skeleton(points).head('upperleg01.L')[0] * 1.1
    left = smoothstep(template[:, 0], -width, width)
    for part in ('upperleg', 'lowerleg'):
        mine = np.array([b.startswith(part) for b in body.bone_names])
        share = out[:, mine].sum(1)
        out[:, mine] = 0
        for side, half in (('L', left), ('R', 1 - left)):
            out[:, body.bone_names.index(f'{part}01.{side}')] = share * half
    # What hangs beside feet goes with the shins.
    feet = np.array([b.startswith(('foot', 'toe')) for b in body.bone_names])
    for side, half in (('L', left), ('R', 1 - left)):
        out[:, body.bone_names.index(f'lowerleg01.{side}')] += out[:, feet].sum(1) * half
    out[:, feet] = 0
    return out
