# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Shirts, trousers, shorts and skirts cut out of the base mesh's own cloth helpers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..rasterizer import vertex_normals
from ..zones import ZONE, both_sides
from .body import SKIN, BaseBody
from .cloth import Fit, drape, fold_depth, hanging, random_fit, smoothstep
from .colors import cloth_color, second_color, weave
from .cover import push_out
from .cutting import between, cut
from .nearest import nearest
from .skinning import mixed_skin
from .suit import Suit, make_suit


@dataclass
class Garment:
    """A piece of clothing on a body at rest.

    Attributes:
        kind: 'upper' or 'lower'.
        vertices: ``(V, 3)`` metres.
        bones, weights: ``(V, 4)`` skinning.
        faces: ``(F, 3)`` int32.
        uv: ``(F, 3, 2)`` float32.
        zone: ``(V,)`` uint8.
        texture: ``(h, w, 4)`` uint8.
        depth: ``(13380,)`` how far inside of the garment's borders each vertex of the skin lies, metres.
        thick: ``(13380,)`` about how far the cloth stands off it there, metres; 0 where there is none.
    """

    kind: str
    vertices: np.ndarray
    bones: np.ndarray
    weights: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    zone: np.ndarray
    texture: np.ndarray
    depth: np.ndarray
    thick: np.ndarray


@lru_cache(maxsize=4)
def suit(body: BaseBody, group: str) -> Suit:
    """See `suit.make_suit`; made once."""
    return make_suit(body, group)


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
                mine_here = mine & (t > 0)
                value[mine_here] = np.maximum(value, i * 0.5 + np.minimum(t, 1.6) * 0.5)[mine_here]
        out[name] = value
    return out


