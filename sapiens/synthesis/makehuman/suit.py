# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The base mesh's cloth helpers, refined: the surfaces that shirts, trousers and skirts are cut out of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..zones import ZONE
from .body import SKIN, BaseBody
from .cloth import FoldFrame, fold_frame, neighbours, smoothstep
from .cover import free_space
from .cutting import refined, subdivide
from .nearest import nearest
from .skinning import dense_skin, strongest


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
        return refined(points[self.ids], self.coarse, self.edges)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values ``(V, ...)`` of the base mesh at the suit's vertices, ``(N, ...)``."""
        return with_middles(values[self.ids], self.edges)


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
    template = refined(rough, coarse, edges)
    if group == 'helper-skirt':
        dense = skirt_weights(body, template)
    else:
        dense = with_middles(dense_skin(body.skin_bones[ids], body.skin_weights[ids], len(body.bone_names)), edges)
    bones, weights = strongest(dense)
    zone = body.bone_zones[np.argmax(dense, 1)]
    zone[zone == ZONE['head']] = ZONE['neck']
    frame = frame_of(body, template, dense, free_space(rough, coarse), edges)
    return Suit(ids, edges, coarse, fine, uv, bones, weights, zone, frame, neighbours(fine, len(template)), template,
                nearest(points[:SKIN], template))  # fmt: skip


def with_middles(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Values ``(V, ...)`` and, behind them, their means ``(M, ...)`` over edges."""
    return np.concatenate([values, values[edges].mean(1)])


def frame_of(body: BaseBody, template: np.ndarray, dense: np.ndarray, room: np.ndarray, edges: np.ndarray) -> FoldFrame:
    """Where folds go on a refined garment.

    Args:
        body: The base mesh.
        template: ``(N, 3)`` vertices on the unshaped body, metres.
        dense: ``(N, B)`` weights of the bones.
        room: Free space in front of the vertices before refinement, see `free_space`.
        edges: ``(M, 2)`` on whose middles the others lie.
    """
    arms = np.array([b.startswith(('upperarm', 'lowerarm', 'wrist')) for b in body.bone_names])
    room = np.concatenate([room, room[edges].min(1)])
    return fold_frame(template, dense[:, arms].sum(1), room, body.skeleton(body.template * 0.1))


def skirt_weights(body: BaseBody, template: np.ndarray) -> np.ndarray:
    """Weights ``(N, B)`` that let a skirt follow both legs: the cloth between them goes where they go on average.

    Args:
        body: The base mesh.
        template: ``(N, 3)`` vertices of the skirt on the unshaped body, metres.
    """
    points = body.template * 0.1
    tights = np.unique(body.data['faces/helper-tights'])
    twin = tights[nearest(template, points[tights])]
    out = dense_skin(body.skin_bones[twin], body.skin_weights[twin], len(body.bone_names))
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
