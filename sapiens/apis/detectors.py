# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Where the persons are: adapters of detectors, each imported only when it is asked for.

A detector is a callable ``Frame -> Detections``. Register your own::

    @DETECTORS.register_module()
    class MyDetector:
        def __call__(self, frame): return Detections(boxes, scores)

    Inferencer('pose_308', weights='...', detector=dict(type='MyDetector'))
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from ..datasets.transforms.loading import check_size
from ..errors import UserError
from ..registry import DETECTORS
from ..structures.coco_results import read_coco_boxes
from ..structures.geometry import box_iou
from ..utils.json_files import as_numbers
from ..utils.numbers import check_number
from .sources import Frame

SHORT_NAMES = {
    'tiny': 'TinyDetector',
    'whole': 'WholeImage',
    'file': 'BoxFile',
    'torchvision': 'TorchvisionDetector',
    'transformers': 'TransformersDetector',
    'mmdet': 'MMDetDetector',
    'ultralytics': 'UltralyticsDetector',
}


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes ``(N, 4)`` float32 ``x1, y1, x2, y2`` and scores ``(N,)`` float32; ids ``(N,)`` int64 where tracked."""

    boxes: np.ndarray
    scores: np.ndarray
    ids: np.ndarray | None = None


def make_detections(
    boxes: Any, scores: Any, threshold: float = 0.0, size: Sequence[int] | None = None, overlap: float = 1.0
) -> Detections:
    """Boxes and scores of any array kind, above a threshold, cut to the image, best first.

    Boxes that overlap a better one by more than ``overlap`` (intersection over union) are dropped.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    scores = np.asarray(scores, np.float32).reshape(-1)
    if size is not None:
        last = np.array([size[1] - 1, size[0] - 1] * 2, np.float32)
        boxes = np.clip(boxes, 0, last)
    good = (scores >= threshold) & np.isfinite(boxes).all(1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    order = np.flatnonzero(good)[np.argsort(-scores[good], kind='stable')]
    if overlap < 1:
        order = order[suppress(boxes[order], overlap)]
    return Detections(boxes[order], scores[order])


def least_score(threshold: float | str, most: float = 1.0) -> float:
    """The number that a threshold means; with NaN, or 30 for 30 %, a detector would find nobody and say nothing."""
    check_number("a detector's threshold", float(threshold), 0, most)
    return float(threshold)


def as_boxes(boxes: Any) -> np.ndarray | None:
    """``(N, 4)`` float32 of boxes of any array kind; None where they are no rows of four, with a score say."""
    rows = as_numbers(boxes)
    if rows is None or rows.ndim == 0 or (rows.size and rows.shape[-1] != 4):
        return None
    return rows.reshape(-1, 4).astype(np.float32)


def find_persons(detector: Callable[[Frame], Detections], frame: Frame) -> Detections:
    """What a detector, perhaps the user's own, says about an image.

    Raises:
        UserError: It gave something else than boxes.
    """
    found = detector(frame)
    if not isinstance(found, Detections):
        raise UserError(
            f'the detector gave {type(found).__name__} for {frame.path or frame.name}, not Detections(boxes, scores); '
            'for nobody it gives Detections(np.zeros((0, 4)), np.zeros(0))'
        )
    boxes, scores = as_boxes(found.boxes), np.asarray(found.scores, np.float32).reshape(-1)
    if boxes is None:
        raise UserError(f'the detector gave boxes for {frame.path or frame.name} that are no rows of x1, y1, x2, y2')
    if len(scores) != len(boxes) or not np.isfinite(boxes).all():
        raise UserError(
            f'the detector gave {len(boxes)} boxes and {len(scores)} scores for {frame.path or frame.name}'
            + ('' if np.isfinite(boxes).all() else ', some of them not finite')
        )
    return Detections(boxes, scores, found.ids)


def build_detector(spec: Any = None) -> Callable[[Frame], Detections]:
    """Make a detector.

    Args:
        spec: None or ``'whole'``; ``'tiny'``, which ships; ``'file:boxes.json'``; ``'torchvision'``,
            ``'transformers:NAME'``, ``'mmdet:CONFIG,CHECKPOINT'``, ``'ultralytics:FILE'``; a config dict; boxes
            ``(N, 4)``; or a callable.

    Raises:
        UserError: Unknown name, or a package that is not installed.
    """
    if spec is None:
        return WholeImage()
    old = spec.get('type') if isinstance(spec, dict) else spec
    if isinstance(old, str) and (old.partition(':')[0] == 'hog' or old.endswith('HOGDetector')):
        raise UserError(f"the detector '{old}' is gone; use 'tiny', which needs nothing else and finds far more people")
    if isinstance(spec, str):
        name, _, argument = spec.partition(':')
        if name not in SHORT_NAMES:
            raise UserError(f"unknown detector '{name}'; known are {', '.join(SHORT_NAMES)}")
        kind: Any = DETECTORS.get(SHORT_NAMES[name])
        try:
            return kind(*argument.split(',')) if argument else kind()
        except (TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"the detector '{spec}' cannot be made: {error}; see what {kind.__name__} takes") from None
    if isinstance(spec, dict):
        return DETECTORS.build(dict(spec))
    if callable(spec):
        return spec
    return FixedBoxes(spec)


@DETECTORS.register_module()
class WholeImage:
    """One person who fills the image: right for photos of one person, and the default."""

    def __call__(self, frame: Frame) -> Detections:
        """One box around everything."""
        height, width = frame.image.shape[:2]
        return Detections(np.array([[0, 0, width - 1, height - 1]], np.float32), np.ones(1, np.float32))


class FixedBoxes:
    """The same boxes in every image.

    Args:
        boxes: ``(N, 4)`` or ``(4,)``: x1, y1, x2, y2.

    Raises:
        UserError: Not four numbers a box, or an empty box.
    """

    def __init__(self, boxes: Any) -> None:
        known = as_boxes(boxes)
        if known is None:
            raise UserError(f'boxes are x1,y1,x2,y2, not {boxes!r}')
        self.boxes = known
        if not ((self.boxes[:, 2:] > self.boxes[:, :2]).all() and np.isfinite(self.boxes).all()):
            raise UserError(f'a box is x1,y1,x2,y2 with x2 > x1 and y2 > y1, not {self.boxes.tolist()}')

    def __call__(self, frame: Frame) -> Detections:
        """The boxes.

        Raises:
            UserError: One shows nothing of the image.
        """
        if not _in_view(self.boxes, frame).all():
            raise UserError(_unseen(frame))
        return Detections(self.boxes, np.ones(len(self.boxes), np.float32))


@DETECTORS.register_module()
class BoxFile:
    """Boxes from a JSON file.

    Either ``{image name: [[x1, y1, x2, y2(, score)], ...]}``, or COCO annotations, or a COCO result list
    (``image_id``, ``bbox`` as x, y, width, height, ``score``) whose ``image_id`` is the image's name or number. An
    image's boxes are those of the longest matching end of its path; persons are told by the file's own categories.

    Args:
        threshold: Boxes with a lower score are left out.
        category: Name or id of the category that is a person, where the file's names do not tell.

    Raises:
        UserError: No such file, none of these formats, or no telling what is a person or which image is meant.
    """

    def __init__(self, path: str | Path, threshold: float | str = 0.3, category: str | int | None = None) -> None:
        self.path, self._missed = path, False
        self.boxes = read_coco_boxes(path, category=category, threshold=least_score(threshold, math.inf))
        for note in self.boxes.notes:
            print_log(f'{path}: {note}', logger='current', level=logging.WARNING)

    def __call__(self, frame: Frame) -> Detections:
        """Boxes of that image; none, with a warning, when the file does not list it.

        Raises:
            UserError: The image is of another size than the file says.
        """
        # Frames of a video have names of their own; its path is that of the whole.
        key = None if frame.path and frame.time is None else self.boxes.find(frame.name)
        key = self.boxes.find(frame.path) if key is None and frame.path else key
        if key is None:
            if not self._missed:
                note = f'{self.path}: does not list {frame.path or frame.name}, so nobody is looked for there'
                print_log(note, logger='current', level=logging.WARNING)
            self._missed = True
            return make_detections([], [])
        told = self.boxes.sizes.get(key)
        if told:
            height, width = frame.image.shape[:2]
            check_size(told, (height, width), frame.data or b'', str(frame.path or frame.name))
        table = self.boxes.boxes[key]
        seen = _in_view(table, frame)
        if not seen.all():
            print_log(f'{self.path}: {_unseen(frame)}', logger='current', level=logging.WARNING)
        return make_detections(table[seen, :4], table[seen, 4])


def _in_view(boxes: np.ndarray, frame: Frame) -> np.ndarray:
    """Which boxes have two pixels of the image or more: others are in other units, or of another image."""
    height, width = frame.image.shape[:2]
    return (np.minimum(boxes[:, 2:4], [width, height]) - np.maximum(boxes[:, :2], 0) >= min(2, height, width)).all(1)


def _unseen(frame: Frame) -> str:
    height, width = frame.image.shape[:2]
    where = frame.path or frame.name
    return f'a box shows nothing of {where} (width {width}, height {height}); boxes are x1, y1, x2, y2 in pixels'


def suppress(boxes: np.ndarray, overlap: float) -> np.ndarray:
    """Indices of boxes, best first, that overlap no better kept one by more than that intersection over union."""
    kept: list[int] = []
    for i, box in enumerate(boxes):
        if not (box_iou(box, boxes[kept]) > overlap).any():
            kept.append(i)
    return np.array(kept, np.int64)
