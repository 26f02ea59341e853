# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The MakeHuman base mesh: from age, gender and so on to a body at rest with its bones."""

from __future__ import annotations

from pathlib import Path

import numba
import numpy as np

from ..skeleton import Skeleton
from ..zones import ZONE, zone_of_bone
from .bake import PHENOTYPES, load_arrays

SKIN = 13380
"""The first so many vertices of the base mesh are the skin; helpers for clothes, eyes and so on follow."""
_AXES = {
    'gender': (('female', 0.0), ('male', 1.0)),
    'age': (('baby', 0.0), ('child', 1 / 3), ('young', 2 / 3), ('old', 1.0)),
    'muscle': (('minmuscle', 0.0), ('averagemuscle', 0.5), ('maxmuscle', 1.0)),
    'weight': (('minweight', 0.0), ('averageweight', 0.5), ('maxweight', 1.0)),
    'height': (('minheight', 0.0), ('maxheight', 1.0)),
    'proportions': (('idealproportions', 1.0), ('uncommonproportions', 0.0)),
    'cupsize': (('mincup', 0.0), ('averagecup', 0.5), ('maxcup', 1.0)),
    'firmness': (('averagefirmness', 0.5),),
}
"""Where the targets of each trait stand between 0 and 1; between two of them the shape is interpolated."""


