# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Whether two vocabularies mean the same by their numbers, whatever they are called."""

from __future__ import annotations

import numpy as np

from .loader import KeypointVocabulary, PartVocabulary


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
