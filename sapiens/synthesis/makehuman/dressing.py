# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Bound meshes on a shaped body, their part labels, and cloth that does not repeat."""

from __future__ import annotations

import cv2
import numpy as np

from ..zones import ZONE, ZONES


def bind(refs: np.ndarray, weights: np.ndarray, offsets: np.ndarray, points: np.ndarray, scale: float) -> np.ndarray:
    """Vertices of a bound mesh on a body: ``points`` (V, 3) and the result in metres."""
    return (points[refs] * weights[..., None]).sum(1) + offsets * (0.1 * scale)


def bound_skin(
    refs: np.ndarray, weights: np.ndarray, skin_bones: np.ndarray, skin_weights: np.ndarray, bone_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Skinning of a bound mesh: the mix of its base vertices' weights, the four strongest."""
    dense = np.zeros((len(refs), bone_count), np.float32)
    rows = np.arange(len(refs))
    share = np.clip(weights, 0, None)
    share = share / np.maximum(share.sum(1, keepdims=True), 1e-6)
    for corner in range(3):
        for k in range(skin_bones.shape[1]):
            np.add.at(
                dense, (rows, skin_bones[refs[:, corner], k]), share[:, corner] * skin_weights[refs[:, corner], k]
            )
    from .bake import strongest

    return strongest(dense)


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


_LEGS = [ZONE[f'{n}.{s}'] for n in ('upperleg', 'lowerleg', 'foot') for s in 'LR']
_ARMS_CHEST = [ZONE[n] for n in ('chest', 'neck', 'head')] + [
    ZONE[f'{n}.{s}'] for n in ('upperarm', 'lowerarm', 'hand') for s in 'LR'
]


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
    for number in np.unique(piece[faces[:, 0]]):
        mine = piece[faces[:, 0]] == number
        zones = vertex_zone[np.unique(faces[mine])]
        legs, top = np.isin(zones, _LEGS).mean(), np.isin(zones, _ARMS_CHEST).mean()
        if legs > 0.25 and top > 0.25:  # one piece
            lower[mine] = points[faces[mine], 1].mean(1) < waist
        elif legs > top:
            lower[mine] = True
        elif max(legs, top) < 0.1:
            lower[mine] = points[faces[mine], 1].mean() < waist
    return lower


def recolour(texture: np.ndarray, rng: np.random.Generator, pattern: bool = True) -> np.ndarray:
    """A texture in other colours and, at times, with another pattern; folds, seams and shade stay.

    Args:
        texture: ``(h, w, 4)`` uint8.
        rng: Source of randomness.
        pattern: Whether stripes, checks or dots may be woven in.
    """
    if rng.random() < 0.12:
        return texture
    rgb = np.ascontiguousarray(texture[..., :3])
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if rng.random() < 0.35 and np.ptp(rgb[::4, ::4].astype(int), axis=-1).mean() > 25:  # turn the hue, keep the design
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + int(rng.integers(180))) % 180
        hsv[..., 2] = np.clip(hsv[..., 2] * rng.uniform(0.7, 1.5), 0, 255)
        return np.dstack([cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), texture[..., 3]])
    shade = np.clip(np.arange(256) / max(_median(luma, texture[..., 3]), 12.0), 0.25, 1.9)[:, None] ** 0.9
    out = _by_luma(luma, shade * _cloth_color(rng))
    if pattern and rng.random() < 0.5:
        mask = cv2.merge([weave(texture.shape[:2], rng)] * 3)
        other = _by_luma(luma, shade * _cloth_color(rng))
        out = (out * (1 - mask) + other * mask).astype(np.uint8)
    return np.dstack([out, texture[..., 3]])


