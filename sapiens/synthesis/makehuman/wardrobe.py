# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What can be put on a body: bound meshes by kind, such as ``hair/short01``, and their textures."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ..actor import Layer
from ..mesh import Material
from . import colors, dressing
from .bake import load_arrays
from .body import SKIN, BaseBody, triangulate
from .nearest import nearest
from .outfit import Outfit, make_outfit
from .skinning import mixed_skin


class Wardrobe:
    """The baked meshes and textures; what is made of them once is kept.

    Args:
        folder: Of `bake`.
        body: What the meshes are bound to.
    """

    def __init__(self, folder: Path, body: BaseBody) -> None:
        self.body, self.arrays = body, load_arrays(folder / 'wardrobe.npz')
        self.textures = load_arrays(folder / 'textures.npz') | load_arrays(folder / 'floors.npz')
        self.kinds: dict[str, list[str]] = {}
        for key in sorted({k.rsplit('/', 1)[0] for k in self.arrays}):
            self.kinds.setdefault(key.split('/')[0], []).append(key.split('/')[1])

    def draw(self, kind: str, rng: np.random.Generator) -> str:
        """Key of a random mesh of a kind."""
        return f'{kind}/{self.kinds[kind][int(rng.integers(len(self.kinds[kind])))]}'

    @lru_cache(maxsize=64)  # noqa: B019 (one object a process)
    def texture(self, key: str) -> np.ndarray:
        """A texture ``(h, w, 4)`` uint8 RGBA; treat as read-only."""
        image = np.atleast_3d(cv2.imdecode(self.textures[key], cv2.IMREAD_UNCHANGED))
        codes = {1: cv2.COLOR_GRAY2RGBA, 3: cv2.COLOR_BGR2RGBA, 4: cv2.COLOR_BGRA2RGBA}
        return cv2.cvtColor(image, codes[image.shape[2]])

    @lru_cache(maxsize=16)  # noqa: B019
    def hair(self, key: str) -> np.ndarray:
        """Texture of a hair as `colors.strands`."""
        return colors.strands(self.texture(key))

    @lru_cache(maxsize=128)  # noqa: B019
    def proxy(self, key: str) -> dict[str, np.ndarray]:
        """A mesh as in `formats.Proxy`, with the ``bones`` and weights (``skin``) and the ``zone`` of each vertex."""
        w = {f: self.arrays[f'{key}/{f}'] for f in ('refs', 'weights', 'offsets', 'faces', 'uv', 'hidden')}
        body, share = self.body, np.clip(w['weights'], 0, None)
        share = share / np.maximum(share.sum(1, keepdims=True), 1e-6)
        w['bones'], w['skin'] = mixed_skin(body.skin_bones, body.skin_weights, w['refs'], share, len(body.bone_names))
        w['zone'] = body.zones_of(w['bones'], w['skin'])
        return w

    def triangles(self, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `triangulate`."""
        w = self.proxy(key)
        return triangulate(w['faces'], w['uv'], np.arange(len(w['faces'])))

    def vertices(self, key: str, points: np.ndarray, scale: float) -> np.ndarray:
        """Vertices of a mesh on a body, see `dressing.bind`."""
        return dressing.bind(self.proxy(key), points, scale)

    @lru_cache(maxsize=16)  # noqa: B019
    def places(self, key: str) -> np.ndarray:
        """Where each texel lies on the body, see `dressing.texel_places`."""
        faces, uv, _ = self.triangles(key)
        template = self.vertices(key, self.body.template * 0.1, 1.0)
        return dressing.texel_places(faces, uv, template, self.texture(key).shape[:2])

    @lru_cache(maxsize=32)  # noqa: B019
    def outfit(self, key: str) -> Outfit:
        """Clothes ready to be worn."""
        return make_outfit(self.body, self.proxy(key), refine=not key.startswith('clothes/shoes'))

    @lru_cache(maxsize=8)  # noqa: B019
    def skin_below(self, key: str) -> np.ndarray:
        """For each vertex of a mesh the nearest one of the skin."""
        template = self.body.template * 0.1
        return nearest(self.vertices(key, template, 1.0), template[:SKIN])

    def layer(self, key: str, points: np.ndarray, scale: float, part: np.ndarray | int, zone: np.ndarray | int,
              material: Material) -> Layer:  # fmt: skip
        """A mesh on a body as it was made; ``part`` and ``zone`` of all of its faces or of each."""
        w = self.proxy(key)
        faces, uv, origin = self.triangles(key)
        part, zone = (np.broadcast_to(v, (len(w['faces']),))[origin].astype(np.uint8) for v in (part, zone))
        return Layer(self.vertices(key, points, scale).astype(np.float32), w['bones'], w['skin'], faces, uv,
                     np.zeros(len(faces), np.int32), part, zone, [material])  # fmt: skip
