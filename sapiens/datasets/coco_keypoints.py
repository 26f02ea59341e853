# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""COCO-style keypoint annotations with any vocabulary, COCO-WholeBody's split fields, and detector boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..registry import DATASETS
from ..vocabularies import load_vocabulary
from .base import HumanDataset

WHOLEBODY_FIELDS = (('foot', 6), ('face', 68), ('lefthand', 21), ('righthand', 21))
"""Fields that COCO-WholeBody keeps beside the 17 body points, in the order of the 133."""


@DATASETS.register_module()
class CocoKeypointDataset(HumanDataset):
    """One sample a person.

    ``keypoints`` holds x, y, v for all K points of the vocabulary; for 133 points it may hold the 17 of COCO with
    ``foot_kpts``, ``face_kpts``, ``lefthand_kpts`` and ``righthand_kpts`` beside it (COCO-WholeBody), whose
    ``*_valid`` flags then say whether they count.

    Training takes persons with a labelled point; testing takes everyone but crowds, or the boxes of a detector.

    Args:
        ann_file: JSON with ``images``, ``annotations`` and ``categories``.
        keypoint_vocabulary: Name or file of the vocabulary.
        bbox_file: Detector result in COCO's format, ``[{"image_id", "category_id", "bbox", "score"}, ...]``; in
            testing its boxes replace the annotated ones.
        bbox_score_thr: Detections with a lower score are left out.
        **kwargs: See `HumanDataset`; ``data_prefix=dict(img=...)`` is the folder of images.

    Raises:
        UserError: A malformed file or a wrong number of keypoints; the message names file and annotation.
    """

    def __init__(
        self,
        *args: Any,
        keypoint_vocabulary: str = 'coco17',
        bbox_file: str | None = None,
        bbox_score_thr: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.bbox_file, self.bbox_score_thr = bbox_file, bbox_score_thr
        super().__init__(*args, keypoint_vocabulary=keypoint_vocabulary, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry a person."""
        document = read_json(self.ann_file)
        missing = {'images', 'annotations'} - set(document) if isinstance(document, dict) else {'images', 'annotations'}
        if missing:
            raise UserError(f'{self.ann_file}: lacks {", ".join(sorted(missing))}; give a COCO-style annotation file')
        try:
            images = {image['id']: image for image in document['images']}
            absent = [key for key, image in images.items() if not isinstance(image.get('file_name'), str)]
        except (KeyError, TypeError, AttributeError):
            raise UserError(f'{self.ann_file}: every image needs an "id"; mend the file') from None
        if absent:
            raise UserError(f'{self.ann_file}: image {absent[0]} has no "file_name"; mend the file')
        annotations = document['annotations']
        if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
            raise UserError(f'{self.ann_file}: "annotations" is no list of {{...}}; mend the file')
        people = {c['id'] for c in document.get('categories', []) if c.get('name') == 'person' or 'keypoints' in c}
        if self.bbox_file and self.test_mode:
            return self._detections(images, people)
        entries = []
        for annotation in annotations:
            if people and annotation.get('category_id') not in people:
                continue
            entry = self._person(annotation, images)
            if entry is not None:
                entries.append(entry)
        return entries

    def _person(self, annotation: dict[str, Any], images: dict[Any, dict]) -> dict[str, Any] | None:
        where = f'{self.ann_file}: annotation {annotation.get("id", "without id")}'
        try:
            image = images[annotation['image_id']]
        except KeyError:
            raise UserError(f'{where} belongs to image {annotation.get("image_id")}, which is not listed') from None
        if annotation.get('iscrowd'):
            return None
        points = join_keypoints(annotation, load_vocabulary(self.keypoint_vocabulary).num_keypoints, where)
        if points is None or not (points[:, 2] > 0).any():
            if not self.test_mode:
                return None
            points = np.zeros((load_vocabulary(self.keypoint_vocabulary).num_keypoints, 3), np.float32)
        bbox = self._clip(annotation.get('bbox'), image, where)
        if bbox is None:
            return None
        entry = self._entry(image, bbox, 1.0)
        entry.update(ann_id=annotation.get('id'), keypoints=points[:, :2].copy(), keypoints_visible=points[:, 2].copy())
        if annotation.get('area'):
            entry['area'] = float(annotation['area'])
        return entry

    def _detections(self, images: dict[Any, dict], people: set) -> list[dict[str, Any]]:
        path = self._resolve('', self.bbox_file) if self.data_root else self.bbox_file
        detections = read_json(path)
        if not isinstance(detections, list):
            raise UserError(f'{path}: a detector result is a list of boxes with "image_id", "bbox" and "score"')
        entries = []
        for number, detection in enumerate(detections):
            where = f'{path}: box {number}'
            absent = {'image_id', 'bbox', 'score'} - set(detection if isinstance(detection, dict) else ())
            if absent or detection['image_id'] not in images:
                raise UserError(f'{where} lacks {", ".join(sorted(absent))}' if absent else f'{where} belongs to image '
                                f'{detection["image_id"]}, which {self.ann_file} does not list')  # fmt: skip
            if detection['score'] < self.bbox_score_thr or (people and detection.get('category_id', 1) not in people):
                continue
            bbox = self._clip(detection['bbox'], images[detection['image_id']], where)
            if bbox is not None:
                entries.append(self._entry(images[detection['image_id']], bbox, float(detection['score'])))
        return entries

    def _entry(self, image: dict[str, Any], bbox: np.ndarray, score: float) -> dict[str, Any]:
        return {
            'img_path': self._resolve('img', image['file_name']),
            'img_id': image['id'],
            'bbox': bbox,
            'bbox_score': score,
        }

    @staticmethod
    def _clip(bbox: Any, image: dict[str, Any], where: str) -> np.ndarray | None:
        """x, y, w, h -> x1, y1, x2, y2 inside the image; None when nothing is left."""
        box = as_numbers(bbox)
        if box is None or box.shape != (4,):
            raise UserError(f'{where} needs a "bbox" of four numbers x, y, width, height')
        x, y, w, h = box
        limit = np.array([image.get('width', np.inf), image.get('height', np.inf)] * 2)
        corners = np.clip([x, y, x + w, y + h], 0, limit)
        return corners.astype(np.float32) if (corners[2:] > corners[:2]).all() else None


def join_keypoints(annotation: dict[str, Any], count: int, where: str) -> np.ndarray | None:
    """Keypoints of a COCO-style annotation as ``(count, 3)`` float32 of x, y, v; v is 0, 1 (hidden) or 2.

    Args:
        annotation: With ``keypoints`` and, for 133 points, perhaps COCO-WholeBody's split fields.
        count: K of the vocabulary.
        where: What to call the annotation in a message.

    Returns:
        None when the annotation has no keypoints at all.

    Raises:
        UserError: A wrong number of values.
    """
    values = annotation.get('keypoints')
    if values is None:
        return None
    if not isinstance(values, list):
        raise UserError(f'{where} has "keypoints" that are no list of numbers; mend the file')
    if len(values) == 17 * 3 and count == 133 and 'foot_kpts' in annotation:
        parts = [(values, 17)]
        for name, number in WHOLEBODY_FIELDS:
            valid = annotation.get(f'{name}_valid', True)
            parts.append((annotation.get(f'{name}_kpts', []) if valid else [0] * (3 * number), number))
        for part, number in parts:
            if len(part) != 3 * number:
                raise UserError(f'{where} has {len(part) / 3:g} points in a field of {number}; mend the file')
        values = [v for part, _ in parts for v in part]
    if len(values) != 3 * count:
        raise UserError(f'{where} has {len(values) / 3:g} keypoints, the vocabulary has {count}; '
                        'choose the keypoint_vocabulary of the file')  # fmt: skip
    points = as_numbers(values)
    if points is None or points.ndim != 1:
        raise UserError(f'{where} has keypoints that are no numbers; mend the file')
    points = points.astype(np.float32).reshape(count, 3)
    # Some tools write confidences for v: anything above 0 is labelled.
    points[:, 2] = np.where(points[:, 2] > 0, np.where(points[:, 2] > 1, 2, 1), 0)
    return points


def as_numbers(values: Any) -> np.ndarray | None:
    """Values from JSON as float64, in whatever shape they nest; None when some are no numbers or rows differ."""
    try:
        array = np.array(values)
    except ValueError:
        return None
    return array.astype(np.float64) if array.dtype.kind in 'iuf' else None


def read_json(path: str | Path) -> Any:
    """Parse a JSON file.

    Raises:
        UserError: Missing or malformed; the message names it.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f'{path}: no such annotation file; check the path and data_root') from None
    except IsADirectoryError:
        raise UserError(f'{path}: is a folder; give an annotation file') from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: not valid JSON ({error}); mend the file') from None