def below_neck(points: np.ndarray, base: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Metres under the base of the neck, a surface that is lower in front and rises towards the shoulders.

    Args:
        points: ``(N, 3)`` at rest.
        base: ``(3,)`` head of the lowest neck bone.
        scale: Size of the person over 1.66 m.
    """
    rise = 1.1 * np.maximum(np.abs(points[:, 0]) - 0.05 * scale, 0)
    return base[1] - 0.012 * scale - 0.45 * (points[:, 2] - base[2]) + rise - points[:, 1]


def helper_garments(body: BaseBody, points: np.ndarray, female: bool, rng: np.random.Generator) -> list[Garment]:
    """A top and a bottom of random cut, fit, colour and pattern; men go without a top now and then."""
    shape = rng.spawn(1)[0]  # a stream of its own: how cloth hangs does not change who wears it
    scale = float(np.ptp(points[:SKIN, 1]) / 1.66)
    skeleton = body.skeleton(points)
    tights = _Dresser(suit(body, 'helper-tights'), points, scale)
    arms = np.isin(tights.suit.zone, both_sides('upperarm', 'lowerarm', 'hand'))
    legs = np.isin(tights.suit.zone, both_sides('upperleg', 'lowerleg', 'foot'))
    arm, leg = (tights.suit.spread(limb_progress(body)[k]) for k in ('arm', 'leg'))
    y = tights.base[:, 1]
    waist = skeleton.head('spine05')[1] + rng.uniform(0.0, 0.05)
    neck = _neckline(tights.base, skeleton.head('neck01'), rng.uniform(-0.005, 0.035) * scale, scale, shape)
    top = None
    sleeve = float(rng.choice([0.06, rng.uniform(0.2, 0.48), rng.uniform(0.85, 0.97)], p=[0.2, 0.42, 0.38]))
    if female or rng.random() > 0.1:
        hem = waist - rng.uniform(0.02, 0.16)
        wear = np.where(arms, 0.3 * (sleeve - arm), np.minimum(y - hem, neck))
        fit = random_fit(shape, rng.uniform(0.004, 0.014))
        top = ('upper', wear, np.where(arms, 0.02 + 0.3 * arm, neck), fit, _cloth('upper', rng))
    lengths = [rng.uniform(0.22, 0.48), rng.uniform(0.6, 0.85), rng.uniform(0.9, 0.97)]
    length = float(rng.choice(lengths, p=[0.35, 0.1, 0.55]))
    if female and rng.random() < 0.35:
        joints = [skeleton.head(f'{bone}.L')[1] for bone in ('upperleg01', 'lowerleg01', 'foot')]
        low = np.interp(max(length, 0.36), [0, 0.5, 1], joints)
        fit = random_fit(shape, rng.uniform(0.0, 0.01) + 0.004)
        high = points[suit(body, 'helper-skirt').ids, 1].max()
        out = [tights.wear(*top, shape, over=high - y)] if top else []
        out.append(_skirt(body, points, scale, tights, low, fit, _cloth('lower', rng), shape))
        return out
    band = np.where(arms, -1.0, waist + 0.03 - y)
    wear = np.where(legs, np.minimum(0.5 * (length - leg), band), band)
    fit = random_fit(shape, rng.uniform(0.003, 0.010))
    bottom = ('lower', wear, band, fit, _cloth('lower', rng))
    if top is None:
        return [tights.wear(*bottom, shape)]
    inner, outer = (top, bottom) if shape.random() < 0.3 else (bottom, top)
    # What lies deep under the outer garment is not there at all; the rest stays under it.
    covered = 0.045 * scale + outer[3].loose - outer[1]
    worn = tights.wear(inner[0], np.minimum(inner[1], covered), *inner[2:], shape, over=outer[1])
    return [worn, tights.wear(*outer, shape)]


def _neckline(points: np.ndarray, base: np.ndarray, drop: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Metres ``(N,)`` under the neckline of a top, round or scooped out in front."""
    neck = below_neck(points, base, scale) - drop
    if rng.random() < 0.4:
        front = smoothstep(points[:, 2] - base[2], 0.0, 0.06 * scale)
        depth, width = rng.uniform(0.01, 0.07) * scale, rng.uniform(0.045, 0.07) * scale
        neck -= depth * front * np.exp(-0.5 * (points[:, 0] / width) ** 2)
    return neck


class _Dresser:
    """Puts garments on the tights helper of one person, each over the one before."""

    def __init__(self, surface: Suit, points: np.ndarray, scale: float) -> None:
        self.suit, self.scale = surface, scale
        self.base = surface.positions(points)
        self.normals = hanging(vertex_normals(self.base, surface.faces), surface.links, surface.frame.share)
        self.height = np.full(len(self.base), -1.0)
        self.outside = self.base

    def wear(
        self, kind: str, wear: np.ndarray, fitted: np.ndarray, fit: Fit, texture: np.ndarray, rng: np.random.Generator,
        over: np.ndarray | None = None,
    ) -> Garment:  # fmt: skip
        """A garment where ``wear`` (N,) > 0; it is tight where ``fitted`` (N,) is 0 and hangs freely elsewhere.

        Where ``over`` (N,) > 0 another garment will press it flat.
        """
        s = self.suit
        floor = np.maximum(fit.ease, self.height + 0.004)
        rounds = 3 + int(900 * min(fit.loose, 0.02))
        hold = (wear < -0.06) | (fitted < 0.015)
        points = drape(self.base, self.normals, floor, s.links, hold, rounds)
        # Cloth lies on shoulders and hangs from them.
        steep = 1 - smoothstep(self.normals[:, 1], 0.1, 0.7)
        free = smoothstep(fitted, 0.0, 0.07) * (1 - 0.4 * s.frame.share) * steep
        height = fit.loose * free + fold_depth(s.frame, fit, rng, wear > -0.03) * (0.25 + 0.75 * free)
        if over is not None:
            height *= 1 - 0.9 * smoothstep(over, -0.04, 0.0)
        room = 0.35 * s.frame.room * self.scale
        points = points + self.normals * np.minimum(height * self.scale, room)[:, None]
        worn = wear > -0.02
        self.height = np.where(worn, np.maximum(self.height, ((points - self.base) * self.normals).sum(1)), self.height)
        self.outside = np.where(worn[:, None], points, self.outside)
        depth = (wear - 1.5 * fit.loose * free)[s.skin_twin]
        # The helper itself lies up to a centimetre off the skin.
        thick = np.where(wear > 0, self.height + 0.01, 0.0)[s.skin_twin]
        return _finish(kind, s, points, wear, texture, depth, thick)


def _skirt(
    body: BaseBody, points: np.ndarray, scale: float, tights: _Dresser, low: float, fit: Fit, texture: np.ndarray,
    rng: np.random.Generator,
) -> Garment:  # fmt: skip
    s = suit(body, 'helper-skirt')
    twin = _twins(body)
    base = s.positions(points)
    high = base[:, 1].max()
    # The front of a skirt that stands far off the thighs would float above them when somebody sits.
    flare = 0.25 + 0.5 * smoothstep(high - low, 0.4 * scale, 0.9 * scale)
    base[:, 2] = _narrow(base, tights.base, flare)
    out = push_out(base, tights.outside[twin], tights.normals[twin], fit.ease)
    hold = out[:, 1] > high - 0.02 * scale
    normals = hanging(vertex_normals(out, s.faces), s.links, s.frame.share)
    out = drape(out, normals, np.zeros(len(out)), s.links, hold, 14)
    down = smoothstep(high - out[:, 1], 0.05 * scale, 0.45 * scale)
    wear = base[:, 1] - low
    height = (fit.loose + 2 * fold_depth(s.frame, fit, rng, wear > -0.06)) * down + 0.004
    out = out + normals * np.minimum(height * scale, 0.35 * s.frame.room * scale + 0.004)[:, None]
    y = points[:SKIN, 1]
    below = [ZONE['pelvis'], *both_sides('upperleg', 'lowerleg')]
    legs = np.isin(tights.suit.zone[tights.suit.skin_twin], below)
    depth = np.where(legs, np.minimum(y - low - 0.12 * scale, high - 0.02 - y), -1.0)
    return _finish('lower', s, out, wear, texture, depth, np.zeros(SKIN))


def _narrow(points: np.ndarray, body: np.ndarray, share: float) -> np.ndarray:
    """New z of a skirt's ``points`` (N, 3): only ``share`` of how far it stands out in front of ``body`` (M, 3)."""
    low, step = body[:, 1].min(), 0.02
    row = ((body[:, 1] - low) / step).astype(int)
    front = np.full(row.max() + 2, -1.0)
    centre = np.abs(body[:, 0]) < np.abs(points[:, 0]).max() * 0.8
    np.maximum.at(front, row[centre], body[centre, 2])
    heights = low + (np.arange(len(front)) + 0.5) * step
    known = front > -1
    edge = np.interp(points[:, 1], heights[known], front[known]) + 0.008
    return np.where(points[:, 2] > edge, edge + share * (points[:, 2] - edge), points[:, 2])


@lru_cache(maxsize=1)
def _twins(body: BaseBody) -> np.ndarray:
    """For each vertex of the skirt the nearest one of the tights."""
    return nearest(suit(body, 'helper-skirt').template, suit(body, 'helper-tights').template)


def _finish(
    kind: str, s: Suit, points: np.ndarray, wear: np.ndarray, texture: np.ndarray, depth: np.ndarray,
    thick: np.ndarray,
) -> Garment:  # fmt: skip
    """Cut a garment out of a dressed suit."""
    near = (wear[s.faces] > 0).any(1)
    c = cut(s.faces[near], wear)
    faces, uv = c.faces[c.inside], c.spread(s.uv[near])[c.inside]
    used, faces = np.unique(faces, return_inverse=True)
    bones, weights = mixed_skin(s.bones, s.weights, c.sources, c.shares, int(s.bones.max()) + 1)
    news = between(points, c.sources, c.mix), bones, weights, s.zone[c.sources[:, 0]]
    pairs = zip((points, s.bones, s.weights, s.zone), news, strict=True)
    points, bones, weights, zone = (np.concatenate(pair)[used] for pair in pairs)
    faces = faces.reshape(-1, 3).astype(np.int32)
    return Garment(kind, points, bones, weights, faces, uv, zone, texture, depth, thick)


def _cloth(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A texture for a garment, ``(384, 384, 4)`` uint8."""
    side = 384
    texture = np.full((side, side, 4), 255, np.uint8)
    color = cloth_color(rng, kind)
    base = np.broadcast_to(color, (side, side, 3))
    if rng.random() < (0.4 if kind == 'upper' else 0.12):
        y, x = np.mgrid[:side, :side] / side / 0.9  # metres: see uv
        mask = weave(x, y, rng)[..., None]
        base = base * (1 - mask) + second_color(color, rng) * mask
    texture[..., :3] = np.clip(base * rng.normal(1, 0.025, (side, side, 1)), 0, 245)
    return texture
