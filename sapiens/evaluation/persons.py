# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What the metrics of keypoints share: reading of points, other vocabularies, scores of persons, duplicates."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UserError
from ..structures.geometry import to_original
from ..vocabularies import KeypointVocabulary, keypoint_map, load_keypoints
from ..vocabularies.convert import apply_map
from .base import HumanMetric, field, sample_name

SCORE_MODES = ('bbox_keypoint', 'keypoint', 'bbox')


class KeypointMetric(HumanMetric):
    """A metric of keypoints, in pixels of the original image.

    Args:
        vocabulary: Of the predictions.
        gt_vocabulary: Of the labels when it is another one: predictions are converted, and only points that both have
            are scored (308 -> 133: the paper's 114 common points).
    """

    default_prefix: str | None = 'pose'
    task = 'pose'

    def __init__(
        self,
        vocabulary: str | KeypointVocabulary = 'coco17',
        gt_vocabulary: str | KeypointVocabulary | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.convert = PointConversion(vocabulary, gt_vocabulary)
        self.vocabulary, self.gt_vocabulary = self.convert.source, self.convert.target

    def predicted(self, sample: dict) -> np.ndarray:
        """``(K, 2)`` float64 predicted points; of a person without a prediction all are infinitely far.

        Raises:
            UserError: The sample has none, or another number of them than the vocabulary.
        """
        count = self.vocabulary.num_keypoints
        if sample.get('pred_keypoints') is None and sample.get('missing'):
            return np.full((count, 2), np.inf)
        points = field(sample, 'pred_keypoints', type(self).__name__).astype(np.float64).reshape(-1, 2)
        self._check_count(sample, len(points), 'keypoints predicted', self.vocabulary)
        return points

    def labelled(self, sample: dict) -> tuple[np.ndarray, np.ndarray]:
        """``(K, 2)`` float64 labelled points and ``(K,)`` visibility.

        Raises:
            UserError: The sample has none, or another number of them than the vocabulary.
        """
        name = type(self).__name__
        visible = field(sample, 'gt_keypoints_visible', name).astype(np.float64).reshape(-1)
        points = to_original(field(sample, 'gt_keypoints', name), sample.get('warp_mat')).reshape(-1, 2)
        self._check_count(sample, min(len(points), len(visible)), 'keypoints labelled', self.gt_vocabulary)
        return points, visible

    @staticmethod
    def _check_count(sample: dict, count: int, what: str, vocabulary: KeypointVocabulary) -> None:
        if count != vocabulary.num_keypoints:
            raise UserError(f"{sample_name(sample)}: {count} {what}, but vocabulary '{vocabulary.name}' has "
                            f'{vocabulary.num_keypoints}')  # fmt: skip


def person_score(keypoint_scores: np.ndarray, box_score: Any, mode: str, threshold: float) -> float:
    """Score of a person: ``'bbox'``, ``'keypoint'`` (mean) or ``'bbox_keypoint'`` (box x mean of those above).

    A box score of None is 1.
    """
    box_score = 1.0 if box_score is None else float(box_score)
    if mode == 'bbox':
        return box_score
    if mode == 'keypoint':
        return float(keypoint_scores.mean())
    above = keypoint_scores[keypoint_scores > threshold]
    return box_score * (float(above.mean()) if len(above) else 0.0)


def box_gives_area(vocabulary: KeypointVocabulary) -> bool:
    """Whether results of a vocabulary carry boxes in COCO's manner: those that have a body only."""
    return len(vocabulary.groups) == 1


class PointConversion:
    """From the vocabulary of the predictions to that of the labels; only points that both have are scored.

    Args:
        vocabulary: Of the predictions.
        gt_vocabulary: Of the labels; None = the same.

    Attributes:
        scored: ``(P,)`` ids, in the labels' vocabulary, of the points that both have.
    """

    def __init__(
        self, vocabulary: str | KeypointVocabulary, gt_vocabulary: str | KeypointVocabulary | None = None
    ) -> None:
        self.source, self.target = load_keypoints(vocabulary), load_keypoints(gt_vocabulary or vocabulary)
        self._sources = keypoint_map(self.source, self.target, derived=False)
        self.scored = np.array(sorted(self._sources), np.int64)

    def __call__(self, points: np.ndarray, scores: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``(K, 2)`` points and ``(K,)`` scores in the labels' vocabulary; those that cannot be made are 0."""
        scores = np.ones(len(points)) if scores is None else scores
        if self.source.name == self.target.name:
            return points, scores
        converted, certain = apply_map(self._sources, self.target, points, scores)
        return np.where(np.isnan(converted), 0, converted), certain

    def __str__(self) -> str:
        if self.source.name == self.target.name:
            return self.source.name
        return f'{self.source.name} converted to {self.target.name}'


def common_points(vocabulary: KeypointVocabulary) -> dict[int, float]:
    """The 114 points that 308 and 133 points have in common: id in a vocabulary -> sigma.

    The vocabularies give some face points different sigmas. Where these points are compared, those of COCO-WholeBody
    hold for both, so that the same persons score the same.
    """
    whole_body = load_keypoints('wholebody133')
    mapping = keypoint_map('keypoints308', whole_body, derived=False)
    if vocabulary.name == 'keypoints308':
        return {source: float(whole_body.sigmas[t]) for t, sources in mapping.items() for source in sources}
    known = keypoint_map(whole_body, vocabulary, derived=False)
    return {t: float(vocabulary.sigmas[t]) for t, (source,) in known.items() if source in mapping}


def extent(points: np.ndarray) -> np.ndarray:
    """Box x, y, width, height around ``(N, 2)`` points; zeros for none."""
    if not len(points):
        return np.zeros(4)
    low, high = points.min(0), points.max(0)
    return np.concatenate([low, high - low])


def oks_nms(
    keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float
) -> np.ndarray:
    """Greedy suppression: a person goes when its OKS with a better scored one is above the threshold.

    The OKS is over all points, with the mean of the two areas.

    Args:
        keypoints: ``(N, K, 2)`` pixels.
        scores: ``(N,)``.
        areas: ``(N,)`` square pixels.
        sigmas: ``(K,)``.
        threshold: In [0, 1]; 1 keeps everything.

    Returns:
        Indices that stay, best first.
    """
    variances = (np.asarray(sigmas, np.float64) * 2) ** 2
    order = np.argsort(-np.asarray(scores), kind='stable')
    keep = []
    while len(order):
        first, rest = order[0], order[1:]
        keep.append(first)
        distance = ((keypoints[rest] - keypoints[first]) ** 2).sum(-1)
        area = (areas[first] + areas[rest]) / 2 + np.spacing(1)
        oks = np.exp(-distance / variances / area[:, None] / 2).mean(-1)
        order = rest[oks <= threshold]
    return np.array(keep, np.int64)
