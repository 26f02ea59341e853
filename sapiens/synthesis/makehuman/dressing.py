# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Bound meshes on a shaped body, their part labels, and eyes."""

from __future__ import annotations

import numpy as np

from ..rasterizer import interpolate, rasterize
from ..zones import ZONE, both_sides


def bind(proxy: dict[str, np.ndarray], points: np.ndarray, scale: float) -> np.ndarray:
    """Vertices of a bound mesh (see `formats.Proxy`) on a body: ``points`` (V, 3) and the result in metres."""
    return (points[proxy['refs']] * proxy['weights'][..., None]).sum(1) + proxy['offsets'] * (0.1 * scale)


def components(faces: np.ndarray, count: int) -> np.ndarray:
    """Number of the connected piece that each vertex of a mesh belongs to, ``(count,)``."""
    label = np.arange(count)
    while True:
        least = label[faces].min(1)
        new = label.copy()
        for corner in range(faces.shape[1]):
            np.minimum.at(new, faces[:, corner], least)
        new = new[new]
        if (new == label).all():
            return np.unique(label, return_inverse=True)[1]
        label = new


def face_zones(vertex_zone: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Zone of each face: that of most of its corners (the first wins a tie)."""
    z = vertex_zone[faces]
    return np.where(z[:, 1] == z[:, 2], z[:, 1], z[:, 0]).astype(np.uint8)


def texel_values(faces: np.ndarray, uv: np.ndarray, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values of a mesh's vertices at the texels of its texture.

    Args:
        faces: ``(F, 3)`` triangles.
        uv: ``(F, 3, 2)`` texture coordinates, v up.
        values: ``(V, C)``.
        size: ``(h, w)`` of the texture.

    Returns:
        ``(h, w, C)`` float32; 0 where no triangle uses the texel.
    """
    inside = uv - np.floor(uv.mean(1, keepdims=True))
    flat = np.concatenate([inside * [1, -1] + [0, 1], np.ones((*uv.shape[:2], 1))], -1).reshape(-1, 3)
    view = np.array([[size[1], 0, -0.5], [0, size[0], -0.5], [0, 0, 1]])
    corners = np.arange(len(flat), dtype=np.int32).reshape(-1, 3)
    _, face_id, bary = rasterize(flat, corners, view, size)
    return interpolate(values[faces].reshape(-1, values.shape[1]), corners, face_id, bary).astype(np.float32)


def texel_places(faces: np.ndarray, uv: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where each texel lies on the body, ``(h, w, 2)`` metres around it and upwards; see `texel_values`.

    By these, stripes run straight whatever the texture's layout. Half of the depth counts as width, so that they also
    run down the sides.
    """
    return texel_values(faces, uv, np.stack([points[:, 0] + 0.5 * points[:, 2], points[:, 1]], -1), size)


def split_outfit(faces: np.ndarray, vertex_zone: np.ndarray, points: np.ndarray, waist: float) -> np.ndarray:
    """Which faces of an outfit are lower clothing: decided for each connected piece, by height for one-piece suits.

    Args:
        faces: ``(F, n)`` faces of the outfit.
        vertex_zone: ``(V,)`` zones.
        points: ``(V, 3)`` at rest, metres.
        waist: Height of the waist.

    Returns:
        ``(F,)`` bool.
    """
    piece = components(faces, len(vertex_zone))
    lower = np.zeros(len(faces), bool)
    leg_zones = both_sides('upperleg', 'lowerleg', 'foot')
    top_zones = [ZONE[n] for n in ('chest', 'neck', 'head')] + both_sides('upperarm', 'lowerarm', 'hand')
    for number in np.unique(piece[faces[:, 0]]):
        mine = piece[faces[:, 0]] == number
        zones = vertex_zone[np.unique(faces[mine])]
        legs, top = np.isin(zones, leg_zones).mean(), np.isin(zones, top_zones).mean()
        if legs > 0.25 and top > 0.25:  # one piece
            lower[mine] = points[faces[mine], 1].mean(1) < waist
        elif legs > top:
            lower[mine] = True
        elif max(legs, top) < 0.1:
            lower[mine] = points[faces[mine], 1].mean() < waist
    return lower


def iris_texture(color: np.ndarray, rng: np.random.Generator, side: int = 128) -> np.ndarray:
    """Sclera, iris and pupil around the centre of a square; `IRIS` and `PUPIL` are radii in half sides."""
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / (side / 2)
    r, a = np.hypot(x, y), np.arctan2(y, x)
    streak = 0.8 + 0.35 * np.interp((a / (2 * np.pi)) % 1 * 64, np.arange(65), np.append(rng.random(64), 0.5))
    iris = np.asarray(color, np.float64) * (streak * np.clip(1.25 - 0.55 * (r / IRIS) ** 3, 0, 2))[..., None]
    # The white is greyish pink, redder towards the corners; lids and lashes keep light from its upper part.
    white = np.array([206, 196, 190]) - np.clip((r - IRIS) * 60, 0, 40)[..., None] * [0.3, 1.2, 1.1]
    shade = 1 - 0.55 * np.clip((-y - 0.02) / 0.42, 0, 1) ** 1.3 - 0.3 * np.clip((np.abs(x) - 0.45) / 0.4, 0, 1)
    edge = np.clip((r - IRIS) / 0.07 + 0.5, 0, 1)[..., None]
    hole = np.clip((r - PUPIL) / 0.03 + 0.5, 0, 1)[..., None]
    out = np.full((side, side, 4), 255, np.uint8)
    out[..., :3] = np.clip(((iris * (1 - edge) + white * edge) * hole + 6 * (1 - hole)) * shade[..., None], 0, 255)
    return out


IRIS, PUPIL = 0.40, 0.14
EYE_SPAN = np.radians(75)
"""Angle from the eye's axis at which its texture ends."""


def eyeball(centre: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The front of a sphere that looks along +z: vertices, faces and uv (the texture's radius is the polar angle)."""
    rings, segments = 14, 24
    polar = np.linspace(0, EYE_SPAN, rings + 1)[1:]
    around = np.arange(segments) / segments * 2 * np.pi
    p, a = np.meshgrid(polar, around, indexing='ij')
    d = np.stack([np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)], -1).reshape(-1, 3)
    points = np.concatenate([[[0, 0, 1.0]], d]) * radius + centre
    t = np.concatenate([[0.0], (p / EYE_SPAN).ravel()])
    phi = np.concatenate([[0.0], a.ravel()])
    coordinates = np.stack([0.5 + 0.4999 * t * np.cos(phi), 0.5 + 0.4999 * t * np.sin(phi)], -1)
    faces = [[0, 1 + k, 1 + (k + 1) % segments] for k in range(segments)]
    for ring in range(rings - 1):
        for k in range(segments):
            i, j = 1 + ring * segments + k, 1 + ring * segments + (k + 1) % segments
            faces += [[i, i + segments, j], [j, i + segments, j + segments]]
    faces = np.array(faces, np.int32)
    return points, faces, coordinates[faces].astype(np.float32)


def ring_on_eye(centre: np.ndarray, radius: float, part: float, clock: np.ndarray) -> np.ndarray:
    """Points of a circle around the eye's axis; ``part`` is `IRIS` or `PUPIL`, ``clock`` degrees from +x towards +y."""
    p = part * EYE_SPAN
    a = np.radians(clock)
    d = np.stack([np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.full(len(a), np.cos(p))], -1)
    return d * radius + centre
