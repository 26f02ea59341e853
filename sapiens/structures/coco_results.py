# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Files of predictions in COCO's manner: boxes of a detector, and keypoint results."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..utils.file_names import PathIndex
from ..utils.json_files import as_numbers, read_json
from ..vocabularies import KeypointVocabulary, load_keypoints
from .coco import CocoFile, choose_category, parse_coco, read_order
from .coco_entries import Notes, as_corners, box_problem, id_key, objects_of, read_box, read_keypoints, read_score


@dataclass
class CocoBoxes:
    """Boxes by image.

    Attributes:
        boxes: Name or id of an image -> ``(N, 5)`` float32 x1, y1, x2, y2, score.
        sizes: ``(H, W)`` of the images, where the file gives them.
    """

    path: str
    boxes: dict[Any, np.ndarray]
    names: dict[Hashable, str]
    sizes: dict[Hashable, tuple[int, int] | None]
    notes: Notes

    def __post_init__(self) -> None:
        self._index = PathIndex(((key, self.names.get(key, str(key))) for key in self.boxes), self.path)

    def find(self, path: str | Path) -> Any:
        """Key of an image, found by the longest matching end of its path; None when it is not listed.

        Raises:
            UserError: Several entries may be meant, or one entry may mean several images.
        """
        return self._index.find(str(path))


