# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The one reader of COCO-style annotation files, as COCO, COCO-WholeBody and annotation tools write them.

What has an obvious meaning is taken (ids as strings, sizes that are null, points in another order with names) and
counted in `CocoFile.notes`; what has none is an error of one line that names the file and the entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..utils.file_names import PathIndex
from ..utils.json_files import as_numbers, read_json
from ..vocabularies import KeypointVocabulary, load_keypoints
from ..vocabularies.names import keypoint_order
from .coco_entries import (
    AREA_OF_BOX,
    FAR,
    WHOLEBODY_FIELDS,
    Notes,
    clean_keypoints,
    id_key,
    objects_of,
    read_box,
    read_flag,
    read_keypoints,
    read_score,
    usable_box,
)

PERSON_NAMES = ('person', 'people', 'human', 'pedestrian')


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
        images: By id, in the file's order; also those without persons.
        persons: In the file's order; those of other categories are left out.
        person_ids: Ids of the categories that are persons; None = every annotation is one.
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
        category_id = annotation.get('category_id')
        if ids is None or category_id is None or id_key(category_id) in ids:
            file.persons.append(_read_person(annotation, position, file, order))
        else:
            notes.add('annotations of other categories, left out', f'category {category_id}')
    labels: set[int] = set()
    for person in file.persons:
        if person.keypoints is not None and person.labelled:
            label = hash((person.image_id, person.keypoints.tobytes()))
            if label in labels:
                notes.add('persons with the same keypoints as another of their image', f'annotation {person.id}')
            labels.add(label)
    for identifier, count in Counter(person.id for person in file.persons).items():
        if count > 1:
            notes.add('annotation ids that are used twice', f'id {identifier}')
    return file


def choose_category(
    categories: list[dict[str, Any]], path: str, category: str | int | None = None
) -> tuple[list[dict[str, Any]], set[str] | None]:
    """The categories that are persons, and their ids (None: every annotation is a person).

    Args:
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


def _read_images(entries: list[dict[str, Any]], path: str, notes: Notes) -> dict[int | str, CocoImage]:
    images: dict[int | str, CocoImage] = {}
    known: dict[str, CocoImage] = {}
    named: dict[str, CocoImage] = {}
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
        if named.setdefault(name, image) is not image:
            notes.add('images that are listed under two ids', f"'{name}', ids {named[name].id} and {identifier}")
        images[identifier] = image
    return images


def _side(value: Any, where: str, side: str) -> int | None:
    """Height or width in pixels; None where it is not known (null, nothing, 0)."""
    if value is None or value == '' or value == 0:
        return None
    number = as_numbers(value)
    if number is None or number.ndim or not np.isfinite(number) or isinstance(value, bool) or not 0 <= number < FAR:
        raise UserError(f'{where} has {side} {str(value)[:40]!r}, not a number of pixels; mend the file')
    return int(number) or None


def read_order(
    chosen: list[dict[str, Any]], vocabulary: KeypointVocabulary, path: str, notes: Notes
) -> tuple[np.ndarray | None, int]:
    """Where each point of the vocabulary stands in the file (None: in its own place), and how many the file has."""
    count = vocabulary.num_keypoints
    lists = [c['keypoints'] for c in chosen if c.get('keypoints')]
    if not all(isinstance(names, list) for names in lists):
        raise UserError(f'{path}: the "keypoints" of a category are no list of names; mend the file')
    names = [str(name) for name in lists[0]] if lists else []
    where = f"{path}: category '{_name(chosen[0])}'" if chosen else path
    if any([str(name) for name in other] != names for other in lists):
        raise UserError(f"{path}: its categories of persons have different keypoints; choose one with category='NAME'")
    if not names:
        notes.add(f"files that do not name their keypoints, taken in the order of '{vocabulary.name}'", path)
        return None, count
    if len(names) == 17 and count == 133:
        # COCO-WholeBody names only the points of the body.
        body = keypoint_order(names, replace(vocabulary, names=vocabulary.names[:17]), where)
        order = None if body is None else np.concatenate([body, np.arange(17, 133)])
        listed = count
    else:
        order, listed = keypoint_order(names, vocabulary, where), len(names)
    if order is not None:
        what = 'reordered' if listed == count else f'taken from the {listed} of the file'
        notes.add(f"lists of keypoints {what} by name to match '{vocabulary.name}'", where.removeprefix(f'{path}: '))
    return order, listed


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
    crowd = read_flag(annotation.get('iscrowd'), where)
    valid = {n: read_flag(annotation[f'{n}_valid'], where) for n in WHOLEBODY_FIELDS if f'{n}_valid' in annotation}
    keypoints = None if order is None else read_keypoints(annotation, order[1], where)
    if order is not None and keypoints is not None:
        keypoints = clean_keypoints(keypoints if order[0] is None else keypoints[order[0]], valid, notes, name)
    size = file.images[image_id].size
    points = None if keypoints is not None else as_numbers(annotation.get('keypoints') or [])
    # Without a vocabulary any number of points tells where the person is.
    points = keypoints if points is None or points.size % 3 else points.reshape(-1, 3)
    bbox, problem = usable_box(read_box(annotation.get('bbox'), where), points, size, notes, name)
    given = as_numbers(annotation.get('area'))
    if given is not None and not given.ndim and 0 < given < FAR**2:
        area = float(given)
    else:
        area = 0.0 if bbox is None else float(bbox[2:].prod()) * AREA_OF_BOX
        if order is not None:  # of boxes alone nobody asks the area
            notes.add(f'persons without an area, taken as {AREA_OF_BOX} of the box', name)
    score = read_score(annotation.get('score', 1.0), where)
    return CocoPerson(identifier, image_id, bbox, keypoints, area, crowd, valid, problem, score)


def _name(category: dict[str, Any]) -> str:
    return str(category.get('name')).strip().lower()
