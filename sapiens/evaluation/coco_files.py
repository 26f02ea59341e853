# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read persons and detections from COCO and COCO-WholeBody files as they are published, for any vocabulary."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..vocabularies import KeypointVocabulary

# COCO-WholeBody stores its points after the 17 of the body in these fields, in the order of the vocabulary.
WHOLEBODY_FIELDS = ('keypoints', 'foot_kpts', 'face_kpts', 'lefthand_kpts', 'righthand_kpts')
# Area of a person whose file gives none, as a share of the box (COCO's tools).
AREA_OF_BOX = 0.53


@dataclass
class Person:
    """A labelled person: ``(K, 3)`` keypoints (x, y, visibility), box x, y, width, height, area in square pixels."""

    id: Hashable
    keypoints: np.ndarray
    bbox: np.ndarray
    area: float
    crowd: bool = False


@dataclass
class Detection:
    """A predicted person.

    Attributes:
        image_id: Of its image.
        keypoints: ``(K, 2)`` pixels of the original image.
        keypoint_scores: ``(K,)``.
        score: Of the whole person.
        bbox: x, y, width, height, where the detection's area (for M and L) is that of its box; None where it is that
            of the extent of its body points. COCO's tools go by whether a result file has boxes: those of 17 points
            usually have, those of COCO-WholeBody have not.
        person_box: The box it was found in, for the suppression of duplicates.
        part_scores: Scores of single parts by name.
        ann_id: The labelled person whose box it was found in, when it was one.
    """

    image_id: Hashable
    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    score: float
    bbox: np.ndarray | None = None
    person_box: np.ndarray | None = None
    part_scores: dict[str, float] = field(default_factory=dict)
    ann_id: Hashable = None


def person_score(keypoint_scores: np.ndarray, box_score: float, mode: str, threshold: float) -> float:
    """Score of a person: ``'bbox'``, ``'keypoint'`` (mean) or ``'bbox_keypoint'`` (box x mean of those above)."""
    if mode == 'bbox':
        return box_score
    if mode == 'keypoint':
        return float(keypoint_scores.mean())
    above = keypoint_scores[keypoint_scores > threshold]
    return box_score * (float(above.mean()) if len(above) else 0.0)


def box_gives_area(vocabulary: KeypointVocabulary) -> bool:
    """Whether results of a vocabulary carry boxes in COCO's manner: those that have a body only."""
    return len(vocabulary.groups) == 1


@dataclass
class PersonSet:
    """Labelled persons by image; ``images`` holds every image of the file, also those without persons."""

    images: dict[Hashable, dict]
    persons: dict[Hashable, list[Person]]
    source: str

    @property
    def image_ids(self) -> list:
        """Ids in ascending order."""
        return sorted(self.images, key=_order)

    def check_ids(self, ids: Iterable[Hashable], what: str) -> None:
        """Every id must be one of these images.

        Raises:
            UserError: Some are not; the message names a few.
        """
        unknown = sorted({i for i in ids if i not in self.images}, key=_order)
        if unknown:
            known = ', '.join(str(i) for i in self.image_ids[:3])
            raise UserError(
                f'{what}: {len(unknown)} image ids are not in {self.source} (first: '
                f'{", ".join(repr(i) for i in unknown[:3])}; the file has {known}, ...); '
                'predictions and annotations must be of the same images'
            )


def _order(identifier: Hashable) -> tuple:
    return (isinstance(identifier, str), identifier)


