# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""COCO's keypoint evaluation of any set of points, by faster-coco-eval.

``OKS = mean over labelled points of exp(-d_i^2 / (2 A (2 sigma_i)^2))``, ``d_i`` in pixels, ``A`` the person's area. At
most 20 detections an image are matched, best scores first; AP and AR are means over the thresholds 0.50 to 0.95.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

MAX_DETECTIONS = 20
FIGURES = ('AP', 'AP50', 'AP75', 'AP_M', 'AP_L', 'AR', 'AR50', 'AR75', 'AR_M', 'AR_L')


class PointSet:
    """One set of points (a part, or all) evaluated as an ordinary keypoint set.

    Args:
        people: Labelled persons as COCO's annotations, ``image_id`` counting from 0, ``keypoints`` ``(K, 3)`` x, y, v.
            Those without a labelled point of the set, and crowds, do not count.
        found: Detections alike, v = 1 where one claims to see the point. Those that claim to see no point of the set
            are none of it (as xtcocotools has it).
        scores: ``(D,)`` of the detections, for this set.
        points: ``(P,)`` ids of the set.
        sigmas: ``(P,)``.
    """

    def __init__(
        self,
        people: list[dict[str, Any]],
        found: list[dict[str, Any]],
        scores: np.ndarray,
        points: np.ndarray,
        sigmas: np.ndarray,
        images: int,
    ) -> None:
        common = {'images': [{'id': i} for i in range(images)], 'categories': [{'id': 1, 'name': 'person'}]}
        truth, results = [], []
        self._people: dict[int, list[tuple[int, bool]]] = {}
        for number, person in enumerate(people):
            keypoints = person['keypoints'][points]
            count = int((keypoints[:, 2] > 0).sum())
            truth.append({**person, 'id': number + 1, 'keypoints': keypoints.reshape(-1), 'num_keypoints': count})
            self._people.setdefault(person['image_id'], []).append((number, bool(count and not person['iscrowd'])))
        self._order: dict[int, list[int]] = {}
        for number in np.argsort(-scores, kind='stable').tolist():
            result = found[number]
            if result['keypoints'][points, 2].any() or not result['keypoints'][:, 2].any():
                keypoints = result['keypoints'][points].reshape(-1)
                results.append({**result, 'id': number + 1, 'keypoints': keypoints, 'score': float(scores[number])})
                self._order.setdefault(result['image_id'], []).append(number)
        self._evaluation = COCOeval_faster(
            COCO({**common, 'annotations': truth}),
            COCO({**common, 'annotations': results}),
            'keypoints',
            kpt_oks_sigmas=np.asarray(sigmas, np.float64),
            separate_eval=True,
        )
        self._evaluation.evaluate()
        self._matches, self._images = self._evaluation._evalImgs_cpp, images

    def figures(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """The ten figures of COCO's keypoint table; -1 where no person counts.

        Args:
            weights: ``(I,)`` how often each image counts, ``images`` in sum; None = once.
        """
        order = np.arange(self._images) if weights is None else np.repeat(np.arange(self._images), weights)
        areas = len(self._matches) // self._images
        self._evaluation._evalImgs_cpp = [self._matches[a * self._images + i] for a in range(areas) for i in order]
        self._evaluation.accumulate()
        self._evaluation.summarize()
        return dict(zip(FIGURES, map(float, self._evaluation.stats), strict=False))

    def best(self) -> list[tuple[int, int, int | None, float]]:
        """For every person that counts: image, person, its nearest detection (None: infinitely far) and their OKS."""
        pairs = []
        for image, people in sorted(self._people.items()):
            oks = np.asarray(self._evaluation.ious[image, 1], np.float64).reshape(-1, len(people))
            for column, (person, counts) in enumerate(people):
                if counts:
                    near = int(oks[:, column].argmax()) if len(oks) and oks[:, column].max() > 0 else None
                    detection = None if near is None else self._order[image][near]
                    pairs.append((image, person, detection, 0.0 if near is None else float(oks[near, column])))
        return pairs