class BaseBody:
    """The baked base mesh.

    Args:
        path: ``body.npz`` of `bake`.
    """

    def __init__(self, path: Path) -> None:
        self.data = data = load_arrays(path)
        self.template = data['template'].astype(np.float64)
        self.bone_names = tuple(str(n) for n in data['bones'])
        self.bone_zones = np.array([ZONE[zone_of_bone(b)] for b in self.bone_names], np.uint8)
        self.parents = data['parents']
        self.mirror = data['mirror']
        self.skin_bones, self.skin_weights = data['skin_bones'], data['skin_weights']
        self.targets = {str(n): i for i, n in enumerate(data['target_names'])}
        self.macro: list[tuple[tuple[str, ...], int]] = [
            (tuple(w for w in n.split('/')[1].split('-') if w != 'universal'), i)
            for n, i in self.targets.items()
            if n.startswith('macro/')
        ]
        self._whole: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self.word_axis = {w: axis for axis, words in PHENOTYPES.items() for w in words}

    def zones_of(self, bones: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Zone ``(N,)`` of the bone with the largest of the ``weights`` (N, K) of each vertex."""
        return self.bone_zones[bones[np.arange(len(bones)), np.argmax(weights, 1)]]

    def add(self, points: np.ndarray, target: int, weight: float) -> None:
        """Add a shape target, in place, decimetres."""
        self.add_all(points, {target: weight})

    def add_all(self, points: np.ndarray, weights: dict[int, float]) -> None:
        """Add several shape targets, in place, decimetres."""
        targets = np.fromiter(weights, np.int64, len(weights))
        scales = self.data['target_scales'][targets] * np.fromiter(weights.values(), np.float64, len(weights))
        _add(points, *(self.data[f'target_{name}'] for name in ('ids', 'offsets', 'starts')), targets, scales)

    def shape(self, traits: dict[str, float], race: dict[str, float]) -> np.ndarray:
        """Vertices ``(V, 3)`` in decimetres of a person at rest.

        Args:
            traits: Values from 0 to 1 of gender (1 = male), age, muscle, weight, height, proportions, cupsize;
                0.5 where absent.
            race: Shares of african, asian and caucasian traits, adding up to 1.
        """
        share = dict(race)
        for axis, anchors in _AXES.items():
            value = float(np.clip(traits.get(axis, 0.5), 0, 1))
            places = np.array([a[1] for a in anchors])
            order = np.argsort(places)
            basis = np.eye(len(anchors))
            for i, (word, _) in enumerate(anchors):
                share[word] = float(np.interp(value, places[order], basis[i][order]))
        weights = {}
        for words, target in self.macro:
            weight = 1.0
            for word in words:
                weight *= share.get(word, 0.0)
                if weight < 2e-3:  # moves nothing by a millimetre
                    break
            else:
                weights[target] = weight
        points = self.template.copy()
        self.add_all(points, weights)
        return points

    def skeleton(self, points: np.ndarray) -> Skeleton:
        """Bones of a shaped body; ``points`` in metres."""
        ends = []
        for end in ('head', 'tail'):
            starts = self.data[f'{end}_starts']
            counts = np.diff([*starts, len(self.data[f'{end}_ids'])])
            ends.append(np.add.reduceat(points[self.data[f'{end}_ids']], starts, axis=0) / counts[:, None])
        return Skeleton(self.bone_names, self.parents, *ends)

    def triangles(self, group: str, keep: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Triangles of a group: faces ``(F, 3)``, uv ``(F, 3, 2)`` and the quad each came from; not to be changed."""
        if keep is None and group in self._whole:
            return self._whole[group]
        faces, uv = self.data[f'faces/{group}'], self.data[f'uv/{group}']
        chosen = np.arange(len(faces)) if keep is None else np.flatnonzero(keep)
        found = triangulate(faces[chosen], uv[chosen], chosen)
        if keep is None:
            self._whole[group] = found
        return found


@numba.njit(cache=True)
def _add(points, ids, offsets, starts, targets, scales):
    for t in range(len(targets)):
        for i in range(starts[targets[t]], starts[targets[t] + 1]):
            for k in range(3):
                points[ids[i], k] += offsets[i, k] * scales[t]


def triangulate(faces: np.ndarray, uv: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split quads: triangles, their uv, and for each the number of its quad."""
    first, second = [0, 1, 2], [0, 2, 3]
    triangles = np.concatenate([faces[:, first], faces[:, second]])
    corners = np.concatenate([uv[:, first], uv[:, second]])
    origin = np.concatenate([chosen, chosen])
    a, b, c = triangles.T
    good = (a != b) & (b != c) & (a != c)
    return triangles[good].astype(np.int32), corners[good].astype(np.float32), origin[good]


def face_sliders(body: BaseBody) -> list[tuple[int | None, ...]]:
    """Local changes of the face: each is a tuple of targets, one of which is drawn, left and right together."""
    groups: dict[str, dict[str, list[int]]] = {}
    for name, target in body.targets.items():
        if not name.startswith('face/'):
            continue
        base = name.split('/')[1]
        side, _, rest = base.partition('-')
        key = rest if side in ('l', 'r') else base
        stem, _, way = key.rpartition('-')
        groups.setdefault(stem, {}).setdefault(way, []).append(target)
    return [tuple(tuple(t) for t in ways.values()) for _, ways in sorted(groups.items())]


def random_face(
    body: BaseBody, points: np.ndarray, rng: np.random.Generator, sliders: list, strength: float = 0.45
) -> None:
    """Change the features of the face a little, in place."""
    weights: dict[int, float] = {}
    for ways in sliders:
        way = ways[int(rng.integers(len(ways)))]
        weight = float(min(abs(rng.normal(0, strength * 0.5)), strength))
        if rng.random() < 0.5:
            weights.update(dict.fromkeys(way, weight))
    body.add_all(points, weights)


def expression(rng: np.random.Generator) -> dict[str, float]:
    """Weights of face actions for a random expression; about half of all faces are near neutral."""
    weights: dict[str, float] = {}

    def both(name: str, value: float) -> None:
        for side in ('Left', 'Right'):
            weights[name + side] = value * rng.uniform(0.85, 1.0)

    kind = rng.choice(
        ['neutral', 'smile', 'talk', 'open', 'frown', 'surprise', 'mixed'], p=[0.3, 0.2, 0.14, 0.1, 0.08, 0.08, 0.1]
    )
    u = rng.uniform
    if kind == 'smile':
        both('mouthSmile', u(0.3, 1.0))
        both('cheekSquint', u(0, 0.6))
        if rng.random() < 0.5:
            both('mouthUpperUp', u(0.2, 0.6))
            both('mouthLowerDown', u(0.1, 0.5))
            weights['jawOpen'] = u(0.05, 0.3)
    elif kind == 'talk':
        weights.update(jawOpen=u(0.1, 0.4), mouthFunnel=u(0, 0.5), mouthPucker=u(0, 0.4))
    elif kind == 'open':
        weights['jawOpen'] = u(0.5, 1.0)
        both('mouthLowerDown', u(0, 0.5))
        if rng.random() < 0.35:
            weights['tongueOut'] = u(0.3, 1.0)
    elif kind == 'frown':
        both('mouthFrown', u(0.3, 1.0))
        both('browDown', u(0.3, 1.0))
        both('eyeSquint', u(0, 0.6))
    elif kind == 'surprise':
        weights.update(browInnerUp=u(0.4, 1.0), jawOpen=u(0.15, 0.6))
        both('browOuterUp', u(0.4, 1.0))
        both('eyeWide', u(0.3, 1.0))
    elif kind == 'mixed':
        for name in ('browInnerUp', 'mouthPucker', 'mouthLeft', 'mouthRight', 'jawOpen', 'cheekPuff',
                     'mouthShrugUpper'):  # fmt: skip
            if rng.random() < 0.3:
                weights[name] = u(0, 0.7)
    if rng.random() < 0.12:
        both('eyeBlink', u(0.4, 1.0))
    return weights
