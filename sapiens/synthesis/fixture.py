# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""People made of ellipsoids by code alone: no download, fast, with every label that real people have.

They carry the same bones, parts and keypoints as the MakeHuman people, so tests and demos exercise the whole engine.
They are not meant to look real.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..vocabularies import load_vocabulary
from .actor import PARTS, Actor, Layer
from .fixture_points import HEAD, RADII, face_points, on_face, place_keypoints
from .mesh import Material
from .posing import SIDES
from .skeleton import Skeleton
from .zones import ZONE, part_of_zone, zone_of_bone


def _side(point: tuple, side: str) -> np.ndarray:
    return np.array(point, np.float64) * ([1, 1, 1] if side == 'L' else [-1, 1, 1])


def _skeleton(rng: np.random.Generator) -> tuple[Skeleton, float]:
    """Bones of a random body, 1.45 to 1.95 m tall."""
    bones: list[tuple[str, str, np.ndarray, np.ndarray]] = []

    def bone(name: str, parent: str, head: np.ndarray, tail: np.ndarray) -> None:
        bones.append((name, parent, np.asarray(head, np.float64), np.asarray(tail, np.float64)))

    bone('root', '', (0, 0.95, 0), (0, 1.0, 0))
    column = ['spine05', 'spine04', 'spine03', 'spine02', 'spine01', 'neck01', 'neck02', 'neck03', 'head']
    heights = [0.98, 1.06, 1.15, 1.24, 1.33, 1.43, 1.46, 1.49, 1.52, 1.718]
    for name, parent, low, high in zip(column, ['root', *column], heights, heights[1:], strict=False):
        bone(name, parent, (0, low, 0), (0, high, 0))
    bone('jaw', 'head', (0, 1.57, 0.02), (0, 1.51, 0.09))
    for s in SIDES:
        bone(f'eye.{s}', 'head', _side((0.031, 1.615, 0.077), s), _side((0.031, 1.615, 0.1), s))
        bone(f'clavicle.{s}', 'spine01', _side((0.03, 1.41, 0.02), s), _side((0.15, 1.41, 0), s))
        bone(f'shoulder01.{s}', f'clavicle.{s}', _side((0.14, 1.41, 0), s), _side((0.18, 1.4, 0), s))
        shoulder, elbow, wrist = (_side(p, s) for p in ((0.18, 1.40, 0), (0.36, 1.20, -0.005), (0.53, 1.02, 0.03)))
        bone(f'upperarm01.{s}', f'shoulder01.{s}', shoulder, (shoulder + elbow) / 2)
        bone(f'upperarm02.{s}', f'upperarm01.{s}', (shoulder + elbow) / 2, elbow)
        bone(f'lowerarm01.{s}', f'upperarm02.{s}', elbow, (elbow + wrist) / 2)
        bone(f'lowerarm02.{s}', f'lowerarm01.{s}', (elbow + wrist) / 2, wrist)
        along = (wrist - elbow) / np.linalg.norm(wrist - elbow)
        radial = np.array([0, 0, 1.0]) - along * along[2]
        radial /= np.linalg.norm(radial)
        bone(f'wrist.{s}', f'lowerarm02.{s}', wrist, wrist + along * 0.08)
        for finger in range(1, 6):
            base = wrist + along * (0.085 - 0.006 * (finger - 3) ** 2) + radial * (3.4 - finger) * 0.021
            lengths = np.array([0.043, 0.026, 0.021]) * (1 - 0.08 * abs(finger - 3))
            direction, parent = along, f'wrist.{s}'
            if finger == 1:
                base, direction = wrist + along * 0.022 + radial * 0.026, along * 0.72 + radial * 0.7
            for joint, length in enumerate(lengths, 1):
                bone(f'finger{finger}-{joint}.{s}', parent, base, base + direction * length)
                base, parent = base + direction * length, f'finger{finger}-{joint}.{s}'
        hip, knee, ankle = (_side(p, s) for p in ((0.09, 0.92, 0), (0.105, 0.50, 0.005), (0.115, 0.085, -0.02)))
        bone(f'pelvis.{s}', 'root', (0, 0.95, 0), hip)
        bone(f'upperleg01.{s}', f'pelvis.{s}', hip, (hip + knee) / 2)
        bone(f'upperleg02.{s}', f'upperleg01.{s}', (hip + knee) / 2, knee)
        bone(f'lowerleg01.{s}', f'upperleg02.{s}', knee, (knee + ankle) / 2)
        bone(f'lowerleg02.{s}', f'lowerleg01.{s}', (knee + ankle) / 2, ankle)
        bone(f'foot.{s}', f'lowerleg02.{s}', ankle, _side((0.125, 0.03, 0.10), s))
        bone(f'toe1-1.{s}', f'foot.{s}', _side((0.125, 0.025, 0.11), s), _side((0.125, 0.02, 0.16), s))
    names = tuple(b[0] for b in bones)
    scale = rng.uniform(0.85, 1.12)
    return Skeleton(
        names,
        np.array([names.index(b[1]) if b[1] else -1 for b in bones], np.int32),
        np.array([b[2] for b in bones]) * scale,
        np.array([b[3] for b in bones]) * scale,
    ), scale


