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

_SIDES = {'l': 'left', 'r': 'right', 'lt': 'left', 'rt': 'right', 'lft': 'left', 'rgt': 'right'}


def name_key(name: str) -> tuple[str, ...]:
    """What a name says, whatever its style: ``leftShoulder``, ``L_shoulder`` and ``Shoulder (left)`` are equal."""
    text = re.sub(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[LR])(?=[A-Z][a-z])', ' ', name).lower()
    words = []
    for word in re.findall(r'[^\W\d_]+|\d+', text):
        glued = re.fullmatch(r'(left|right)(.+)|(.+?)(left|right)', word)
        if glued:
            words += [glued[1] or glued[4], glued[2] or glued[3]]
        else:
            words.append(_SIDES.get(word, word))
    sides = [word for word in words if word in ('left', 'right')]
    return (*sides, *(str(int(w)) if w.isdecimal() else w for w in words if w not in ('left', 'right')))


def find_twins(names: Sequence[str]) -> list[int]:
    """For each name the position of the one that differs in left and right only; its own where there is none."""
    keys = [name_key(name) for name in names]
    mirror = {'left': 'right', 'right': 'left'}
    twins = [tuple(mirror.get(word, word) for word in key) for key in keys]
    return [
        keys.index(twin) if twin != key and keys.count(twin) == 1 and keys.count(key) == 1 else i
        for i, (key, twin) in enumerate(zip(keys, twins, strict=True))
    ]


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
