# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""MakeHuman's own outfits and shoes: refined, kept out of the skin, with folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..rasterizer import vertex_normals
from .body import SKIN, BaseBody, triangulate
from .cloth import Fit, FoldFrame, fold_depth, smoothstep
from .cover import cover_depth, free_space, push_out
from .cutting import refined, subdivide
from .dressing import bind, components
from .nearest import nearest, nearest_and_distance
from .skinning import dense_skin, strongest
from .suit import frame_of, skirt_weights, with_middles

FINE = 3200
"""Outfits with more faces than this are not refined."""


@dataclass
class Outfit:
    """A bound mesh and what it covers; made once.

    Attributes:
        proxy: How the first vertices are bound, see `Wardrobe.proxy`.
        edges: ``(M, 2)`` the others lie on the middles of these edges.
        coarse: ``(G, 3)`` triangles before refinement.
        faces, uv: Triangles over all N vertices.
        origin: ``(F,)`` face of the proxy that each came from.
        bones, skin: ``(N, 4)`` skinning.
        zone: ``(N,)`` uint8.
        frame: Where folds go.
        hem: ``(N,)`` metres from the nearest border.
        twin: ``(N,)`` nearest vertex of the skin.
        near: ``(N,)`` bool, whether that is near enough to be pierced.
        depth: ``(13380,)`` how far inside of the borders each vertex of the skin lies, metres.
    """

    proxy: dict[str, np.ndarray]
    edges: np.ndarray
    coarse: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    origin: np.ndarray
    bones: np.ndarray
    skin: np.ndarray
    zone: np.ndarray
    frame: FoldFrame
    hem: np.ndarray
    twin: np.ndarray
    near: np.ndarray
    depth: np.ndarray

    def dress(
        self, points: np.ndarray, normals: np.ndarray, scale: float, fit: Fit, rng: np.random.Generator
    ) -> np.ndarray:
        """Vertices ``(N, 3)`` on somebody.

        Args:
            points: ``(V, 3)`` the body, metres.
            normals: ``(V, 3)`` its normals.
            scale: Size of the person over 1.66 m.
            fit: How the outfit sits; `Fit.ease` counts from the skin.
            rng: Source of randomness.
        """
        rough = refined(bind(self.proxy, points, scale), self.coarse, self.edges, most=0.06)
        free = smoothstep(self.hem, 0.0, 0.06)
        height = fit.loose * free + fold_depth(self.frame, fit, rng) * (0.2 + 0.8 * free)
        room = 0.3 * self.frame.room
        out = rough + vertex_normals(rough, self.faces) * (np.minimum(height, room) * scale)[:, None]
        least = np.where(self.near, fit.ease, -1.0)
        return push_out(out, points[self.twin], normals[self.twin], least)


def make_outfit(body: BaseBody, proxy: dict[str, np.ndarray], refine: bool) -> Outfit:
    """Prepare a proxy of the wardrobe, whose skinning is known; takes part of a second."""
    template = body.template * 0.1
    coarse, uv, origin = triangulate(proxy['faces'], proxy['uv'], np.arange(len(proxy['faces'])))
    rough = bind(proxy, template, 1.0)
    faces, edges = coarse, np.zeros((0, 2), np.int32)
    if refine and len(proxy['faces']) < FINE:
        faces, uv, edges, parents = subdivide(coarse, uv, len(rough))
        origin = origin[parents]
    points = refined(rough, coarse, edges, most=0.06)
    dense = with_middles(dense_skin(proxy['bones'], proxy['skin'], len(body.bone_names)), edges)
    skirts = _skirt_vertices(body, points, faces)
    if skirts.any():
        dense[skirts] = skirt_weights(body, points[skirts])
    bones, skin = strongest(dense)
    frame = frame_of(body, points, dense, free_space(rough, coarse), edges)
    body_faces = body.data['faces/body']
    body_normals = vertex_normals(template, body.triangles('body')[0])
    known = np.zeros(SKIN, bool)
    known[proxy['hidden'][proxy['hidden'] < SKIN]] = True
    depth = cover_depth(template[:SKIN], body_normals[:SKIN], body_faces, rough, coarse, known)
    twin = nearest(points, template[:SKIN])
    height = ((points - template[twin]) * body_normals[twin]).sum(1)
    near = np.abs(height) < 0.03
    ends = border(faces)
    hem = nearest_and_distance(points, points[ends])[1] if len(ends) else np.full(len(points), 1e3)
    zone = body.bone_zones[np.argmax(dense, 1)]
    return Outfit(proxy, edges, coarse, faces, uv, origin, bones, skin, zone, frame, hem, twin, near, depth)


def border(faces: np.ndarray) -> np.ndarray:
    """Vertices on edges that belong to one triangle only."""
    ends = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    pairs, count = np.unique(ends, axis=0, return_counts=True)
    return np.unique(pairs[count == 1])


def _skirt_vertices(body: BaseBody, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """``(N,)`` bool: vertices of pieces that reach across the middle below the crotch."""
    hip = body.skeleton(body.template * 0.1).head('upperleg01.L')[1]
    piece = components(faces, len(points))
    across = (np.abs(points[:, 0]) < 0.02) & (points[:, 1] < hip - 0.16)
    return np.isin(piece, np.unique(piece[across]))
