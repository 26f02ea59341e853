# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Persons of COCO-style annotation files with any vocabulary, in their boxes or in those of a detector."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import DATASETS
from ..structures.coco import CocoFile, CocoImage, CocoPerson, read_coco
from ..structures.coco_entries import as_corners, box_problem
from ..structures.coco_results import read_coco_boxes
from ..vocabularies import convert_keypoints, keypoint_map, load_keypoints
from .base import HumanDataset


@DATASETS.register_module()
class CocoKeypointDataset(HumanDataset):
    """One sample a person.

    What a file may look like says `sapiens.structures.read_coco`: points in any order that the file names, ids as
    numbers or strings, COCO-WholeBody's split fields with their ``*_valid`` flags. What was dropped or assumed is
    logged and kept in `notes`.

    Training takes persons with a labelled point; testing takes everyone but crowds, or the boxes of a detector.

    Args:
        ann_file: JSON with ``images``, ``annotations`` and ``categories``.
        keypoint_vocabulary: Name or file of the vocabulary of the samples.
        file_vocabulary: That of the file where it is another one; points are converted by the vocabularies' maps, those
            that the file lacks are unlabelled.
        category: Name or id of the category that is a person; None goes by the file's own names.
        bbox_file: Boxes of a detector, e.g. in COCO's result format; in testing they replace the annotated ones.
        bbox_score_thr: Detections with a lower score are left out.
        **kwargs: See `HumanDataset`; ``data_prefix=dict(img=...)`` is the folder of images.

    Raises:
        UserError: A malformed file, or points of another vocabulary; the message names file and annotation. No map from
            ``file_vocabulary``.
    """

    def __init__(
        self,
        *args: Any,
        keypoint_vocabulary: str = 'coco17',
        file_vocabulary: str | None = None,
        category: str | int | None = None,
        bbox_file: str | None = None,
        bbox_score_thr: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.category, self.file_vocabulary = category, file_vocabulary or keypoint_vocabulary
        self.bbox_file, self.bbox_score_thr = bbox_file, bbox_score_thr
        if file_vocabulary:
            keypoint_map(file_vocabulary, keypoint_vocabulary, inverse=True)
        super().__init__(*args, **{**kwargs, 'keypoint_vocabulary': keypoint_vocabulary})

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry a person."""
        file = read_coco(self.ann_file, self.file_vocabulary, self.category)
        if self.bbox_file and self.test_mode:
            return self._detections(file, self.bbox_file)
        found = (self._why_not(person) or self._person(person, file.images[person.image_id]) for person in file.persons)
        return self._select(found, 'persons', file.notes)

    def parse_sample(self, info: dict[str, Any]) -> dict[str, Any]:
        """Bring the points into the vocabulary of the samples."""
        if 'keypoints' in info and self.file_vocabulary != self.keypoint_vocabulary:
            source, target = self.file_vocabulary, load_keypoints(self.keypoint_vocabulary or '')
            points, visible = convert_keypoints(
                info['keypoints'], info['keypoints_visible'], source, target, inverse=True
            )
            info.update(keypoints=np.nan_to_num(points), keypoints_visible=visible)
        return info

    def _why_not(self, person: CocoPerson) -> str:
        if person.crowd:
            return 'crowds'
        if not person.labelled and not self.test_mode:
            return 'without labelled keypoints'
        return f'with {person.problem} and without keypoints' if person.bbox is None else ''

    def _person(self, person: CocoPerson, image: CocoImage) -> dict[str, Any]:
        points = person.keypoints
        if points is None:
            points = np.zeros((load_keypoints(self.file_vocabulary).num_keypoints, 3), np.float32)
        return {
            **self._image(image),
            'bbox': as_corners(np.asarray(person.bbox), image.size),
            'file_bbox': np.asarray(person.bbox, np.float32),
            'bbox_score': 1.0,
            'ann_id': person.id,
            'keypoints': points[:, :2].copy(),
            'keypoints_visible': points[:, 2].copy(),
            'area': person.area,
        }

    def _detections(self, file: CocoFile, path: str) -> list[dict[str, Any]]:
        path = self._resolve('', path) if self.data_root else path
        found = read_coco_boxes(path, file, threshold=self.bbox_score_thr)
        entries = (self._detection(file.images[i], box) for i, boxes in found.boxes.items() for box in boxes)
        return self._select(entries, 'boxes', found.notes)

    def _detection(self, image: CocoImage, box: np.ndarray) -> dict[str, Any] | str:
        sides = np.concatenate([box[:2], box[2:4] - box[:2]])
        if problem := box_problem(sides, image.size):
            return f'with {problem}'
        return {**self._image(image), 'bbox': as_corners(sides, image.size), 'bbox_score': float(box[4])}

    def _image(self, image: CocoImage) -> dict[str, Any]:
        entry = {'img_path': self._resolve('img', image.file_name), 'img_id': image.id}
        return entry if image.size is None else {**entry, 'file_size': image.size}
