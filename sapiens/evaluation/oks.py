# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Object keypoint similarity (OKS), matching, average precision and recall, and suppression of duplicates.

The definitions are those of COCO's keypoint evaluation, for any set of keypoints:

* ``OKS = mean over labelled points of exp(-d_i^2 / (2 A (2 sigma_i)^2))``, ``d_i`` in pixels, ``A`` the person's area.
  Against a person without labelled points, ``d_i`` is the distance to the person's box doubled in size.
* At most 20 detections per image, best scores first, each takes the free person with the highest OKS at or above
  the threshold; persons that count (not crowd, with labelled points, of the size asked for) come before the others.
  A detection matched to a person that does not count, or unmatched and of another size, is not counted.
* AP is the mean over 101 recall levels of the best precision at that recall or above; AR is the recall reached.
  Both are averaged over the thresholds 0.50, 0.55, ..., 0.95.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .tables import UNDEFINED

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 20
AREA_RANGES = {'all': (0.0, 1e5**2), 'M': (32.0**2, 96.0**2), 'L': (96.0**2, 1e5**2)}
FIGURES = ('AP', 'AP50', 'AP75', 'AP_M', 'AP_L', 'AR', 'AR50', 'AR75', 'AR_M', 'AR_L')
_TINY = np.spacing(1)


def oks_matrix(
    detections: np.ndarray, persons: np.ndarray, boxes: np.ndarray, areas: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """OKS of every detection with every person of one image.

    Args:
        detections: ``(D, K, 2)`` pixels.
        persons: ``(G, K, 3)`` pixels and visibility (> 0 = labelled).
        boxes: ``(G, 4)`` x, y, width, height.
        areas: ``(G,)`` square pixels.
        sigmas: ``(K,)``.

    Returns:
        ``(D, G)`` in [0, 1].
    """
    result = np.zeros((len(detections), len(persons)))
    variances = (np.asarray(sigmas, np.float64) * 2) ** 2
    for j, (person, (x, y, width, height)) in enumerate(zip(persons, boxes, strict=True)):
        labelled = person[:, 2] > 0
        if labelled.any():
            offset = detections[:, labelled] - person[labelled, :2]
            scale = variances[labelled]
        else:
            low, high = np.array([x - width, y - height]), np.array([x + 2 * width, y + 2 * height])
            offset = np.maximum(low - detections, 0) + np.maximum(detections - high, 0)
            scale = variances
        distance = (offset**2).sum(-1)
        result[:, j] = np.exp(-distance / scale / (areas[j] + _TINY) / 2).mean(-1)
    return result


@dataclass
class ImageMatches:
    """Outcome of one image in one area range.

    Attributes:
        scores: ``(D,)`` of the detections, best first.
        matched: ``(T, D)`` whether each detection took a person at each threshold.
        ignored: ``(T, D)`` whether the detection is not counted.
        positives: Number of persons that count.
    """

    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    positives: int


def match_image(
    oks: np.ndarray,
    scores: np.ndarray,
    detection_areas: np.ndarray,
    person_areas: np.ndarray,
    ignore: np.ndarray,
    crowd: np.ndarray,
    area_range: tuple[float, float],
) -> ImageMatches:
    """Match the detections of one image, sorted best first, to its persons.

    Args:
        oks: ``(D, G)``.
        scores: ``(D,)`` descending.
        detection_areas: ``(D,)`` square pixels.
        person_areas: ``(G,)`` square pixels.
        ignore: ``(G,)`` bool, persons that never count (crowd, or no labelled point).
        crowd: ``(G,)`` bool, may be taken many times.
        area_range: Smallest and largest area that counts.
    """
    low, high = area_range
    ignore = ignore | (person_areas < low) | (person_areas > high)
    order = np.argsort(ignore, kind='stable')
    matched = np.zeros((len(THRESHOLDS), len(scores)), bool)
    to_ignored = np.zeros_like(matched)
    taken = np.zeros((len(THRESHOLDS), len(ignore)), bool)
    hopeful = oks >= THRESHOLDS[0]
    for d in np.flatnonzero(hopeful.any(1)):
        candidates = [g for g in order if hopeful[d, g]]
        for t, threshold in enumerate(THRESHOLDS):
            best, chosen = min(threshold, 1 - 1e-10), -1
            for g in candidates:
                if taken[t, g] and not crowd[g]:
                    continue
                if chosen >= 0 and not ignore[chosen] and ignore[g]:
                    break
                if oks[d, g] >= best:
                    best, chosen = oks[d, g], g
            if chosen >= 0:
                taken[t, chosen] = True
                matched[t, d] = True
                to_ignored[t, d] = ignore[chosen]
    outside = (detection_areas < low) | (detection_areas > high)
    return ImageMatches(scores, matched, to_ignored | (~matched & outside), int((~ignore).sum()))


@dataclass
class PooledMatches:
    """The matches of all images in one area range, sorted by score, ready to be weighted by image."""

    image: np.ndarray
    hits: np.ndarray
    misses: np.ndarray
    positives: np.ndarray

    @classmethod
    def pool(cls, images: Sequence[ImageMatches]) -> PooledMatches:
        """Join the images; equal scores keep the order of the images."""
        scores = np.concatenate([m.scores for m in images])
        order = np.argsort(-scores, kind='stable')
        matched = np.concatenate([m.matched for m in images], 1)[:, order]
        counted = ~np.concatenate([m.ignored for m in images], 1)[:, order]
        image = np.repeat(np.arange(len(images)), [len(m.scores) for m in images])[order]
        return cls(image, matched & counted, ~matched & counted, np.array([m.positives for m in images]))

    def precision_recall(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Average precision and recall at each threshold, ``(T,)`` each; -1 where no person counts.

        Args:
            weights: ``(I,)`` how often each image counts; None = once.
        """
        if weights is None:
            weights = np.ones(len(self.positives), np.int64)
        total = float((self.positives * weights).sum())
        if total == 0:
            return np.full(len(THRESHOLDS), UNDEFINED), np.full(len(THRESHOLDS), UNDEFINED)
        weight = weights[self.image].astype(np.float64)
        hits, misses = np.cumsum(self.hits * weight, 1), np.cumsum(self.misses * weight, 1)
        recall = hits / total
        precision = hits / (hits + misses + _TINY)
        envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        average = np.zeros(len(THRESHOLDS))
        for t in range(len(THRESHOLDS)):
            at = np.searchsorted(recall[t], RECALL_LEVELS, side='left')
            reached = at < envelope.shape[1]
            average[t] = envelope[t, at[reached]].sum() / len(RECALL_LEVELS)
        return average, recall[:, -1] if recall.shape[1] else np.zeros(len(THRESHOLDS))


def figures(pools: dict[str, PooledMatches], weights: np.ndarray | None = None) -> dict[str, float]:
    """The ten figures of COCO's keypoint table from the matches of each area range (or of ``'all'`` only)."""
    result = {}
    for name, pool in pools.items():
        precision, recall = pool.precision_recall(weights)
        for figure, values in (('AP', precision), ('AR', recall)):
            if name == 'all':
                result[figure] = float(values.mean())
                result[f'{figure}50'] = float(values[0])
                result[f'{figure}75'] = float(values[5])
            else:
                result[f'{figure}_{name}'] = float(values.mean())
    return {figure: result[figure] for figure in FIGURES if figure in result}


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
        area = (areas[first] + areas[rest]) / 2 + _TINY
        oks = np.exp(-distance / variances / area[:, None] / 2).mean(-1)
        order = rest[oks <= threshold]
    return np.array(keep, np.int64)