@lru_cache(maxsize=16)
def _ball(rings: int, segments: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices ``(V, 3)``, faces and corner uv of a unit sphere, poles at +-y."""
    polar = np.linspace(0, np.pi, rings + 1)
    around = np.arange(segments) / segments * 2 * np.pi
    grid = np.stack(np.broadcast_arrays(np.sin(polar)[:, None] * np.sin(around), np.cos(polar)[:, None],
                                        np.sin(polar)[:, None] * np.cos(around)), -1).reshape(-1, 3)  # fmt: skip
    faces, uv = [], []
    for r in range(rings):
        for k in range(segments):
            a, b = r * segments + k, r * segments + (k + 1) % segments
            c, d = a + segments, b + segments
            corner = {a: (k, r), b: (k + 1, r), c: (k, r + 1), d: (k + 1, r + 1)}
            for triangle in ((a, c, b), (b, c, d)):
                # At the poles one of the two triangles has no area.
                if (r > 0 or triangle == (b, c, d)) and (r < rings - 1 or triangle == (a, c, b)):
                    faces.append(triangle)
                    uv.append([(corner[i][0] / segments, 1 - corner[i][1] / rings) for i in triangle])
    return grid, np.array(faces, np.int32), np.array(uv, np.float32)


class _Builder:
    """Collects ellipsoids into one layer."""

    def __init__(self, skeleton: Skeleton, scale: float) -> None:
        self.skeleton, self.scale = skeleton, scale
        self.pieces, self.materials, self.count = [], [], 0
        self.ids = {name: i for i, name in enumerate(load_vocabulary(PARTS).names)}

    def look(self, material: Material) -> int:
        self.materials.append(material)
        return len(self.materials) - 1

    def ellipsoid(self, centre, axes, bone: str, part: str, material: int, zone: str = '', detail: int = 6) -> None:
        """Add an ellipsoid: ``axes`` (3, 3) are its half axes as rows; the second is the one between the poles."""
        points, faces, uv = _ball(detail, detail + 4)
        axes = np.asarray(axes, np.float64)
        if np.linalg.det(axes) < 0:
            axes = axes * [[-1], [1], [1]]
        of_face = (np.full(len(faces), v) for v in (material, self.ids[part], ZONE[zone or zone_of_bone(bone)]))
        bones = np.full(len(points), self.skeleton.index[bone])
        self.pieces.append((points @ axes + centre, bones, faces + self.count, uv, *of_face))
        self.count += len(points)

    def limb(self, a, b, radii, bone: str, part: str, material: int, zone: str = '', detail: int = 6) -> None:
        """Add an ellipsoid around the segment a-b that reaches a little beyond its ends."""
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        along = b - a
        length = np.linalg.norm(along)
        side = np.cross(along, [0, 0, 1.0])
        side = side / max(np.linalg.norm(side), 1e-9)
        front = np.cross(side, along / length)
        self.ellipsoid((a + b) / 2, [side * radii[0], along / 2 + along / length * radii[0] * 0.45, front * radii[1]],
                       bone, part, material, zone, detail)  # fmt: skip

    def layer(self) -> Layer:
        vertices, bones, faces, uv, material, part, zone = map(np.concatenate, zip(*self.pieces, strict=True))
        return Layer(
            vertices.astype(np.float32), bones.astype(np.int16)[:, None], np.ones((len(bones), 1), np.float32),
            faces.astype(np.int32), uv.astype(np.float32), material.astype(np.int32), part.astype(np.uint8),
            zone.astype(np.uint8), self.materials,
        )  # fmt: skip


def cloth_texture(rng: np.random.Generator, side: int = 64) -> np.ndarray:
    """A random cloth: plain, striped, checked or dotted. ``(side, side, 4)`` uint8."""
    first, second = rng.integers(15, 240, (2, 3)).astype(np.float64)
    y, x = np.mgrid[:side, :side] / side
    n = int(rng.integers(2, 9))
    kind = rng.choice(['plain', 'stripes', 'columns', 'checks', 'dots'], p=[0.4, 0.18, 0.12, 0.15, 0.15])
    mask = {
        'plain': np.zeros((side, side)),
        'stripes': (y * n % 1) < 0.5,
        'columns': (x * n % 1) < 0.5,
        'checks': 0.5 * ((y * n % 1) < 0.5) + 0.5 * ((x * n % 1) < 0.5),
        'dots': ((x * n % 1 - 0.5) ** 2 + (y * n % 1 - 0.5) ** 2) < 0.07,
    }[kind].astype(np.float64)[..., None]
    texture = np.full((side, side, 4), 255, np.uint8)
    texture[..., :3] = np.clip(first * (1 - mask) + second * mask + rng.normal(0, 4, (side, side, 1)), 0, 255)
    return texture


def build(rng: np.random.Generator) -> Actor:
    """A random person made of ellipsoids."""
    skeleton, scale = _skeleton(rng)
    b = _Builder(skeleton, scale)
    girth = rng.uniform(0.85, 1.3) * scale
    tone = np.array([236, 196, 170]) * (1 - 0.72 * rng.random() ** 1.3) * rng.uniform(0.95, 1.05, 3)
    skin = b.look(Material.plain(tone, skin=True, gloss=0.12))
    lip = b.look(Material.plain(tone * [0.85, 0.58, 0.58], skin=True, gloss=0.2))
    hair = b.look(Material.plain(rng.uniform(0.1, 1) * np.array([200, 160, 110]) * rng.uniform(0.3, 1), gloss=0.2))
    white = b.look(Material.plain((235, 235, 230), gloss=0.5))
    tooth = b.look(Material.plain((238, 232, 218), gloss=0.4))
    iris = b.look(Material.plain(rng.uniform(20, 150, 3), gloss=0.5))
    black = b.look(Material.plain((8, 8, 10), gloss=0.5))
    tongue = b.look(Material.plain((190, 80, 85), gloss=0.3))
    upper = b.look(Material(cloth_texture(rng), bump=0.06))
    lower = b.look(Material(cloth_texture(rng), bump=0.06))
    shoe, sock = b.look(Material.plain(rng.integers(20, 240, 3))), b.look(Material.plain(rng.integers(60, 250, 3)))
    sleeve, leg = rng.choice(['none', 'short', 'long'], p=[0.2, 0.4, 0.4]), rng.choice(['short', 'long'], p=[0.4, 0.6])
    shod, socks, bare = rng.random() < 0.8, rng.random() < 0.6, rng.random() < 0.06

    at = skeleton.head

    def dress(bone: str, garment: str | None) -> tuple[str, int, float]:
        if garment == 'upper' and not bare:
            return 'Upper_Clothing', upper, 1.12
        if garment == 'lower':
            return 'Lower_Clothing', lower, 1.12
        return part_of_zone(zone_of_bone(bone)), skin, 1.0

    def limb(start, end, radii: tuple, bone: str, garment: str | None, detail: int = 6) -> None:
        part, material, grow = dress(bone, garment)
        b.limb(start, end, np.array(radii) * girth * grow, bone, part, material, detail=detail)

    for low, high, radii, bone, garment in (
        (0.88, 1.02, (0.155, 0.105), 'root', 'lower'),
        (1.02, 1.22, (0.138, 0.10), 'spine04', 'upper'),
        (1.20, 1.40, (0.165, 0.115), 'spine02', 'upper'),
    ):
        limb((0, low * scale, 0), (0, high * scale, 0), radii, bone, garment, 8)
    b.limb(at('neck01'), at('head'), (0.05 * scale, 0.052 * scale), 'neck02', 'Face_Neck', skin)
    for s in SIDES:
        side = {'L': 'Left_', 'R': 'Right_'}[s]
        shoulder, elbow, wrist, knuckle = (at(f'{n}.{s}') for n in ('upperarm01', 'lowerarm01', 'wrist', 'finger3-1'))
        hip, knee, ankle, toe = (at(f'{n}.{s}') for n in ('upperleg01', 'lowerleg01', 'foot', 'toe1-1'))
        b.limb(at(f'clavicle.{s}'), shoulder, (0.055 * girth, 0.06 * girth), f'clavicle.{s}',
               *dress(f'clavicle.{s}', 'upper')[:2])  # fmt: skip
        limb(shoulder, elbow, (0.046, 0.048), f'upperarm01.{s}', 'upper' if sleeve != 'none' else None)
        limb(elbow, wrist, (0.037, 0.037), f'lowerarm01.{s}', 'upper' if sleeve == 'long' else None)
        along = (knuckle - wrist) / np.linalg.norm(knuckle - wrist)
        radial = np.array([0, 0, 1.0]) - along * along[2]
        radial /= np.linalg.norm(radial)
        flat = np.cross(along, radial)
        b.ellipsoid((wrist + knuckle) / 2, [flat * 0.016 * scale, along * 0.056 * scale, radial * 0.042 * scale],
                    f'wrist.{s}', f'{side}Hand', skin)  # fmt: skip
        for finger in range(1, 6):
            for joint in range(1, 4):
                i = skeleton.index[f'finger{finger}-{joint}.{s}']
                b.limb(skeleton.heads[i], skeleton.tails[i], (0.0095 * scale, 0.0095 * scale), skeleton.names[i],
                       f'{side}Hand', skin, detail=4)  # fmt: skip
        limb(hip, knee, (0.078, 0.08), f'upperleg01.{s}', 'lower', 8)
        limb(knee, ankle, (0.052, 0.055), f'lowerleg01.{s}', 'lower' if leg == 'long' else None)
        if socks:
            axes = np.diag([0.042, 0.075, 0.045]) * scale
            b.ellipsoid(ankle + [0, 0.02, 0], axes, f'lowerleg02.{s}', f'{side}Sock', sock)
        part, material = (f'{side}Shoe', shoe) if shod else (f'{side}Sock', sock) if socks else (f'{side}Foot', skin)
        middle = (ankle * [1, 0, 1] + toe * [1, 0, 1]) / 2 + np.array([0, 0.04, 0.02]) * scale
        b.ellipsoid(middle, np.diag([0.045, 0.042, 0.125]) * scale, f'foot.{s}', part, material, detail=8)
    gap = float(rng.choice([0.0, rng.uniform(0.004, 0.02)], p=[0.6, 0.4]))
    places = face_points(gap)
    looks = dict(skin=skin, lip=lip, hair=hair, white=white, tooth=tooth, iris=iris, black=black, tongue=tongue)
    _head(b, scale, looks, gap, rng)
    keypoints, bones = place_keypoints(skeleton, scale, places)
    traits = {'assets': 'fixture', 'height': round(1.7 * scale, 3), 'skin_tone': round(float(tone.mean()), 1)}
    return Actor(skeleton, [b.layer()], keypoints, bones[:, None], np.ones((len(bones), 1), np.float32), traits)


def _head(b: _Builder, scale: float, looks: dict, gap: float, rng: np.random.Generator) -> None:
    def ball(centre, radii, part: str, look: str, zone: str = 'head', bone: str = 'head', detail: int = 6) -> None:
        b.ellipsoid(np.array(centre) * scale, np.diag(radii) * scale, bone, part, looks[look], zone, detail)

    ball(HEAD, RADII, 'Face_Neck', 'skin', detail=14)
    if rng.random() < 0.92:
        ball(HEAD + [0, 0.028, -0.022], RADII * [1.06, 0.93, 0.99], 'Hair', 'hair', 'hair', detail=10)
        if rng.random() < 0.35:
            ball(HEAD + [0, -0.06, -0.06], [0.075, rng.uniform(0.1, 0.19), 0.045], 'Hair', 'hair', 'hair')
    ball((0, 1.583, 0.108), (0.013, 0.02, 0.016), 'Face_Neck', 'skin')
    lips = on_face(np.zeros(1), np.array([1.545]))[0]
    if gap:
        ball(lips - [0, 0, 0.006], (0.024, gap * 0.8, 0.008), 'Tongue', 'tongue')
        ball(lips + [0, gap * 0.55, -0.002], (0.02, gap * 0.25, 0.006), 'Upper_Teeth', 'tooth')
        ball(lips + [0, -gap * 0.6, -0.002], (0.019, gap * 0.2, 0.006), 'Lower_Teeth', 'tooth')
    ball(lips + [0, 0.0055 + gap * 0.7, 0], (0.027, 0.0055, 0.006), 'Upper_Lip', 'lip')
    ball(lips + [0, -0.0065 - gap * 0.7, 0], (0.025, 0.0065, 0.006), 'Lower_Lip', 'lip')
    for sign in (1, -1):
        eye = np.array([sign * 0.031, 1.615, 0.088])
        ball(eye, (0.0135, 0.0085, 0.012), 'Face_Neck', 'white')
        ball(eye + [0, 0, 0.0085], (0.0058, 0.0058, 0.004), 'Face_Neck', 'iris', detail=8)
        ball(eye + [0, 0, 0.0108], (0.0024, 0.0024, 0.002), 'Face_Neck', 'black')
        brow = on_face(np.array([sign * 0.033]), np.array([1.638]))[0]
        ball(brow, (0.02, 0.0035, 0.006), 'Face_Neck', 'hair')
        ball((sign * 0.083, 1.6, -0.005), (0.01, 0.03, 0.018), 'Face_Neck', 'skin')
