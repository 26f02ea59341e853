# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Compare names of keypoints whatever their style, the order of a file's points by them, and whole vocabularies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError

if TYPE_CHECKING:
    from .loader import KeypointVocabulary, PartVocabulary

_LEFT = 'left l lt lft links linke linker linkes gauche izquierda izquierdo esquerda esquerdo sinistra sinistro 左'
_RIGHT = 'right r rt rgt rechts rechte rechter rechtes droite droit derecha derecho direita direito destra destro 右'
_SIDES = {**dict.fromkeys(_LEFT.split(), 'left'), **dict.fromkeys(_RIGHT.split(), 'right')}


def name_key(name: str) -> tuple[str, ...]:
    """What a name says, whatever its style: ``leftShoulder``, ``L_shoulder`` and ``Shoulder (left)`` are equal."""
    text = re.sub(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[LR])(?=[A-Z][a-z])', ' ', name).lower()
    words = []
    for word in re.findall(r'[^\W\d_]+|\d+', text):
        glued = re.fullmatch(r'(left|right|[左右])(.+)|(.+?)(left|right)', word)
        if glued:
            side = glued[1] or glued[4]
            words += [_SIDES.get(side, side), glued[2] or glued[3]]
        else:
            words.append(_SIDES.get(word, word))
    sides = [word for word in words if word in ('left', 'right')]
    return (*sides, *(str(int(w)) if w.isdecimal() else w for w in words if w not in ('left', 'right')))


def find_twins(names: Sequence[str]) -> list[int]:
    """For each name the position of the one that differs in left and right only; its own where there is none.

    ``lwrist`` is a left one where there is an ``rwrist``. Numbers that count all names (``2_left_eye``,
    ``3_right_eye``) do not matter where the rest tells.
    """
    keys = [name_key(name) for name in names]
    keys = [_split_side(key, set(keys)) for key in keys]
    mirror = {'left': 'right', 'right': 'left'}
    found = list(range(len(names)))
    for forms in (keys, [tuple(word for word in key if not word.isdecimal()) for key in keys]):
        twins = [tuple(mirror.get(word, word) for word in key) for key in forms]
        for i, (key, twin) in enumerate(zip(forms, twins, strict=True)):
            if found[i] == i and twin != key and forms.count(twin) == 1 and forms.count(key) == 1:
                found[i] = forms.index(twin)
    return found


def _split_side(key: tuple[str, ...], known: set[tuple[str, ...]]) -> tuple[str, ...]:
    """A key whose side is glued to a word as one letter, which its twin tells, with the side as a word of its own."""
    if not {'left', 'right'} & {*key}:
        for i, word in enumerate(key):
            if word[0] in 'lr' and len(word) > 1:
                twin = ('r' if word[0] == 'l' else 'l') + word[1:]
                if (*key[:i], twin, *key[i + 1 :]) in known:
                    return (_SIDES[word[0]], *key[:i], word[1:], *key[i + 1 :])
    return key


def without_twin(vocabulary: KeypointVocabulary | PartVocabulary) -> list[str]:
    """Names of a side that stay themselves in a mirrored image; all names of many points that are nobody's twin."""
    alone = [name for i, name in enumerate(vocabulary.names) if vocabulary.swap[i] == i]
    if vocabulary.kind == 'keypoints' and len(alone) == len(vocabulary.names) > 4:
        return alone
    return [name for name in alone if {'left', 'right'} & {*name_key(name)}]


def keypoint_order(names: Sequence[str], vocabulary: KeypointVocabulary, where: str) -> np.ndarray | None:
    """Which of a file's points is each point of a vocabulary, by their names.

    Args:
        names: The file's, in its order; may hold more points than the vocabulary.

    Returns:
        ``(K,)`` positions in ``names``; None when the order is the vocabulary's, or the names are mere numbers in order
        (``1``, ``kp_2``).

    Raises:
        UserError: A point of the vocabulary is missing, or names are used twice; both orders are named.
    """
    if tuple(names) == vocabulary.names or (len(names) == vocabulary.num_keypoints and _are_numbers(names)):
        return None
    wanted = [name_key(name) for name in vocabulary.names]
    # Names such as 'lshoulder', which no rule can split.
    short: dict[tuple, tuple] = {(key[0][0] + ''.join(key[1:]),): key for key in wanted if key[0] in ('left', 'right')}
    given = [short.get(key, key) for key in map(name_key, names)]
    missing = [name for name, key in zip(vocabulary.names, wanted, strict=True) if key not in given]
    twice = len(set(given)) < len(given)
    if missing or twice or len(set(wanted)) < len(wanted):
        problem = f'lacks {_some(missing)}' if missing else 'has two points of one name'
        raise UserError(
            f"{where} {problem}: its points are {_some(names)}; those of '{vocabulary.name}' are "
            f'{_some(vocabulary.names)}; choose the vocabulary that the file follows, or rename its points'
        )
    return np.array([given.index(key) for key in wanted], np.int64)


def describe(vocabulary: KeypointVocabulary | PartVocabulary) -> str:
    """A vocabulary in a message: ``'coco17' (17 keypoints)``."""
    kind = 'keypoints' if vocabulary.kind == 'keypoints' else 'classes'
    return f"'{vocabulary.name}' ({len(vocabulary.names)} {kind})"


def vocabulary_difference(
    one: KeypointVocabulary | PartVocabulary, other: KeypointVocabulary | PartVocabulary
) -> str | None:
    """What differs between two vocabularies of which training or a metric depends: number, names, left and right.

    Returns:
        A clause for a message, e.g. ``'number 3 is left_ear here and nose there'``; None when they agree.
    """
    if one.kind != other.kind:
        return f'{one.kind} here and {other.kind} there'
    if len(one.names) != len(other.names):
        return f'{len(one.names)} here and {len(other.names)} there'
    for i, (a, b) in enumerate(zip(one.names, other.names, strict=True)):
        if a != b:
            return f'number {i} is {a} here and {b} there'
    twins = np.flatnonzero(one.swap != other.swap)
    if twins.size:
        i = int(twins[0])
        return f'the twin of {one.names[i]} is {one.names[one.swap[i]]} here and {one.names[other.swap[i]]} there'
    return None


def _are_numbers(names: Sequence[str]) -> bool:
    """Whether names say nothing but the position: the same word (or none) and a number that counts up."""
    found = [match for name in names if (match := re.fullmatch(r'(\D*)(\d+)', name.strip()))]
    if len(found) < len(names) or len({match[1] for match in found}) > 1:
        return False
    numbers = [int(match[2]) for match in found]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _some(names: Sequence[str], most: int = 24) -> str:
    return ', '.join(names[:most]) + (f', ... ({len(names)})' if len(names) > most else '')
