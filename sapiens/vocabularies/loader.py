# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read a vocabulary, ours by name or a user's own by path, and check it whole."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..utils.json_files import read_json
from .names import find_twins

_FOLDER = Path(__file__).parent


class VocabularyError(UserError):
    """A vocabulary that does not exist or contradicts itself; the message names the file and the mend."""


@dataclass(frozen=True, eq=False)
class KeypointVocabulary:
    """Names, symmetry, OKS sigmas, groups and drawing of K keypoints.

    Attributes:
        name: Name of the vocabulary, e.g. ``'wholebody133'``.
        swap: ``(K,)`` int64; ``swap[i]`` is the keypoint that ``i`` becomes in a mirrored image (an involution).
        sigmas: ``(K,)`` float32 OKS sigmas (COCO convention: the constant is ``2 * sigma``).
        groups: Group name -> ``(n,)`` int64 indices; every keypoint is in exactly one group.
        colors: ``(K, 3)`` uint8 RGB.
        skeleton: ``(E, 2)`` int64 pairs of keypoints joined by a line when drawn.
        maps: Target vocabulary -> ``{'points': {target id: [source ids]}, 'derived': {...}}``;
            a derived target point is the mean of its sources and not counted as common to both.
    """

    name: str
    names: tuple[str, ...]
    swap: np.ndarray
    sigmas: np.ndarray
    groups: dict[str, np.ndarray]
    colors: np.ndarray
    skeleton: np.ndarray
    maps: dict[str, dict] = field(default_factory=dict)
    source: str = ''
    kind: str = 'keypoints'

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.names)


@dataclass(frozen=True, eq=False)
class PartVocabulary:
    """Names, symmetry, colours and loss weights of C classes; id 0 is the background.

    Attributes:
        name: Name of the vocabulary, e.g. ``'parts28'``.
        names: C class names, index = id in a part map.
        swap: ``(C,)`` int64; the id that each class becomes in a mirrored image (an involution).
        colors: ``(C, 3)`` uint8 RGB.
        weights: ``(C,)`` float32 class weights of the cross-entropy.
    """

    name: str
    names: tuple[str, ...]
    swap: np.ndarray
    colors: np.ndarray
    weights: np.ndarray
    source: str = ''
    kind: str = 'parts'

    @property
    def num_classes(self) -> int:
        """C, the background included."""
        return len(self.names)


def available_vocabularies() -> list[str]:
    """Names of the vocabularies that ship with the toolkit."""
    return list(_shipped())


@lru_cache(maxsize=1)
def _shipped() -> tuple[str, ...]:
    # Every sample asks for its vocabularies: looking into the folder each time costs more than a warp.
    return tuple(sorted(path.stem for path in _FOLDER.glob('*.json')))


