# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""People from the baked MakeHuman assets: body, face, skin, hair, clothes, shoes, eyes, teeth and tongue."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from ...vocabularies import load_vocabulary
from ..actor import PARTS, Actor, Layer
from ..environment import Environment
from ..floors import photo_floor, procedural_floor
from ..ground import Ground
from ..mesh import Material
from ..rasterizer import vertex_normals
from ..zones import ZONE, ZONES, part_of_zone
from . import colors, dressing, skin
from .bake import load_arrays, verify
from .bake_motions import FILE as MOTIONS
from .bake_motions import load_motions
from .body import SKIN, BaseBody, expression, face_sliders, random_face
from .cloth import random_fit, smoothstep
from .cover import push_out
from .garments import Garment, helper_garments
from .nearest import nearest_and_distance
from .points import KeypointPlacer, load_table
from .surface import bare, make_surface, press_in, put_socks
from .wardrobe import Wardrobe

FLOORS = {
    'grass': ((82, 92, 60), (98, 100, 68), (70, 82, 54), (116, 108, 80)),
    'gravel': ((132, 128, 122), (150, 138, 120), (112, 112, 116), (140, 124, 106)),
}
"""Grey photographs of floors and the colours that they come in, sRGB."""


class MakeHumanAssets:
    """See `library.Assets`.

    Args:
        folder: What ``prepare_assets.py`` made.

    Raises:
        UserError: A file is missing or changed.
    """

    def __init__(self, folder: str) -> None:
        path = Path(folder)
        # Two sets of assets must not be mixed in one folder of samples: the recipe there has this name.
        self.name = f'makehuman-{verify(path)[:8]}'
        self.body = BaseBody(path / 'body.npz')
        self.wardrobe, self.light = Wardrobe(path, self.body), load_arrays(path / 'light.npz')
        self.parts = {n: i for i, n in enumerate(load_vocabulary(PARTS).names)}
        self.placer = KeypointPlacer(self.body, load_table())
        self.sliders = face_sliders(self.body)
        even = {'african': 1 / 3, 'asian': 1 / 3, 'caucasian': 1 / 3}
        adults = [self.body.shape({'gender': gender, 'age': 2 / 3}, even) for gender in (0.0, 1.0)]
        bodies = [self.body.skeleton(points * 0.1) for points in adults]
        self.poses, self.expressions = load_motions(path / MOTIONS, bodies)
        self.vertex_zone = self.body.zones_of(self.body.skin_bones, self.body.skin_weights)
        self._prepare_skin()

    def environment(self, rng: np.random.Generator) -> Environment:
        """One of the HDRIs."""
        names = sorted(self.light)
        name = names[int(rng.integers(len(names)))]
        return Environment(self.light[name].astype(np.float32), name)

    def ground(self, rng: np.random.Generator) -> Ground:
        """A random floor, of photographs or by code."""
        if rng.random() < 0.5:
            return procedural_floor(rng)
        name = sorted(FLOORS)[int(rng.integers(len(FLOORS)))]
        return photo_floor(self.wardrobe.texture(f'floors/{name}')[..., 0], FLOORS[name], rng)

    def actor(self, rng: np.random.Generator) -> Actor:
        """A random person."""
        traits, race = self._traits(rng)
        shape = self.body.shape(traits, race)
        random_face(self.body, shape, rng, sliders=self.sliders)
        skeleton = self.body.skeleton(shape * 0.1)
        actions = expression(rng)
        if self.expressions and rng.random() < 0.4:
            chosen = self.expressions[int(rng.integers(len(self.expressions)))]
            actions = {name: weight * rng.uniform(0.5, 1.0) for name, weight in chosen.items()}
        self.body.add_all(shape, {self.body.targets[f'action/{name}']: weight for name, weight in actions.items()})
        points = shape * 0.1
        eyes = {s: self.eye(points, s) for s in 'LR'}
        layers, tone = self._layers(points, skeleton, eyes, traits, race, rng)
        keypoints = self.placer.place(points, skeleton, eyes)
        height = float(points[:SKIN, 1].max() - points[:SKIN, 1].min())
        info = {k: round(float(v), 3) for k, v in {**traits, **race, 'height_m': height}.items()}
        known = {'assets': self.name, **info, 'skin_tone': round(tone, 1)}
        return Actor(skeleton, layers, keypoints, self.placer.bones, self.placer.weights, known)

    def _traits(self, rng: np.random.Generator) -> tuple[dict[str, float], dict[str, float]]:
        age = rng.choice([rng.uniform(0.36, 0.55), rng.uniform(0.6, 0.78), rng.uniform(0.78, 1.0)], p=[0.14, 0.56, 0.3])
        gender = float(np.clip(rng.choice([0.0, 1.0]) + rng.normal(0, 0.12), 0, 1))
        traits = {
            'gender': gender,
            'age': float(age),
            'muscle': float(np.clip(rng.normal(0.5, 0.2), 0, 1)),
            'weight': float(np.clip(rng.normal(0.5, 0.22), 0.05, 1)),
            'height': float(np.clip(rng.normal(0.5, 0.2), 0.05, 0.95)),
            'proportions': float(np.clip(rng.normal(0.6, 0.25), 0, 1)),
            'cupsize': float(np.clip(rng.normal(0.5, 0.2), 0, 1)),
        }
        share = rng.dirichlet([0.35, 0.35, 0.35])
        return traits, dict(zip(('african', 'asian', 'caucasian'), map(float, share), strict=True))

    def _prepare_skin(self) -> None:
        """Part of each face of the body, from bones, the lip mask and the way the jaw moves."""
        faces = self.body.data['faces/body']
        self.body_zone = dressing.face_zones(self.vertex_zone, faces)
        part = np.array([self.parts[part_of_zone(z)] if z not in ('none', 'hat') else 0 for z in ZONES], np.uint8)
        part = part[self.body_zone]
        opened = np.zeros_like(self.body.template)
        self.body.add(opened, self.body.targets['action/jawOpen'], 1.0)
        drop = -opened[faces, 1].mean(1)
        lips = (self.body.data['mask/lips'] > 110) & (self.body_zone == ZONE['head'])
        limit = np.median(drop[lips])
        # The two lips move apart: what drops with the jaw is the lower one.
        lower = drop > (drop[lips].max() * 0.45 if drop[lips].max() > 0 else limit)
        part[lips & lower], part[lips & ~lower] = self.parts['Lower_Lip'], self.parts['Upper_Lip']
        self.skin_faces = self.body.triangles('body')[0]
        self.surface = make_surface(self.body, part, self.body_zone, self.parts)

    def eye(self, points: np.ndarray, side: str) -> tuple[np.ndarray, float]:
        """Centre and radius of an eyeball on a body's ``points`` (V, 3), metres; ``side`` is L or R."""
        ball = points[self.body.data[f'group/helper-{side.lower()}-eye']]
        return (ball.min(0) + ball.max(0)) / 2, float(np.ptp(ball[:, :2], axis=0).mean() / 2)

    def _layers(self, points, skeleton, eyes, traits, race, rng) -> tuple[list[Layer], float]:
        """Body first, then clothes and hair; and the brightness of the skin, 0 to 255."""
        # How far inside of the borders of what is worn each vertex lies, metres.
        depth = np.full(len(points), -1.0)
        thick = np.zeros(len(points))
        scale = float(np.clip(np.ptp(points[:SKIN, 1]) / 1.66, 0.6, 1.15))
        waist = float(skeleton.head('spine05')[1] + 0.1 * scale)
        female = traits['gender'] < 0.5
        normals = vertex_normals(points, self.skin_faces)
        skin_key, tone = self._skin(traits, race, rng)
        clothes = self._clothes(points, normals, scale, waist, female, depth, thick, rng)
        shoes, shod = self._shoes(points, scale, depth, rng)
        head = self._head(points, scale, eyes, female, race, traits, tone, rng)
        for layer in head:  # long hair lies on clothes
            if (layer.zone == ZONE['hair']).all():
                _lay_over(layer, points[:SKIN], normals, thick)
        texture = self.wardrobe.texture(skin_key)
        texture = skin.toned(texture, tone, self._reddened(texture.shape[:2]), female, rng)
        body = self._skin_layer(points, normals, depth, scale, texture, shod, rng)
        return [body, *clothes, *shoes, *head], float(np.median(texture[::8, ::8, :3].mean(-1)))

    def _skin(self, traits: dict, race: dict, rng: np.random.Generator) -> tuple[str, np.ndarray]:
        age = 'young' if traits['age'] < 0.74 else 'middleage' if traits['age'] < 0.88 else 'old'
        dark = rng.random() < race['african'] * 1.1
        sex = 'female' if traits['gender'] < 0.5 else 'male'
        kind = f'skins/{age}_{"darkskinned" if dark else "lightskinned"}_{sex}_diffuse'
        keys = [k for k in sorted(self.wardrobe.textures) if k.startswith(kind)]
        return keys[int(rng.integers(len(keys)))], skin.skin_color(dark, rng)

    def _skin_layer(self, points, normals, depth, scale, texture, shod, rng) -> Layer:
        surface = self.surface
        materials = [Material(texture, skin=True, gloss=0.09, shininess=12, bump=0.05)]
        look = np.zeros(len(surface.faces), np.int32)
        if rng.random() < (0.5 if shod else 0.15):
            surface, socks = put_socks(surface, self.body, float(rng.uniform(0.72, 0.95)), self.parts)
            look = socks.astype(np.int32)
            materials.append(Material.plain(colors.cloth_color(rng, 'sock'), gloss=0.02, bump=0.1))
        vertices = surface.spread(press_in(points, normals, depth, scale))
        keep = bare(surface, depth, scale)
        return Layer(vertices.astype(np.float32), surface.bones, surface.weights, surface.faces[keep],
                     surface.uv[keep], look[keep], surface.part[keep], surface.zone[keep], materials)  # fmt: skip

    @lru_cache(maxsize=4)  # noqa: B019
    def _reddened(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        eyes = {side: self.eye(self.body.template * 0.1, side)[0] for side in 'LR'}
        return skin.reddened(self.body, self.body_zone, eyes, size)

    def _clothes(self, points, normals, scale, waist, female, depth, thick, rng) -> list[Layer]:
        upper, lower = self.parts['Upper_Clothing'], self.parts['Lower_Clothing']
        if rng.random() < 0.45:
            worn = helper_garments(self.body, points, female, rng)
            for garment in worn:
                depth[:SKIN] = np.maximum(depth[:SKIN], garment.depth)
                thick[:SKIN] = np.maximum(thick[:SKIN], garment.thick)
            return [_garment_layer(g, {'upper': upper, 'lower': lower}[g.kind]) for g in worn]
        outfits = [k for k in self.wardrobe.kinds['clothes'] if not k.startswith(('shoes', 'fedora', 'hat'))]
        liked = [k for k in outfits if k.startswith('female' if female else 'male')]
        names = liked if liked and rng.random() < 0.85 else outfits
        key = f'clothes/{names[int(rng.integers(len(names)))]}'
        w, outfit, shape = self.wardrobe.proxy(key), self.wardrobe.outfit(key), rng.spawn(1)[0]
        fit = random_fit(shape, 0.003)
        fit.loose *= 0.5  # their makers gave them some already
        below = dressing.split_outfit(w['faces'], w['zone'], self.wardrobe.vertices(key, points, scale), waist)
        texture, places, materials = self.wardrobe.texture(key), self.wardrobe.places(key), []
        for mine, kind in ((~below, 'upper'), (below, 'lower')):  # a top and a bottom of colours of their own
            recoloured = colors.recolour(texture, kind, rng, w['uv'][mine].reshape(-1, 2), places)
            materials.append(Material(recoloured, cutout=True, gloss=0.03, bump=0.10))
        depth[:SKIN] = np.maximum(depth[:SKIN], outfit.depth - 1.5 * fit.loose * smoothstep(outfit.depth, 0, 0.06))
        thick[:SKIN] = np.where(outfit.depth > 0, fit.loose + fit.folds + 0.015, 0.0) * scale
        below = below[outfit.origin]
        return [Layer(
            outfit.dress(points, normals, scale, fit, shape).astype(np.float32), outfit.bones, outfit.skin,
            outfit.faces, outfit.uv, below.astype(np.int32), np.where(below, lower, upper).astype(np.uint8),
            dressing.face_zones(outfit.zone, outfit.faces), materials,
        )]  # fmt: skip

    def _shoes(self, points, scale, depth, rng) -> tuple[list[Layer], bool]:
        names = [k for k in self.wardrobe.kinds['clothes'] if k.startswith('shoes')]
        if not names or rng.random() < 0.14:
            return [], False
        key = f'clothes/{names[int(rng.integers(len(names)))]}'
        w = self.wardrobe.proxy(key)
        # Trousers go over shoes: a shaft is pressed in under them, and deep under them not drawn.
        under = depth[self.wardrobe.skin_below(key)]
        depth[w['hidden']] = 1.0  # nothing of a foot is drawn
        left = self.wardrobe.vertices(key, points, scale)[w['faces'], 0].mean(1) > 0
        part = np.where(left, self.parts['Left_Shoe'], self.parts['Right_Shoe'])
        zone = np.where(left, ZONE['foot.L'], ZONE['foot.R'])
        look = Material(colors.recolour(self.wardrobe.texture(key), 'shoe', rng), gloss=0.12, shininess=30)
        layer = self.wardrobe.layer(key, points, scale, part, zone, look)
        layer.vertices = press_in(layer.vertices, vertex_normals(layer.vertices, layer.faces), under, scale)
        layer.keep(~(under > 0.03 * scale)[layer.faces].all(1))
        return [layer], True

    def _head(self, points, scale, eyes, female, race, traits, tone, rng) -> list[Layer]:
        face, head, wardrobe = self.parts['Face_Neck'], ZONE['head'], self.wardrobe
        dark = race['african'] + race['asian'] > rng.random() or tone.mean() < 125
        color = colors.hair_color(dark, traits['age'], rng)
        texture = dressing.iris_texture(colors.eye_color(dark, rng), rng)
        layers = [self._eye_layer(eyes[side], side, texture) for side in 'LR']
        teeth = wardrobe.draw('teeth', rng)
        w = wardrobe.proxy(teeth)
        lower = w['refs'][w['faces'][:, 0], 0] < 15060
        part = np.where(lower, self.parts['Lower_Teeth'], self.parts['Upper_Teeth'])
        look = Material(wardrobe.texture(teeth), gloss=0.3, shininess=40)
        layers.append(wardrobe.layer(teeth, points, scale, part, head, look))
        look = Material(wardrobe.texture('tongue/tongue01'), gloss=0.25, shininess=30)
        layers.append(wardrobe.layer('tongue/tongue01', points, 1.0, self.parts['Tongue'], head, look))
        for kind, shade in (('eyebrows', 0.8), ('eyelashes', 0.25)):
            key = wardrobe.draw(kind, rng)
            picture = colors.tint(wardrobe.texture(key), color * shade, 0.85)
            look = Material(picture, cutout=True, gloss=0.0)
            layers.append(wardrobe.layer(key, points, scale, face, head, look))
        hat = rng.random() < 0.06
        bald = rng.random() < (0.02 if female else 0.1)
        if not bald:
            short = [k for k in wardrobe.kinds['hair'] if k.startswith(('short', 'afro'))]
            long = [k for k in wardrobe.kinds['hair'] if k not in short]
            pool = long if (female and rng.random() < 0.75) or rng.random() < 0.06 else short
            if hat:
                pool = [k for k in short if k.startswith('short')] or short
            key = f'hair/{pool[int(rng.integers(len(pool)))]}'
            picture = colors.tint(wardrobe.hair(key), color, 1.0, contrast=0.9)
            look = Material(picture, cutout=True, gloss=0.07, shininess=14, bump=0.25, fibre=True)
            layer = wardrobe.layer(key, points, scale, self.parts['Hair'], ZONE['hair'], look)
            if hat:  # what is under the hat is pressed flat: not drawn
                brim = points[self.body.data['group/helper-l-eye'], 1].max() + 0.025 * scale
                layer.keep(layer.vertices[layer.faces, 1].max(1) < brim)
            layers.append(layer)
        hats = [k for k in wardrobe.kinds['clothes'] if k.startswith(('fedora', 'hat'))]
        if hat and hats:
            key = f'clothes/{hats[int(rng.integers(len(hats)))]}'
            look = Material(colors.recolour(wardrobe.texture(key), 'upper', rng), gloss=0.02, bump=0.05)
            layers.append(wardrobe.layer(key, points, scale * 1.02, self.parts['Apparel'], ZONE['hat'], look))
        return layers

    def _eye_layer(self, eye: tuple[np.ndarray, float], side: str, texture: np.ndarray) -> Layer:
        vertices, faces, uv = dressing.eyeball(*eye)
        bone = self.body.bone_names.index(f'eye.{side}')
        n = len(faces)
        return Layer(vertices.astype(np.float32), np.full((len(vertices), 1), bone, np.int16),
                     np.ones((len(vertices), 1), np.float32), faces, uv, np.zeros(n, np.int32),
                     np.full(n, self.parts['Face_Neck'], np.uint8), np.full(n, ZONE['head'], np.uint8),
                     [Material(texture, gloss=0.14, shininess=700)])  # fmt: skip


def _garment_layer(garment: Garment, part: int) -> Layer:
    count = len(garment.faces)
    return Layer(garment.vertices.astype(np.float32), garment.bones, garment.weights, garment.faces, garment.uv,
                 np.zeros(count, np.int32), np.full(count, part, np.uint8),
                 dressing.face_zones(garment.zone, garment.faces),
                 [Material(garment.texture, gloss=0.03, bump=0.16)])  # fmt: skip


def _lay_over(layer: Layer, skin: np.ndarray, normals: np.ndarray, thick: np.ndarray) -> None:
    """Lift hair that would lie in clothes, which stand ``thick`` off the skin, on top of them."""
    low = np.flatnonzero(layer.vertices[:, 1] < skin[thick[: len(skin)] > 0, 1].max(initial=-10.0) + 0.02)
    if not len(low):
        return
    twin, away = nearest_and_distance(layer.vertices[low], skin)
    least = np.where((thick[twin] > 0) & (away < 0.1), thick[twin] + 0.005, -1.0)
    layer.vertices[low] = push_out(layer.vertices[low], skin[twin], normals[twin], least)