def read_persons(path: str | Path, vocabulary: KeypointVocabulary) -> PersonSet:
    """Read a COCO-style annotation file whose keypoints follow a vocabulary.

    Args:
        path: JSON file with ``images`` and ``annotations``.
        vocabulary: Of the file's points; COCO-WholeBody's split fields are joined when it asks for 133 points.

    Raises:
        UserError: Unreadable file, wrong number of keypoints, or no labelled person at all.
    """
    document = _read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get('annotations'), list):
        raise UserError(f"{path}: not a COCO annotation file; it needs 'images' and 'annotations'")
    try:
        images = {image['id']: image for image in document.get('images', [])}
    except (TypeError, KeyError):
        raise UserError(f"{path}: every entry of 'images' needs an 'id'") from None
    persons: dict[Hashable, list[Person]] = {i: [] for i in images}
    for position, annotation in enumerate(document['annotations']):
        name = f'{path}: annotation {annotation.get("id", position) if isinstance(annotation, dict) else position}'
        if not isinstance(annotation, dict) or 'image_id' not in annotation:
            raise UserError(f"{name} has no 'image_id'")
        if 'keypoints' not in annotation:
            continue
        if annotation['image_id'] not in images:
            raise UserError(f"{name} is of image {annotation['image_id']!r}, which is not among the file's images")
        keypoints = _points(annotation, vocabulary, name)
        if 'bbox' not in annotation:
            raise UserError(f"{name} has no 'bbox'")
        bbox = np.array(annotation['bbox'], np.float64)
        area = annotation.get('area', bbox[2] * bbox[3] * AREA_OF_BOX)
        persons[annotation['image_id']].append(
            Person(annotation.get('id', position), keypoints, bbox, float(area), bool(annotation.get('iscrowd', 0)))
        )
    if not any((p.keypoints[:, 2] > 0).any() for people in persons.values() for p in people):
        raise UserError(f'{path}: no person has a labelled keypoint; nothing can be evaluated against this file')
    return PersonSet(images, persons, str(path))


def read_detections(path: str | Path, vocabulary: KeypointVocabulary) -> list[Detection]:
    """Read a COCO result file: a list of ``{image_id, keypoints, score, ...}``, best with ``bbox`` and ``ann_id``.

    The third number of a keypoint is its score. Scores of parts (``foot_score``, ...) are kept.

    Raises:
        UserError: Unreadable file, missing keys, wrong number of keypoints, or numbers that are not finite.
    """
    document = _read_json(path)
    if isinstance(document, dict) and isinstance(document.get('annotations'), list):
        document = document['annotations']
    if not isinstance(document, list):
        raise UserError(f'{path}: not a COCO result file; it must be a list of persons')
    detections = []
    for position, entry in enumerate(document):
        name = f'{path}: result {position}'
        if not isinstance(entry, dict) or not {'image_id', 'keypoints', 'score'} <= set(entry):
            raise UserError(f"{name} needs 'image_id', 'keypoints' and 'score'")
        points = _points(entry, vocabulary, name)
        if not np.isfinite(points[:, :2]).all() or not np.isfinite(float(entry['score'])):
            raise UserError(f'{name} (image {entry["image_id"]!r}) has numbers that are not finite')
        parts = {
            key[: -len('_score')]: float(value)
            for key, value in entry.items()
            if key.endswith('_score') and key != 'bbox_score' and isinstance(value, (int, float))
        }
        detections.append(
            Detection(
                entry['image_id'],
                points[:, :2],
                points[:, 2],
                float(entry['score']),
                np.array(entry['bbox'], np.float64) if entry.get('bbox') else None,
                np.array(entry['person_box'], np.float64) if entry.get('person_box') else None,
                parts,
                entry.get('ann_id'),
            )
        )
    return detections


def _points(entry: dict, vocabulary: KeypointVocabulary, name: str) -> np.ndarray:
    flat = list(entry['keypoints'])
    count = vocabulary.num_keypoints
    if len(flat) != count * 3 and all(key in entry for key in WHOLEBODY_FIELDS):
        joined = [number for key in WHOLEBODY_FIELDS for number in entry[key]]
        flat = joined if len(joined) == count * 3 else flat
    if len(flat) != count * 3:
        raise UserError(
            f"{name} has {len(flat)} keypoint numbers, but vocabulary '{vocabulary.name}' has {count} keypoints "
            f'({count * 3} numbers); give the vocabulary that the file follows'
        )
    try:
        return np.array(flat, np.float64).reshape(count, 3)
    except (TypeError, ValueError):
        raise UserError(f'{name} has keypoints that are not numbers') from None


def _read_json(path: str | Path) -> object:
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise UserError(f'{path}: no such file') from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: not valid JSON ({error})') from None