def load_vocabulary(name: str | Path | KeypointVocabulary | PartVocabulary) -> KeypointVocabulary | PartVocabulary:
    """Load a vocabulary by shipped name (``'keypoints308'``) or from a user's JSON file (``'my_points.json'``).

    A file has ``name``, ``kind`` (``'keypoints'`` or ``'parts'``) and a list ``keypoints`` or ``classes``. Each entry
    needs a ``name``; ``swap`` (the name or id of the mirrored twin; default is the name that differs in left and right
    only), ``sigma``, ``group``, ``color`` and ``weight``
    are optional, as are ``skeleton`` (pairs of names or ids) and ``maps``.

    Args:
        name: Shipped name, path of a ``.json`` file, or a vocabulary (returned as it is).

    Raises:
        VocabularyError: Unknown name, unreadable file, or a table that contradicts itself.
    """
    if isinstance(name, (KeypointVocabulary, PartVocabulary)):
        return name
    text = str(name)
    if text.endswith('.json'):
        try:
            status = os.stat(text)
        except (OSError, ValueError):
            raise VocabularyError(
                f'{text}: no such vocabulary file; give a path that exists or a shipped name'
            ) from None
        return _load_file(text, status.st_mtime_ns, status.st_size)
    if text not in _shipped():
        near = difflib.get_close_matches(text, available_vocabularies(), n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'? " if near else ''
        raise VocabularyError(
            f"unknown vocabulary '{text}': {hint}known are {', '.join(available_vocabularies())}, "
            'or give the path of a .json file'
        )
    return _load_file(os.path.join(_FOLDER, f'{text}.json'))


def load_keypoints(name: str | Path | KeypointVocabulary | PartVocabulary) -> KeypointVocabulary:
    """`load_vocabulary` of keypoints; one of parts is a `VocabularyError`."""
    vocabulary = load_vocabulary(name)
    if not isinstance(vocabulary, KeypointVocabulary):
        raise VocabularyError(f"'{vocabulary.name}' is a vocabulary of parts, not of keypoints; choose another")
    return vocabulary


def load_parts(name: str | Path | KeypointVocabulary | PartVocabulary) -> PartVocabulary:
    """`load_vocabulary` of parts; one of keypoints is a `VocabularyError`."""
    vocabulary = load_vocabulary(name)
    if not isinstance(vocabulary, PartVocabulary):
        raise VocabularyError(f"'{vocabulary.name}' is a vocabulary of keypoints, not of parts; choose another")
    return vocabulary


@lru_cache(maxsize=64)
def _load_file(text: str, changed: int = 0, size: int = 0) -> KeypointVocabulary | PartVocabulary:
    try:
        return parse_vocabulary(read_json(text, 'vocabulary file'), text)
    except VocabularyError:
        raise
    except UserError as error:
        raise VocabularyError(str(error)) from None


def parse_vocabulary(document: object, path: str | Path) -> KeypointVocabulary | PartVocabulary:
    """Check a vocabulary's document and make the vocabulary.

    Args:
        document: What a vocabulary file holds, see `load_vocabulary`; checkpoints carry the same.

    Raises:
        VocabularyError: A table that contradicts itself.
    """
    path = Path(path)
    if not isinstance(document, dict):
        raise VocabularyError(f'{path}: a vocabulary is a JSON object with "kind" and "keypoints" or "classes"')
    kind = document.get('kind', 'parts' if 'classes' in document else 'keypoints')
    if kind not in ('keypoints', 'parts'):
        raise VocabularyError(f"{path}: kind '{kind}' is neither 'keypoints' nor 'parts'")
    entries = document.get('keypoints' if kind == 'keypoints' else 'classes')
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) and 'name' in e for e in entries):
        raise VocabularyError(f'{path}: needs a non-empty list "{"keypoints" if kind == "keypoints" else "classes"}" '
                              'of objects with a "name"')  # fmt: skip
    names = tuple(str(e['name']) for e in entries)
    if len(set(names)) != len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise VocabularyError(f'{path}: names must differ; used twice: {", ".join(twice)}')
    for position, entry in enumerate(entries):
        if entry.get('id', position) != position:
            raise VocabularyError(f"{path}: '{names[position]}' has id {entry['id']} but stands at {position}; "
                                  'ids count from 0 in order')  # fmt: skip

    def index(reference: str | int, where: str) -> int:
        if type(reference) is int and 0 <= reference < len(names):
            return reference
        if isinstance(reference, str) and reference in names:
            return names.index(reference)
        raise VocabularyError(f"{path}: {where} names '{reference}', which is not in the vocabulary")

    # Names that differ in left and right only are twins, unless the file says what becomes of them.
    twins = [i if 'swap' in entries[twin] else twin for i, twin in enumerate(find_twins(names))]
    swap = np.array([index(e.get('swap', twins[i]), f"swap of '{names[i]}'") for i, e in enumerate(entries)], np.int64)
    wrong = np.flatnonzero(swap[swap] != np.arange(len(names)))
    if wrong.size:
        i = int(wrong[0])
        raise VocabularyError(f"{path}: swap must be its own inverse, but '{names[i]}' -> '{names[swap[i]]}' -> "
                              f"'{names[swap[swap[i]]]}'")  # fmt: skip

    def numbers(key: str, default: float) -> np.ndarray:
        values = [e.get(key, default) for e in entries]
        for entry, value in zip(names, values, strict=True):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
                raise VocabularyError(f"{path}: {key} of '{entry}' is {value!r}, not a number of at least 0")
        return np.array(values, np.float32)

    colors = [e.get('color', _color(i)) for i, e in enumerate(entries)]
    for entry, color in zip(names, colors, strict=True):
        if not (isinstance(color, list) and len(color) == 3 and all(type(c) is int and 0 <= c <= 255 for c in color)):
            raise VocabularyError(f"{path}: color of '{entry}' is {color!r}, not three whole numbers from 0 to 255")
    common: dict[str, Any] = dict(
        name=str(document.get('name', path.stem)),
        names=names,
        swap=swap,
        colors=np.array(colors, np.uint8),
        source=str(document.get('source', '')),
    )
    if kind == 'parts':
        return PartVocabulary(weights=numbers('weight', 1.0), **common)
    sigmas = numbers('sigma', 0.05)
    if not (sigmas > 0).all():
        raise VocabularyError(f'{path}: every sigma must be greater than 0')
    groups: dict[str, list[int]] = {}
    for i, entry in enumerate(entries):
        groups.setdefault(str(entry.get('group', 'body')), []).append(i)
    pairs = document.get('skeleton', [])
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise VocabularyError(f'{path}: skeleton is a list of pairs of names or ids')
    ends = [end for pair in pairs for end in pair]
    if ends and all(type(end) is int for end in ends) and min(ends) >= 1 and max(ends) == len(names):
        pairs = [[end - 1 for end in pair] for pair in pairs]  # COCO's files count from 1
    skeleton = [[index(end, 'skeleton') for end in pair] for pair in pairs]
    return KeypointVocabulary(
        sigmas=sigmas,
        groups={k: np.array(v, np.int64) for k, v in groups.items()},
        skeleton=np.array(skeleton, np.int64).reshape(-1, 2),
        maps=_maps(document.get('maps', {}), index, path),
        **common,
    )


def _maps(maps: object, index: Callable[[str | int, str], int], path: Path) -> dict[str, dict]:
    """Check ``{target: {'points': {target id: [sources]}, 'derived': ...}}`` and turn names of sources into ids."""
    wrong = VocabularyError(f'{path}: maps are {{target vocabulary: {{"points": {{target id: [names or ids]}}, '
                            '"derived": {...}}}')  # fmt: skip
    if not isinstance(maps, dict):
        raise wrong
    checked: dict[str, dict] = {}
    for target, kinds in maps.items():
        if not isinstance(kinds, dict) or not set(kinds) <= {'points', 'derived'}:
            raise wrong
        checked[target] = {}
        for kind, entries in kinds.items():
            if not isinstance(entries, dict) or not all(
                key.isdecimal() and isinstance(sources, list) and sources for key, sources in entries.items()
            ):
                raise wrong
            checked[target][kind] = {
                key: [index(source, f'map to {target}') for source in sources] for key, sources in entries.items()
            }
    return checked


def _color(i: int) -> list[int]:
    """A colour for entry ``i`` that differs from its neighbours' (golden-angle walk through the hues)."""
    hue = (0.1 + 0.381966 * i) % 1 * 6
    channel = (np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1) * 0.8 + 0.2) * 255
    return [int(c) for c in channel]
