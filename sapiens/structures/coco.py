# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The one reader of COCO-style annotation files, as COCO, COCO-WholeBody and annotation tools write them.

What has an obvious meaning is taken (ids as strings, sizes that are null, points in another order with names) and
counted in `CocoFile.notes`; what has none is an error of one line that names the file and the entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..utils.file_names import PathIndex
from ..utils.json_files import as_numbers, read_json
from ..vocabularies import KeypointVocabulary, load_keypoints
from ..vocabularies.names import keypoint_order

AREA_OF_BOX = 0.53
"""Area of a person whose file gives none, as a share of the box (COCO's tools)."""
BOX_MARGIN = 0.1
"""Share of its longer side by which a box around keypoints is widened on each side: points lie inside of people."""
WHOLEBODY_FIELDS = {'foot': (17, 23), 'face': (23, 91), 'lefthand': (91, 112), 'righthand': (112, 133)}
"""COCO-WholeBody's fields (``foot_kpts``, ``foot_valid``, ...) and where their points lie among the 133."""
PERSON_NAMES = ('person', 'people', 'human', 'pedestrian')
_FAR = 1e6
"""Coordinates beyond this are no pixels."""


class Notes:
    """What a reader dropped or assumed, counted by kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, kind: str, where: Hashable) -> None:
        """Count one case of ``kind``; the first ``where`` is kept as the example."""
        self.counts[kind] += 1
        self.first.setdefault(kind, str(where))

    def __iter__(self) -> Iterator[str]:
        for kind, count in self.counts.items():
            yield f'{kind}: {count} (first: {self.first[kind]})'

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True)
class CocoImage:
    """An image of the file; ``size`` is ``(H, W)`` where the file gives one."""

    id: int | str
    file_name: str
    size: tuple[int, int] | None = None


@dataclass
class CocoPerson:
    """A labelled person.

    Attributes:
        id: Of the annotation.
        image_id: Of its image, a key of `CocoFile.images`.
        bbox: ``(4,)`` float64 x, y, width, height, not cut to the image; around the points where the file's is no box
            in the image; None where there are no points either.
        keypoints: ``(K, 3)`` float32 x, y, v in the vocabulary's order, v = 0 (unlabelled), 1 (hidden) or 2; None when
            the file has none or no vocabulary was asked for.
        area: Square pixels; `AREA_OF_BOX` of the box where the file gives none.
        crowd: Whether it is a crowd, which neither trains nor counts.
        valid: COCO-WholeBody's flags by field, where the file has them; points of invalid fields have v = 0.
        problem: Why the file's box is not used, or ''.
        score: Of a predicted person; 1 where the file gives none.
    """

    id: Hashable
    image_id: int | str
    bbox: np.ndarray | None
    keypoints: np.ndarray | None
    area: float
    crowd: bool = False
    valid: dict[str, bool] = field(default_factory=dict)
    problem: str = ''
    score: float = 1.0

    @property
    def labelled(self) -> bool:
        """Whether a keypoint is labelled."""
        return self.keypoints is not None and bool((self.keypoints[:, 2] > 0).any())

    @property
    def ignored(self) -> bool:
        """Whether it does not count in scores: a crowd, or nobody labelled the points."""
        return self.crowd or not self.labelled


@dataclass
class CocoFile:
    """What a COCO-style file says about persons.

    Attributes:
        path: The file.
        images: By id, in the file's order; also those without persons.
        persons: In the file's order; those of other categories are left out.
        person_ids: Ids of the categories that are persons; None = every annotation is one.
        notes: What was dropped or assumed.
    """

    path: str
    images: dict[int | str, CocoImage]
    persons: list[CocoPerson]
    person_ids: set[str] | None
    notes: Notes

    def __post_init__(self) -> None:
        self._by_key = {id_key(i): i for i in self.images}
        self._index: PathIndex | None = None

    def find_image(self, reference: Any) -> Any:
        """Id of the image that another file calls by its id, its file name or a path; None when there is none.

        Raises:
            UserError: A name that two images have.
        """
        found: Any = self._by_key.get(id_key(reference))
        if found is None and isinstance(reference, str):
            if self._index is None:
                self._index = PathIndex(((i, image.file_name) for i, image in self.images.items()), self.path)
            found = self._index.find(reference)
        return found

    def is_person(self, category_id: Any) -> bool:
        """Whether a category is the persons' one; an annotation without any is."""
        return self.person_ids is None or category_id is None or id_key(category_id) in self.person_ids


