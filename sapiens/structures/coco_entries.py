# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The entries of COCO-style files: boxes, keypoints, scores, flags; what is none of them is an error of one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import numpy as np

from ..errors import UserError
from ..utils.json_files import as_numbers

AREA_OF_BOX = 0.53
"""Area of a person whose file gives none, as a share of the box (COCO's tools)."""
BOX_MARGIN = 0.1
"""Share of its longer side by which a box around keypoints is widened on each side: points lie inside of people."""
WHOLEBODY_FIELDS = {'foot': (17, 23), 'face': (23, 91), 'lefthand': (91, 112), 'righthand': (112, 133)}
"""COCO-WholeBody's fields (``foot_kpts``, ``foot_valid``, ...) and where their points lie among the 133."""
FAR = 1e6
"""Coordinates beyond this are no pixels."""


def id_key(value: Any) -> str:
    """What makes ids equal: 7, 7.0 and '7' are."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


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


def box_problem(bbox: np.ndarray | None, size: tuple[int, int] | None) -> str:
    """Why x, y, width, height is no box in an image of ``(H, W)``, or ''."""
    if bbox is None:
        return 'no box'
    if not (np.abs(bbox) < FAR).all():
        return 'a box that is not finite'
    if not (bbox[2:] > 0).all():
        return 'an empty box'
    if (bbox[:2] + bbox[2:] <= 0).any() or (size is not None and (bbox[:2] >= size[::-1]).any()):
        return 'a box outside the image'
    return ''


def box_around(keypoints: np.ndarray | None) -> np.ndarray | None:
    """Box x, y, width, height around the labelled points; None without two."""
    seen = np.zeros((0, 2)) if keypoints is None else keypoints[keypoints[:, 2] > 0, :2].astype(np.float64)
    if len(seen) < 2:
        return None
    low, high = seen.min(0), seen.max(0)
    margin = BOX_MARGIN * (high - low).max()
    return np.concatenate([low - margin, high - low + 2 * margin])


def usable_box(
    bbox: np.ndarray | None, keypoints: np.ndarray | None, size: tuple[int, int] | None, notes: Notes, where: Hashable
) -> tuple[np.ndarray | None, str]:
    """A person's box, else one around the keypoints, which is noted; and what is wrong with the box, or ''."""
    problem = box_problem(bbox, size)
    if problem:
        bbox = box_around(keypoints)
        bbox = None if box_problem(bbox, size) else bbox
        what = 'and without keypoints are dropped' if bbox is None else 'get the box around their keypoints'
        notes.add(f'persons with {problem} {what}', where)
    return bbox, problem


def as_corners(bbox: np.ndarray, size: Iterable[int] | None = None) -> np.ndarray:
    """x, y, width, height -> ``x1, y1, x2, y2`` float32, cut to an image of ``(H, W)``."""
    corners = np.concatenate([bbox[:2], bbox[:2] + bbox[2:]])
    if size is not None:
        height, width = size
        corners = np.clip(corners, 0, [width, height, width, height])
    return corners.astype(np.float32)


def read_score(value: Any, where: str) -> float:
    """A score.

    Raises:
        UserError: No finite number.
    """
    score = as_numbers(value)
    if score is None or score.ndim or not np.isfinite(score):
        raise UserError(f'{where} has a score {str(value)[:40]!r}, which is no finite number; mend the file')
    return float(score)


def read_flag(value: Any, where: str) -> bool:
    """A flag as tools write it: 0, 1, true, "0", null."""
    text = str(value).strip().lower()
    if text in ('0', 'false', 'none', '', '0.0', 'no'):
        return False
    if text in ('1', 'true', '1.0', 'yes'):
        return True
    raise UserError(f'{where} has a flag (iscrowd or ..._valid) {str(value)[:40]!r}, which is neither 0 nor 1')


def read_keypoints(entry: dict[str, Any], count: int, where: str) -> np.ndarray | None:
    """Keypoints of an annotation or a result as ``(count, 3)`` float64: x, y and the third number as the file has it.

    Args:
        entry: With ``keypoints``, flat or in triplets, and for 133 points perhaps COCO-WholeBody's split fields.
        count: Points that the file must have.

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
            if part is not None and part.size == 0 and not read_flag(entry.get(f'{name}_valid', True), where):
                part = np.zeros(3 * (end - start))
            if part is None or part.size != 3 * (end - start):
                length = 'no numbers' if part is None else f'{part.size / 3:g} points'
                raise UserError(f'{where} has {length} in "{name}_kpts", a field of {end - start}; mend the file')
            joined.append(part.reshape(-1))
        points = np.concatenate(joined)
    if points.size == 2 * count:
        raise UserError(
            f'{where} has x and y of {count} keypoints alone; write x, y, v of each (v: 0 unlabelled, 2 seen)'
        )
    if points.size != 3 * count:
        raise UserError(f'{where} has {points.size / 3:g} keypoints, the vocabulary has {count}; '
                        'choose the keypoint_vocabulary of the file')  # fmt: skip
    return points.reshape(count, 3)


def clean_keypoints(points: np.ndarray, valid: dict[str, bool], notes: Notes, where: Hashable) -> np.ndarray:
    """``(K, 3)`` float32 with v of 0, 1 or 2; points that are no numbers, absent or invalid are not labelled."""
    # Tools that write one v for all points of a person put those that are absent there.
    absent = (points[:, 2] > 0) & (points[:, :2] == 0).all(1)
    if absent.any():
        notes.add('persons with keypoints at exactly (0, 0), taken as unlabelled', where)
    labelled = (points[:, 2] > 0) & ~absent
    near = (np.abs(points[:, 0]) < FAR) & (np.abs(points[:, 1]) < FAR)
    if (labelled & ~near).any():
        notes.add('persons with keypoints that are not finite, taken as unlabelled', where)
    # Some tools write confidences for v: anything above 0 is labelled.
    points[:, 2] = np.where(labelled & near, np.where(points[:, 2] > 1, 2, 1), 0)
    if len(points) == 133:
        for name, (start, end) in WHOLEBODY_FIELDS.items():
            if not valid.get(name, True):
                points[start:end, 2] = 0
    points[~near, :2] = 0
    return points.astype(np.float32)
