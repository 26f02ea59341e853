# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Keypoint and part vocabularies: the only place that knows their numbers."""

from .convert import convert_keypoints, keypoint_map
from .loader import (
    KeypointVocabulary,
    PartVocabulary,
    VocabularyError,
    available_vocabularies,
    load_keypoints,
    load_parts,
    load_vocabulary,
    parse_vocabulary,
)
from .names import describe, vocabulary_difference

__all__ = [
    'KeypointVocabulary',
    'PartVocabulary',
    'VocabularyError',
    'available_vocabularies',
    'convert_keypoints',
    'describe',
    'keypoint_map',
    'load_keypoints',
    'load_parts',
    'load_vocabulary',
    'parse_vocabulary',
    'vocabulary_difference',
]
