# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""COCO's keypoint evaluation of any set of points, by faster-coco-eval.

``OKS = mean over labelled points of exp(-d_i^2 / (2 A (2 sigma_i)^2))``, ``d_i`` in pixels, ``A`` the person's area. At
most 20 detections an image are matched, best scores first; AP and AR are means over the thresholds 0.50 to 0.95.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

MAX_DETECTIONS = 20
FIGURES = ('AP', 'AP50', 'AP75', 'AP_M', 'AP_L', 'AR', 'AR50', 'AR75', 'AR_M', 'AR_L')


@dataclass
class Labels:
    """Labelled persons of all images.

    ``(G,)`` number of the image, ``(G, K, 3)`` points x, y, v, ``(G, 4)`` boxes x, y, width, height, ``(G,)`` areas and
    ``(G,)`` whether it is a crowd.
    """

    image: np.ndarray
    points: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray


@dataclass
class Detections:
    """Predicted persons of all images.

    ``(D,)`` number of the image, ``(D, K, 2)`` points, ``(D, K)`` whether it claims to see each, ``(D,)`` areas.
    """

    image: np.ndarray
    points: np.ndarray
    seen: np.ndarray
    areas: np.ndarray


class PointSet:
    """One set of points (a part, or all) evaluated as an ordinary keypoint set.

    Args:
        labels: Persons; those without a labelled point of the set, and crowds, do not count.
        detections: Those that claim to see no point of the set are none of it (as xtcocotools has it).
        scores: ``(D,)`` of the detections, for this set.
        points: ``(P,)`` ids of the set.
        sigmas: ``(P,)``.
        images: Number of images.
    """

    def __init__(
        self,
        labels: Labels,
        detections: Detections,
        scores: np.ndarray,
        points: np.ndarray,
        sigmas: np.ndarray,
        images: int,
    ) -> None:
        self.ignored = labels.crowd | ~(labels.points[:, points, 2] > 0).any(1)
        self._label_images = labels.image
        seen = detections.seen
        kept = np.flatnonzero(seen[:, points].any(1) | ~seen.any(1))
        self._order: dict[int, list[int]] = {}
        for d in kept[np.argsort(-scores[kept], kind='stable')]:
            self._order.setdefault(int(detections.image[d]), []).append(int(d))
        common = {'images': [{'id': i} for i in range(images)], 'categories': [{'id': 1, 'name': 'person'}]}
        persons = [
            {
                'id': i + 1,
                'image_id': int(labels.image[i]),
                'category_id': 1,
                'keypoints': labels.points[i, points].reshape(-1),
                'num_keypoints': int((labels.points[i, points, 2] > 0).sum()),
                'bbox': labels.boxes[i].tolist(),
                'area': float(labels.areas[i]),
                'iscrowd': int(labels.crowd[i]),
            }
            for i in range(len(labels.image))
        ]
        found = [
            {
                'id': int(d) + 1,
                'image_id': int(detections.image[d]),
                'category_id': 1,
                'keypoints': np.pad(detections.points[d, points], ((0, 0), (0, 1))).reshape(-1),
                'score': float(scores[d]),
                'area': float(detections.areas[d]),
                'iscrowd': 0,
            }
            for d in kept
        ]
        self._evaluation = COCOeval_faster(
            COCO({**common, 'annotations': persons}),
            COCO({**common, 'annotations': found}),
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
        for image, persons in _grouped(self._label_images).items():
            oks = np.asarray(self._evaluation.ious[image, 1], np.float64).reshape(-1, len(persons))
            for g, person in enumerate(persons):
                if self.ignored[person]:
                    continue
                near = int(oks[:, g].argmax()) if len(oks) and oks[:, g].max() > 0 else None
                detection = None if near is None else self._order[image][near]
                pairs.append((image, person, detection, 0.0 if near is None else float(oks[near, g])))
        return pairs


def _grouped(images: np.ndarray) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for position, image in enumerate(images.tolist()):
        groups.setdefault(image, []).append(position)
    return dict(sorted(groups.items()))