def read_coco(
    path: str | Path, vocabulary: str | KeypointVocabulary | None = None, category: str | int | None = None
) -> CocoFile:
    """Read a COCO-style annotation file.

    Args:
        path: JSON with ``images``, ``annotations`` and, best, ``categories``.
        vocabulary: Of the keypoints; None reads boxes only. Points are reordered by the names that the file's
            category gives. With 133 points, COCO-WholeBody's split fields are joined.
        category: Name or id of the category that is a person; None takes the one named person, else those with
            keypoints, else the only one.

    Raises:
        UserError: Anything that is malformed, ambiguous or follows another vocabulary.
    """
    return parse_coco(read_json(path, 'annotation file'), str(path), vocabulary, category)


def parse_coco(
    document: Any, path: str, vocabulary: str | KeypointVocabulary | None = None, category: str | int | None = None
) -> CocoFile:
    """Check what a COCO-style file holds; ``path`` is for messages. See `read_coco`."""
    names = None if vocabulary is None else load_keypoints(vocabulary)
    missing = {'images', 'annotations'} - set(document if isinstance(document, dict) else ())
    if missing:
        raise UserError(f'{path}: lacks {", ".join(sorted(missing))}; give a COCO-style annotation file')
    notes = Notes()
    images = _read_images(objects_of(document, 'images', path, 'every image needs an "id"'), path, notes)
    categories = objects_of(document, 'categories', path, may_lack=True)
    chosen, ids = choose_category(categories, path, category)
    order = None if names is None else read_order(chosen, names, path, notes)
    file = CocoFile(path, images, [], ids, notes)
    for position, annotation in enumerate(objects_of(document, 'annotations', path)):
        if file.is_person(annotation.get('category_id')):
            file.persons.append(_read_person(annotation, position, file, order))
    repeated = Counter(person.id for person in file.persons)
    for identifier, count in repeated.items():
        if count > 1:
            notes.add('annotation ids that are used twice', f'id {identifier}')
    return file


