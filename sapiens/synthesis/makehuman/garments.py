# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Shirts, trousers, shorts and skirts cut out of the base mesh's own cloth helpers, and socks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..rasterizer import vertex_normals
from ..zones import ZONE
from .body import BaseBody
from .colors import cloth_color, second_color, weave
from .nearest import nearest


@dataclass
class Garment:
    """A piece of clothing on a body at rest.

    Attributes:
        kind: 'upper' or 'lower'.
        vertices: ``(V + N, 3)`` metres: all of the base mesh, then those new on the hems.
        sources: ``(N, 2)`` int32 base vertices between which each new one lies, ``mix`` (N,) share of the second.
        faces: ``(F, 3)`` int32.
        uv: ``(F, 3, 2)`` float32.
        texture: ``(h, w, 4)`` uint8.
        covers: ``(V,)`` bool; body vertices under it.
    """

    kind: str
    vertices: np.ndarray
    sources: np.ndarray
    mix: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    texture: np.ndarray
    covers: np.ndarray


@lru_cache(maxsize=1)
def nearest_cloth(body: BaseBody) -> np.ndarray:
    """For each vertex of the body's skin the nearest vertex of the tights helper."""
    cloth = np.unique(body.data['faces/helper-tights'])
    return cloth[nearest(body.template[:13380], body.template[cloth])]


@lru_cache(maxsize=1)
def limb_progress(body: BaseBody) -> dict[str, np.ndarray]:
    """How far along the arm (0 shoulder, 1 wrist) and the leg (0 hip, 1 ankle) each vertex of the template is."""
    skeleton = body.skeleton(body.template * 0.1)
    points = body.template * 0.1
    out = {}
    for name, chain in (('arm', ('upperarm01', 'lowerarm01', 'wrist')), ('leg', ('upperleg01', 'lowerleg01', 'foot'))):
        value = np.zeros(len(points))
        for side, sign in (('L', 1), ('R', -1)):
            joints = [skeleton.head(f'{b}.{side}') for b in chain]
            mine = points[:, 0] * sign > 0
            for i, (a, b) in enumerate(zip(joints, joints[1:], strict=False)):
                d = b - a
                t = (points - a) @ d / (d @ d)
                value[mine] = np.where(
                    (t > 0)[mine], np.maximum(value[mine], i * 0.5 + np.minimum(t[mine], 1.6) * 0.5), value[mine]
                )
        out[name] = value
    return out


def helper_garments(
    body: BaseBody, vertex_zone: np.ndarray, points: np.ndarray, female: bool, rng: np.random.Generator
) -> list[Garment]:
    """A top and a bottom of random cut, fit, colour and pattern; men go without a top now and then."""
    progress = limb_progress(body)
    arms = np.isin(vertex_zone, [ZONE[f'{n}.{s}'] for n in ('upperarm', 'lowerarm', 'hand') for s in 'LR'])
    legs = np.isin(vertex_zone, [ZONE[f'{n}.{s}'] for n in ('upperleg', 'lowerleg', 'foot') for s in 'LR'])
    y = points[:, 1]
    skeleton = body.skeleton(points)
    waist = skeleton.head('spine05')[1] + rng.uniform(0.0, 0.05)
    neck = skeleton.head('neck01')[1] - rng.uniform(-0.005, 0.035)
    out = []
    sleeve = float(rng.choice([0.06, rng.uniform(0.2, 0.48), rng.uniform(0.85, 0.97)], p=[0.2, 0.42, 0.38]))
    if female or rng.random() > 0.1:
        hem = waist - rng.uniform(0.02, 0.16)
        wear = np.where(arms, 0.3 * (sleeve - progress['arm']), np.minimum(y - hem, neck - y))
        out.append(_cut('upper', body, points, 'helper-tights', wear, rng.uniform(0.004, 0.014), rng))
    length = float(
        rng.choice([rng.uniform(0.22, 0.48), rng.uniform(0.6, 0.85), rng.uniform(0.9, 0.97)], p=[0.35, 0.1, 0.55])
    )
    if female and rng.random() < 0.35:
        low = np.interp(
            length,
            [0, 0.5, 1],
            [skeleton.head('upperleg01.L')[1], skeleton.head('lowerleg01.L')[1], skeleton.head('foot.L')[1]],
        )
        out.append(_cut('lower', body, points, 'helper-skirt', y - low, rng.uniform(0.0, 0.01), rng))
        return out
    wear = np.where(legs, 0.5 * (length - progress['leg']), np.where(arms, -1.0, waist + 0.03 - y))
    out.append(_cut('lower', body, points, 'helper-tights', wear, rng.uniform(0.003, 0.010), rng))
    return out