@dataclass
class CocoResult:
    """A predicted person.

    Attributes:
        image_id: Of its image, as the annotation file has it.
        keypoints: ``(K, 2)`` float64 pixels of the original image.
        keypoint_scores: ``(K,)``.
        bbox: x, y, width, height, or None.
        person_box: The box it was found in, x, y, width, height, or None.
        part_scores: Scores of single parts by name (``foot_score``, ...).
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


def read_coco_boxes(
    path: str | Path, coco: CocoFile | None = None, category: str | int | None = None, threshold: float = 0.0
) -> CocoBoxes:
    """Read boxes of persons.

    Args:
        path: COCO annotations; a result list ``[{image_id, bbox, score, category_id}, ...]`` whose ``image_id`` is an
            id, a name or a path; or ``{image name: [[x1, y1, x2, y2(, score)], ...]}``.
        coco: The annotation file whose images the boxes are of; the keys of the result are then its ids.
        category: Name or id of the category that is a person; None goes by the file's own names, or ``coco``'s.
        threshold: Boxes with a lower score are left out.

    Raises:
        UserError: None of these formats, an image that ``coco`` does not have, or no telling what is a person.
    """
    path, notes = str(path), Notes()
    document = read_json(path, 'file of boxes')
    names: dict[Hashable, str] = {}
    sizes: dict[Hashable, tuple[int, int] | None] = {}
    rows: dict[Hashable, list[list[float]]] = {}

    def add(image: Hashable, corners: np.ndarray, score: float) -> None:
        if score >= threshold:
            rows.setdefault(image, []).append([*corners.tolist(), score])
        else:
            notes.add(f'boxes with a score below {threshold:g}, left out', f'image {image}')

    if isinstance(document, dict) and 'annotations' in document:
        file = parse_coco(document, path, category=category)
        names, notes = {i: image.file_name for i, image in file.images.items()}, file.notes
        sizes = {i: image.size for i, image in file.images.items()}
        rows = {i: [] for i in file.images}
        for person in file.persons:
            if person.bbox is not None and not person.crowd:
                add(person.image_id, as_corners(person.bbox), person.score)
    elif isinstance(document, dict):
        for name, boxes in document.items():
            boxes = [] if boxes is None else boxes
            table = [as_numbers(box, -1) for box in boxes] if isinstance(boxes, list) else [None]
            good = [row for row in table if row is not None and len(row) in (4, 5)]
            if len(good) < len(table):
                raise UserError(f"{path}: '{name}' has no list of boxes [x1, y1, x2, y2, score]; a file of boxes is "
                                'that by image name, COCO annotations or COCO results')  # fmt: skip
            rows[name] = []
            for row in good:
                score = float(row[4]) if len(row) == 5 else 1.0
                if box_problem(np.concatenate([row[:2], row[2:4] - row[:2]]), None) or not np.isfinite(score):
                    notes.add('boxes that are empty or not finite', name)
                else:
                    add(name, row[:4], score)
    else:
        for where, entry in _persons(document, path, coco, notes, category, ('image_id', 'bbox')):
            bbox = read_box(entry['bbox'], where)
            if bbox is None or box_problem(bbox, None):
                notes.add('boxes that are empty or not finite', where.removeprefix(f'{path}: '))
            else:
                score = read_score(entry.get('score', 1.0), where)
                add(_image(entry['image_id'], coco, {}, where), as_corners(bbox), score)
    if coco is not None and isinstance(document, dict):
        rows = {_image(names.get(key, key), coco, {}, f'{path}: an image'): boxes for key, boxes in rows.items()}
    tables = {k: np.array(v, np.float32).reshape(-1, 5) for k, v in rows.items()}
    return CocoBoxes(path, tables, names, sizes, notes)


def describe_person(
    image_id: Hashable, keypoints: np.ndarray, keypoint_scores: np.ndarray, score: float, box: np.ndarray | None = None
) -> dict[str, Any]:
    """A predicted person as an entry of a COCO result file, which `read_coco_results` reads.

    Args:
        image_id: Id or name of the image.
        keypoints: ``(K, 2)`` pixels of the image.
        keypoint_scores: ``(K,)``.
        box: x1, y1, x2, y2.
    """
    points = np.concatenate([keypoints, np.reshape(keypoint_scores, (-1, 1))], 1, dtype=np.float64)
    entry = {'image_id': image_id, 'category_id': 1, 'keypoints': points.reshape(-1).tolist(), 'score': float(score)}
    if box is not None:
        x1, y1, x2, y2 = (float(value) for value in box)
        entry['bbox'] = [x1, y1, x2 - x1, y2 - y1]
    return entry


def read_coco_results(
    path: str | Path,
    vocabulary: str | KeypointVocabulary,
    coco: CocoFile | None = None,
    category: str | int | None = None,
) -> tuple[list[CocoResult], Notes]:
    """Read keypoint results ``[{image_id, keypoints, score, ...}, ...]``, best with ``bbox`` and ``ann_id``.

    Args:
        path: The list, or an annotation file with scores.
        vocabulary: Of the points; a file with categories is reordered by their names.
        coco: The annotation file whose images they are of: ``image_id`` may be its id or a file name.
        category: Name or id of the category that is a person; None goes by the file's own names, or ``coco``'s.

    Raises:
        UserError: Another format, numbers that are not finite, an image that ``coco`` does not have.
    """
    path, notes, known = str(path), Notes(), load_keypoints(vocabulary)
    document = read_json(path, 'result file')
    names: dict[str, str] = {}
    order, count = None, known.num_keypoints
    if isinstance(document, dict) and 'annotations' in document:
        images = objects_of(document, 'images', path, may_lack=True)
        names = {id_key(image.get('id')): str(image.get('file_name')) for image in images}
        chosen, _ = choose_category(objects_of(document, 'categories', path, may_lack=True), path, category)
        order, count = read_order(chosen, known, path, notes)
        document = document['annotations']
    results = []
    for where, entry in _persons(document, path, coco, notes, category, ('image_id', 'keypoints', 'score')):
        points = read_keypoints(entry, count, where)
        if points is None or not np.isfinite(points[:, :2]).all():
            raise UserError(f'{where} (image {entry["image_id"]!r}) has keypoints that are missing or not finite')
        points = points if order is None else points[order]
        boxes = (read_box(entry.get(key), where) for key in ('bbox', 'person_box'))
        bbox, person_box = (None if box is None or not np.isfinite(box).all() else box for box in boxes)
        parts = {
            key.removesuffix('_score'): read_score(value, where)
            for key, value in entry.items()
            if key.endswith('_score') and key != 'bbox_score' and isinstance(value, (int, float))
        }
        score = read_score(entry['score'], where)
        image_id, ann_id = _image(entry['image_id'], coco, names, where), entry.get('ann_id')
        ann_id = ann_id if isinstance(ann_id, Hashable) else None
        results.append(CocoResult(image_id, points[:, :2], points[:, 2], score, bbox, person_box, parts, ann_id))
    return results, notes


def _persons(
    document: Any, path: str, coco: CocoFile | None, notes: Notes, category: str | int | None, needed: tuple[str, ...]
) -> list[tuple[str, dict[str, Any]]]:
    """The entries of a result list that are persons, with what to call each."""
    if not isinstance(document, list):
        raise UserError(f'{path}: a result file is a list of {{{", ".join(needed)}}}, not a {type(document).__name__}')
    entries = [(f'{path}: result {position}', entry) for position, entry in enumerate(document)]
    for where, entry in entries:
        absent = set(needed) - set(entry if isinstance(entry, dict) else ())
        if absent:
            raise UserError(f'{where} lacks {", ".join(sorted(absent))}; mend the file')
    ids = {id_key(entry['category_id']) for _, entry in entries if entry.get('category_id') is not None}
    if category is not None and coco is None:
        wanted = {id_key(category)}
    elif coco is not None and coco.person_ids is not None:
        wanted = coco.person_ids
    else:
        wanted = {'1'}
    if not ids & wanted:
        if len(ids) > 1:
            raise UserError(f'{path}: has categories {", ".join(sorted(ids))}, none of which is known to be a person; '
                            'choose one with category=ID')  # fmt: skip
        wanted = ids
    kept = []
    for where, entry in entries:
        if entry.get('category_id') is None or id_key(entry['category_id']) in wanted:
            kept.append((where, entry))
        else:
            notes.add('results of other categories, left out', where.removeprefix(f'{path}: '))
    return kept


def _image(reference: Any, coco: CocoFile | None, names: dict[str, str], where: str) -> Hashable:
    """The annotation file's id of an image, by its id, its name in the result file or a path."""
    if not isinstance(reference, (int, float, str)) or isinstance(reference, bool):
        raise UserError(f'{where} has image_id {str(reference)[:40]!r}, which is neither a number nor a name')
    if coco is None:
        return names.get(id_key(reference), id_key(reference) if isinstance(reference, float) else reference)
    name = names.get(id_key(reference))
    found = coco.find_image(reference if name is None else name)
    if found is None:
        known = ', '.join(repr(i) for i in list(coco.images)[:3])
        raise UserError(f'{where} belongs to image {reference!r}, which {coco.path} does not list (it has {known}, '
                        '...); predictions and annotations must be of the same images')  # fmt: skip
    return found