def _cloth_color(rng: np.random.Generator) -> np.ndarray:
    """Cloth is mostly muted, often dark or white, sometimes bright."""
    hue, kind = rng.random() * 179, rng.random()
    if kind < 0.3:
        saturation, value = rng.uniform(0, 30), rng.uniform(25, 245)
    elif kind < 0.8:
        saturation, value = rng.uniform(40, 140), rng.uniform(40, 200)
    else:
        saturation, value = rng.uniform(140, 235), rng.uniform(90, 235)
    return cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def weave(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A pattern ``(h, w)`` float32 in [0, 1]: stripes, checks, dots, diagonals or blotches."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    y, x = y / size[0], x / size[1]
    n = float(rng.uniform(6, 42))
    kind = rng.choice(['rows', 'columns', 'checks', 'dots', 'diagonal', 'blotch'])
    duty = rng.uniform(0.15, 0.6)
    if kind == 'rows':
        mask = (y * n % 1) < duty
    elif kind == 'columns':
        mask = (x * n % 1) < duty
    elif kind == 'checks':
        mask = 0.5 * ((x * n % 1) < duty) + 0.5 * ((y * n % 1) < duty)
    elif kind == 'dots':
        mask = ((x * n % 1 - 0.5) ** 2 + (y * n % 1 - 0.5) ** 2) < duty * 0.15
    elif kind == 'diagonal':
        mask = ((x + y) * n % 1) < duty
    else:
        grid = rng.normal(0, 1, (int(n) + 3, int(n) + 3)).astype(np.float32)
        mask = cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC) > 0.3
    return np.asarray(mask, np.float32) * np.float32(rng.uniform(0.5, 1.0))


def tint(texture: np.ndarray, color: np.ndarray, strength: float) -> np.ndarray:
    """Move a texture's colour towards ``color`` (sRGB), keeping its light and dark."""
    rgb = np.ascontiguousarray(texture[..., :3])
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    shade = np.clip(np.arange(256) / max(_median(luma, texture[..., 3]), 8.0), 0.2, 2.2)
    goal = _by_luma(luma, shade[:, None] * np.asarray(color, np.float64))
    return np.dstack([cv2.addWeighted(rgb, 1 - strength, goal, strength, 0), texture[..., 3]])


def _median(luma: np.ndarray, alpha: np.ndarray) -> float:
    """Median of an 8-bit picture where it is opaque; 128 where nothing is."""
    counts = cv2.calcHist([luma], [0], (alpha > 128).astype(np.uint8), [256], [0, 256]).ravel().cumsum()
    return float(np.searchsorted(counts, counts[-1] / 2)) if counts[-1] else 128.0


def _by_luma(luma: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Look colours ``(256, 3)`` up by brightness: ``(h, w, 3)`` uint8."""
    table = np.clip(colors + 0.5, 0, 255).astype(np.uint8).reshape(256, 1, 3)
    return cv2.LUT(cv2.merge([luma, luma, luma]), table)


def iris_texture(color: np.ndarray, rng: np.random.Generator, side: int = 128) -> np.ndarray:
    """Sclera, iris and pupil around the centre of a square; `IRIS` and `PUPIL` are radii in half sides."""
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / (side / 2)
    r, a = np.hypot(x, y), np.arctan2(y, x)
    streak = 0.8 + 0.35 * np.interp((a / (2 * np.pi)) % 1 * 64, np.arange(65), np.append(rng.random(64), 0.5))
    iris = np.asarray(color, np.float64) * (streak * np.clip(1.25 - 0.55 * (r / IRIS) ** 3, 0, 2))[..., None]
    white = np.array([232, 226, 220]) - np.clip((r - IRIS) * 60, 0, 40)[..., None] * [0.4, 1, 1]
    edge = np.clip((r - IRIS) / 0.03 + 0.5, 0, 1)[..., None]
    hole = np.clip((r - PUPIL) / 0.03 + 0.5, 0, 1)[..., None]
    out = np.full((side, side, 4), 255, np.uint8)
    out[..., :3] = np.clip((iris * (1 - edge) + white * edge) * hole + 6 * (1 - hole), 0, 255)
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


def zone_ids(names: list[str]) -> np.ndarray:
    """Ids of zones by name."""
    return np.array([ZONES.index(n) for n in names], np.uint8)