def _cut(
    kind: str, body: BaseBody, points: np.ndarray, group: str, keep: np.ndarray, ease: float, rng: np.random.Generator
) -> Garment:
    faces, sources, mix = clip(body.triangles(group)[0], keep)
    both = np.concatenate([points, _between(points, sources, mix)])
    vertices = both + vertex_normals(both, faces) * ease
    # The cut of the cloth does not depend on who wears it.
    template = np.concatenate([body.template, _between(body.template, sources, mix)]) * 0.1
    rest = template[faces]
    uv = np.stack([rest[..., 0] * 0.9 + rest[..., 2] * 0.35 + 0.5, rest[..., 1] * 0.9 + 0.5], -1).astype(np.float32)
    side = 384
    texture = np.full((side, side, 4), 255, np.uint8)
    color = cloth_color(rng, kind)
    base = np.broadcast_to(color, (side, side, 3))
    if rng.random() < (0.4 if kind == 'upper' else 0.12):
        y, x = np.mgrid[:side, :side] / side / 0.9  # metres: see uv
        mask = weave(x, y, rng)[..., None]
        base = base * (1 - mask) + second_color(color, rng) * mask
    texture[..., :3] = np.clip(base * rng.normal(1, 0.025, (side, side, 1)), 0, 245)
    # Body vertices well inside the garment need not be drawn; a skirt is too loose to hide anything.
    covers = np.zeros(len(points), bool)
    if group == 'helper-tights':
        covers[:13380] = keep[nearest_cloth(body)] > 0.02
    return Garment(kind, vertices, sources, mix, faces, uv, texture, covers)


def _between(values: np.ndarray, sources: np.ndarray, mix: np.ndarray) -> np.ndarray:
    return values[sources[:, 0]] * (1 - mix[:, None]) + values[sources[:, 1]] * mix[:, None]


def clip(faces: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a mesh along ``keep`` = 0.

    Args:
        faces: ``(F, 3)`` triangles over V vertices.
        keep: ``(V,)``; what is greater than 0 stays.

    Returns:
        Faces over the V old and N new vertices, ``(N, 2)`` ends of the edges on which new vertices lie, and ``(N,)``
        how far along them.
    """
    inside = keep > 0
    count = inside[faces].sum(1)
    out = [faces[count == 3]]
    cut = faces[(count == 1) | (count == 2)]
    new: dict[tuple[int, int], int] = {}
    pairs: list[tuple[int, int]] = []

    def on_edge(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in new:
            new[key] = len(keep) + len(pairs)
            pairs.append(key)
        return new[key]

    extra = []
    for triangle in cut.tolist():
        flags = [bool(inside[v]) for v in triangle]
        alone = flags.index(sum(flags) == 1)
        a, b, c = triangle[alone], triangle[(alone + 1) % 3], triangle[(alone + 2) % 3]
        ab, ac = on_edge(a, b), on_edge(a, c)
        extra += [(a, ab, ac)] if sum(flags) == 1 else [(ab, b, c), (ab, c, ac)]
    out.append(np.array(extra, np.int32).reshape(-1, 3))
    sources = np.array(pairs, np.int32).reshape(-1, 2)
    first, second = keep[sources[:, 0]], keep[sources[:, 1]]
    mix = first / np.where(first == second, 1.0, first - second)
    return np.concatenate(out).astype(np.int32), sources, mix


def sock_faces(body: BaseBody, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``(F,)`` bool: faces of the body under a sock of random height."""
    progress = limb_progress(body)['leg']
    top = float(rng.uniform(0.72, 0.95))
    faces = body.data['faces/body']
    y = body.template[:, 1]
    low = y < np.quantile(y[:13380], 0.45)
    return (progress[faces].mean(1) > top) & low[faces].all(1)
