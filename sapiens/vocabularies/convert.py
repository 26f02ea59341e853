# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Carry keypoints from one vocabulary to another by the maps that the vocabularies hold."""

from __future__ import annotations

import numpy as np

from .loader import KeypointVocabulary, VocabularyError, load_keypoints
from .names import vocabulary_difference


def keypoint_map(
    source: str | KeypointVocabulary, target: str | KeypointVocabulary, derived: bool = True, inverse: bool = False
) -> dict[int, tuple[int, ...]]:
    """Which source keypoints make each target keypoint.

    Maps compose: 308 -> 133 and 133 -> 17 give 308 -> 17.

    Args:
        source: Vocabulary (or its name) that the points are in.
        target: Vocabulary (or its name) that the points shall be in.
        derived: Also give target points that are means of source points or stand-ins for them (a mid-hip,
            a hand root taken from the wrist). Without them 308 -> 133 has the 114 points common to both.
        inverse: Where no maps lead there, go those from target to source backwards: of 308 points, 17 give 17.

    Returns:
        ``{target id: source ids}``; the target point is the mean of the source points. Target points that
        cannot be made are absent.

    Raises:
        VocabularyError: No chain of maps leads from source to target, a map names a point that the target lacks, or two
            files of one name have other points.
    """
    begin, end = load_keypoints(source), load_keypoints(target)
    if begin.name == end.name and begin.names != end.names:
        raise VocabularyError(f"two vocabularies are called '{begin.name}', but {vocabulary_difference(begin, end)}; "
                              'give one of them another "name"')  # fmt: skip
    start: dict[int, tuple[int, ...]] = {i: (i,) for i in range(begin.num_keypoints)}
    queue, seen = [(begin, start)], {begin.name}
    while queue:
        vocabulary, mapping = queue.pop(0)
        if vocabulary.name == end.name:
            return mapping
        for name, step in vocabulary.maps.items():
            if name in seen:
                continue
            seen.add(name)
            entries = {**step.get('points', {}), **(step.get('derived', {}) if derived else {})}
            composed = {
                int(t): tuple(i for s in sources for i in mapping[s])
                for t, sources in entries.items()
                if all(s in mapping for s in sources)
            }
            step_target = load_keypoints(name)
            if composed and max(composed) >= step_target.num_keypoints:
                raise VocabularyError(
                    f"the map from '{vocabulary.name}' to '{name}' makes point {max(composed)}, "
                    f"but '{name}' has {step_target.num_keypoints}"
                )
            queue.append((step_target, dict(sorted(composed.items()))))
    if inverse:
        back = keypoint_map(end, begin, derived=False)
        return {sources[0]: (t,) for t, sources in back.items() if len(sources) == 1}
    raise VocabularyError(f"no map from vocabulary '{begin.name}' to '{end.name}'; add one under \"maps\"")


def convert_keypoints(
    keypoints: np.ndarray,
    scores: np.ndarray,
    source: str | KeypointVocabulary,
    target: str | KeypointVocabulary,
    inverse: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Convert keypoints between vocabularies.

    Args:
        keypoints: ``(..., K, 2)`` coordinates.
        scores: ``(..., K)`` scores.
        inverse: See `keypoint_map`.

    Returns:
        ``(..., K', 2)`` coordinates (NaN where the source has no such point) and ``(..., K')`` scores (the
        minimum over the sources; 0 where there are none).

    Raises:
        VocabularyError: No map leads from source to target, or the arrays do not have the source's K.
    """
    begin, end = load_keypoints(source), load_keypoints(target)
    keypoints, scores = np.asarray(keypoints), np.asarray(scores)
    expected = begin.num_keypoints
    if keypoints.shape[-2:] != (expected, 2) or scores.shape != keypoints.shape[:-1]:
        raise VocabularyError(
            f"'{begin.name}' has {expected} keypoints, not coordinates {keypoints.shape} with scores {scores.shape}"
        )
    points, values = apply_map(keypoint_map(begin, end, inverse=inverse), end, keypoints, scores)
    return points.astype(np.float32), values.astype(np.float32)


def apply_map(
    mapping: dict[int, tuple[int, ...]], target: KeypointVocabulary, keypoints: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """See `convert_keypoints`; with a map of `keypoint_map`, in float64."""
    points = np.full((*keypoints.shape[:-2], target.num_keypoints, 2), np.nan)
    values = np.zeros((*scores.shape[:-1], target.num_keypoints))
    for t, sources in mapping.items():
        points[..., t, :] = keypoints[..., list(sources), :].mean(-2)
        values[..., t] = scores[..., list(sources)].min(-1)
    return points, values