def id_key(value: Any) -> str:
    """What makes ids equal: 7, 7.0 and '7' are."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def choose_category(
    categories: list[dict[str, Any]], path: str, category: str | int | None = None
) -> tuple[list[dict[str, Any]], set[str] | None]:
    """The categories that are persons, and their ids (None: every annotation is a person).

    Args:
        categories: Of the file.
        path: For messages.
        category: Name or id of the one to take; None: by the file's names.

    Raises:
        UserError: No such category, or none that is a person.
    """
    names = ', '.join(f'{c.get("name")!s} ({c.get("id")})' for c in categories[:20])
    if category is not None:
        wanted = str(category).strip().lower()
        chosen = [c for c in categories if wanted in (_name(c), id_key(c.get('id')))]
        if not chosen:
            raise UserError(f"{path}: has no category '{category}'; it has {names or 'no categories'}")
    elif not categories:
        return [], None
    else:
        chosen = [c for c in categories if _name(c) in PERSON_NAMES]
        chosen = chosen or [c for c in categories if isinstance(c.get('keypoints'), list) and c['keypoints']]
        chosen = chosen or (categories if len(categories) == 1 else [])
        if not chosen:
            raise UserError(f"{path}: none of its categories is a person: {names}; choose one with category='NAME'")
    if any(c.get('id') is None for c in chosen):
        if len(categories) > 1:
            raise UserError(f'{path}: category {_name(chosen[0])!r} has no "id"; mend the file')
        return chosen, None
    return chosen, {id_key(c['id']) for c in chosen}


def box_problem(bbox: np.ndarray | None, size: tuple[int, int] | None) -> str:
    """Why x, y, width, height is no box in an image of ``(H, W)``, or ''."""
    if bbox is None:
        return 'no box'
    if not (np.abs(bbox) < _FAR).all():
        return 'a box that is not finite'
    if not (bbox[2:] > 0).all():
        return 'an empty box'
    if (bbox[:2] + bbox[2:] <= 0).any() or (size is not None and (bbox[:2] >= size[::-1]).any()):
        return 'a box outside the image'
    return ''


def read_box(value: Any, where: str) -> np.ndarray | None:
    """``(4,)`` float64 of a ``bbox``; None for null, [] and nothing.

    Raises:
        UserError: Something else than four numbers.
    """
    if value is None or value == []:
        return None
    box = as_numbers(value, 4)
    if box is None:
        raise UserError(f'{where} needs a "bbox" of four numbers x, y, width, height, not {str(value)[:60]}')
    return box


def read_score(value: Any, where: str) -> float:
    """A score.

    Raises:
        UserError: No finite number.
    """
    score = as_numbers(value)
    if score is None or score.ndim or not np.isfinite(score):
        raise UserError(f'{where} has a score {str(value)[:40]!r}, which is no finite number; mend the file')
    return float(score)


def read_keypoints(entry: dict[str, Any], count: int, where: str) -> np.ndarray | None:
    """Keypoints of an annotation or a result as ``(count, 3)`` float64: x, y and the third number as the file has it.

    Args:
        entry: With ``keypoints``, flat or in triplets, and for 133 points perhaps COCO-WholeBody's split fields.
        count: Points that the file must have.
        where: What to call the entry in a message.

    Returns:
        None for null, [] and nothing.

    Raises:
        UserError: Something that is no numbers, or another number of them.
    """
    values = entry.get('keypoints')
    if values is None or values == []:
        return None
    if not isinstance(values, list):
        raise UserError(f'{where} has "keypoints" that are no list of numbers; mend the file')
    points = as_numbers(values)
    if points is None:
        raise UserError(f'{where} has keypoints that are no numbers; mend the file')
    if points.size == 17 * 3 and count == 133 and 'foot_kpts' in entry:
        joined = [points.reshape(-1)]
        for name, (start, end) in WHOLEBODY_FIELDS.items():
            part = as_numbers(entry.get(f'{name}_kpts') or [])
            if part is not None and part.size == 0 and not _flag(entry.get(f'{name}_valid', True), where):
                part = np.zeros(3 * (end - start))
            if part is None or part.size != 3 * (end - start):
                length = 'no numbers' if part is None else f'{part.size / 3:g} points'
                raise UserError(f'{where} has {length} in "{name}_kpts", a field of {end - start}; mend the file')
            joined.append(part.reshape(-1))
        points = np.concatenate(joined)
    if points.size != 3 * count:
        raise UserError(f'{where} has {points.size / 3:g} keypoints, the vocabulary has {count}; '
                        'choose the keypoint_vocabulary of the file')  # fmt: skip
    return points.reshape(count, 3)


def _read_images(entries: list[dict[str, Any]], path: str, notes: Notes) -> dict[int | str, CocoImage]:
    images: dict[int | str, CocoImage] = {}
    known: dict[str, CocoImage] = {}
    for position, entry in enumerate(entries):
        identifier, name = entry.get('id'), entry.get('file_name')
        if isinstance(identifier, float) and identifier.is_integer():
            identifier = int(identifier)
        if not isinstance(identifier, (int, str)) or isinstance(identifier, bool):
            raise UserError(f'{path}: every image needs an "id"; mend the file (entry {position} of "images")')
        if not isinstance(name, str) or not name.strip():
            raise UserError(f'{path}: image {identifier} has no "file_name"; mend the file')
        height, width = (_side(entry.get(side), f'{path}: image {identifier}', side) for side in ('height', 'width'))
        image = CocoImage(identifier, name, (height, width) if height and width else None)
        twin = known.setdefault(id_key(identifier), image)
        if twin is not image:
            if twin.file_name != name:
                raise UserError(f"{path}: image id {identifier} is used for '{twin.file_name}' and for '{name}'; give "
                                'each image its own id (and its persons the same)')  # fmt: skip
            notes.add('images that are listed twice', name)
            continue
        images[identifier] = image
    return images


def _side(value: Any, where: str, side: str) -> int | None:
    """Height or width in pixels; None where it is not known (null, nothing, 0)."""
    if value is None or value == '' or value == 0:
        return None
    number = as_numbers(value)
    if number is None or number.ndim or not np.isfinite(number) or isinstance(value, bool) or not 0 <= number < _FAR:
        raise UserError(f'{where} has {side} {str(value)[:40]!r}, not a number of pixels; mend the file')
    return int(number) or None


def read_order(
    chosen: list[dict[str, Any]], vocabulary: KeypointVocabulary, path: str, notes: Notes
) -> tuple[np.ndarray | None, int]:
    """Where each point of the vocabulary stands in the file (None: in its own place), and how many the file has."""
    count = vocabulary.num_keypoints
    lists = [c['keypoints'] for c in chosen if isinstance(c.get('keypoints'), list) and c['keypoints']]
    names = [str(name) for name in lists[0]] if lists else []
    where = f"{path}: category '{_name(chosen[0])}'" if chosen else path
    if any([str(name) for name in other] != names for other in lists):
        raise UserError(f"{path}: its categories of persons have different keypoints; choose one with category='NAME'")
    if not names:
        return None, count
    if len(names) == 17 and count == 133:
        # COCO-WholeBody names only the points of the body.
        body = keypoint_order(names, _first(vocabulary, 17), where)
        order = None if body is None else np.concatenate([body, np.arange(17, 133)])
        listed = count
    else:
        order, listed = keypoint_order(names, vocabulary, where), len(names)
    if order is not None:
        what = 'reordered' if listed == count else f'taken from the {listed} of the file'
        notes.add(f"lists of keypoints {what} by name to match '{vocabulary.name}'", where.removeprefix(f'{path}: '))
    return order, listed


def _first(vocabulary: KeypointVocabulary, count: int) -> KeypointVocabulary:
    short = dict(vars(vocabulary), names=vocabulary.names[:count])
    return KeypointVocabulary(**short)


def _read_person(
    annotation: dict[str, Any],
    position: int,
    file: CocoFile,
    order: tuple[np.ndarray | None, int] | None,
) -> CocoPerson:
    identifier = annotation.get('id')
    if identifier is None or not isinstance(identifier, Hashable):
        identifier = position
    name, notes = f'annotation {identifier}', file.notes
    where = f'{file.path}: {name}'
    if annotation.get('image_id') is None:
        raise UserError(f'{where} has no "image_id"; mend the file')
    image_id = file._by_key.get(id_key(annotation['image_id']))
    if image_id is None:
        raise UserError(f'{where} belongs to image {annotation["image_id"]}, which is not listed')
    crowd = _flag(annotation.get('iscrowd'), where)
    valid = {n: _flag(annotation[f'{n}_valid'], where) for n in WHOLEBODY_FIELDS if f'{n}_valid' in annotation}
    keypoints = None
    if order is not None:
        keypoints = read_keypoints(annotation, order[1], where)
        if keypoints is not None:
            keypoints = clean_keypoints(keypoints if order[0] is None else keypoints[order[0]], valid, notes, name)
    size = file.images[image_id].size
    bbox = read_box(annotation.get('bbox'), where)
    problem = box_problem(bbox, size)
    if problem:
        around = box_around(keypoints)
        bbox = None if box_problem(around, size) else around
        what = 'without one are dropped' if bbox is None else 'get the box around their keypoints'
        notes.add(f'persons with {problem} {what}', name)
    given = as_numbers(annotation.get('area'))
    if given is not None and not given.ndim and 0 < given < _FAR**2:
        area = float(given)
    else:
        area = 0.0 if bbox is None else float(bbox[2:].prod()) * AREA_OF_BOX
        notes.add(f'persons without an area, taken as {AREA_OF_BOX} of the box', name)
    score = read_score(annotation.get('score', 1.0), where)
    return CocoPerson(identifier, image_id, bbox, keypoints, area, crowd, valid, problem, score)


def clean_keypoints(points: np.ndarray, valid: dict[str, bool], notes: Notes, where: Hashable) -> np.ndarray:
    """``(K, 3)`` float32 with v of 0, 1 or 2; points that are no numbers or invalid are not labelled."""
    labelled = points[:, 2] > 0
    broken = labelled & ~(np.abs(points[:, :2]) < _FAR).all(-1)
    if broken.any():
        notes.add('persons with keypoints that are not finite, taken as unlabelled', where)
    # Some tools write confidences for v: anything above 0 is labelled.
    points[:, 2] = np.where(labelled & ~broken, np.where(points[:, 2] > 1, 2, 1), 0)
    if len(points) == 133:
        for name, (start, end) in WHOLEBODY_FIELDS.items():
            if not valid.get(name, True):
                points[start:end, 2] = 0
    points[~(np.abs(points[:, :2]) < _FAR).all(-1), :2] = 0
    return points.astype(np.float32)


def box_around(keypoints: np.ndarray | None) -> np.ndarray | None:
    """Box x, y, width, height around the labelled points; None without two."""
    seen = np.zeros((0, 2)) if keypoints is None else keypoints[keypoints[:, 2] > 0, :2].astype(np.float64)
    if len(seen) < 2:
        return None
    low, high = seen.min(0), seen.max(0)
    margin = BOX_MARGIN * (high - low).max()
    return np.concatenate([low - margin, high - low + 2 * margin])


def objects_of(
    document: dict[str, Any], key: str, path: str, what: str | None = None, may_lack: bool = False
) -> list[dict[str, Any]]:
    """The list of objects under a key; null and nothing are an empty one where the file may lack it.

    Raises:
        UserError: Something else.
    """
    entries = document.get(key)
    if entries is None and may_lack:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        problem = what or f'"{key}" is no list of {{...}}'
        raise UserError(f'{path}: {problem}; mend the file')
    return entries


def _flag(value: Any, where: str) -> bool:
    """A flag as tools write it: 0, 1, true, "0", null."""
    text = str(value).strip().lower()
    if text in ('0', 'false', 'none', '', '0.0', 'no'):
        return False
    if text in ('1', 'true', '1.0', 'yes'):
        return True
    raise UserError(f'{where} has a flag (iscrowd or ..._valid) {str(value)[:40]!r}, which is neither 0 nor 1')


def _name(category: dict[str, Any]) -> str:
    return str(category.get('name')).strip().lower()


def as_corners(bbox: np.ndarray, size: Iterable[int] | None = None) -> np.ndarray:
    """x, y, width, height -> ``x1, y1, x2, y2`` float32, cut to an image of ``(H, W)``."""
    corners = np.concatenate([bbox[:2], bbox[:2] + bbox[2:]])
    if size is not None:
        height, width = size
        corners = np.clip(corners, 0, [width, height, width, height])
    return corners.astype(np.float32)
