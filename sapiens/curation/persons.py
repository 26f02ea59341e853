# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Filters by what detectors find: persons and faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ..apis.detectors import Detections, build_detector, find_persons, make_detections
from ..apis.sources import Frame
from ..errors import UserError
from ..registry import CURATION_STAGES, DETECTORS
from ..utils.json_files import read_file
from .stage import Item, Stage, scaled


class Boxes(Stage):
    """Boxes of a detector of `sapiens.apis.detectors` or of any callable like those, 5 numbers each in one list.

    Args:
        detector: See `build_detector`.
        calibration: ``[[raw score, calibrated score], ...]``, rising; between them scores are interpolated. Scores of
            detectors differ: calibrated, a score is the share of such boxes that are right (`fit_calibration`).
    """

    def __init__(
        self, name: str, detector: Any, calibration: Sequence[Sequence[float]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name, **kwargs)
        self.detector, self.calibration = detector, calibration
        self.column = next(iter(self.columns))

    def load(self) -> None:
        """Make the detector."""
        self.find = build_detector(self.detector)

    def score(self, items: list[Item]) -> list[dict[str, Any]]:
        """``x1, y1, x2, y2, score`` in pixels of the whole image, best first."""
        return [{self.column: self._one(item)} for item in items]

    def _one(self, item: Item) -> list[float]:
        found = find_persons(self.find, Frame(item.image, item.name, data=item.data))
        scores = found.scores
        if self.calibration is not None:
            raw, true = np.array(self.calibration, np.float64).T
            scores = np.interp(scores, raw, true)
        return np.concatenate([found.boxes * item.zoom, scores[:, None]], 1).astype(np.float32).reshape(-1).tolist()


def boxes_of(row: Any, column: str, min_score: float, min_side: float = 0, side: str = 'long') -> np.ndarray:
    """Boxes ``(N, 5)`` of a row above both thresholds; ``side`` says which side of a box is meant, long or short."""
    found = np.asarray(row[column], np.float32).reshape(-1, 5)
    sides = found[:, 2:4] - found[:, :2]
    sides = sides.max(1) if side == 'long' else sides.min(1)
    return found[(found[:, 4] > min_score) & (sides > min_side)]


@CURATION_STAGES.register_module()
class Persons(Boxes):
    """Whether somebody is to be seen, and large enough."""

    columns = {'persons': 'floats'}

    def reason(
        self,
        row: Any,
        min_score: float = 0.9,
        min_side: float = 300,
        side: str = 'long',
        min_count: int = 1,
        max_count: int | None = None,
    ) -> str | None:
        """Too few or too many persons.

        Args:
            min_score: What a calibrated score must exceed.
            min_side: What a box must exceed, in pixels.
            side: Which side of it: long or short. The paper does not say.
            min_count: Least number of such boxes.
            max_count: Most boxes above the score, of any size.
        """
        found = boxes_of(row, 'persons', min_score)
        if max_count is not None and len(found) > max_count:
            return 'too many persons'
        if len(found) < min_count:
            return 'no person'
        return 'person too small' if len(boxes_of(row, 'persons', min_score, min_side, side)) < min_count else None


@CURATION_STAGES.register_module()
class Faces(Boxes):
    """How many faces are to be seen; drops nothing unless told to."""

    columns = {'faces': 'floats'}

    def reason(self, row: Any, min_score: float = 0.7, min_count: int = 0, max_count: int | None = None) -> str | None:
        """Too few or too many faces above a score."""
        count = len(boxes_of(row, 'faces', min_score))
        if count < min_count:
            return 'no face'
        return 'too many faces' if max_count is not None and count > max_count else None


@DETECTORS.register_module()
class YuNetDetector:
    """Faces by OpenCV's YuNet (MIT, 233 kB, `opencv/face_detection_yunet` on the hub).

    Args:
        path: Its ONNX file; OpenCV 4 wants the one of 2023mar, OpenCV 5 one made for it.
        threshold: Boxes with a lower score are left out.
        side: Larger images are shrunk to it.

    Raises:
        UserError: No such file, or OpenCV cannot read it.
    """

    def __init__(self, path: str, threshold: float | str = 0.5, side: int | str = 640) -> None:
        read_file(path, 'face model')
        self.side = int(side)
        try:
            self.net = cv2.FaceDetectorYN.create(str(path), '', (32, 32), float(threshold), 0.3, 5000)
        except cv2.error as error:
            raise UserError(f'{path}: OpenCV {cv2.__version__} cannot read this face model ({error.err})') from None

    def __call__(self, frame: Frame) -> Detections:
        """Faces of the image."""
        size = frame.image.shape[:2]
        scale = min(1.0, self.side / max(size))
        small = scaled(frame.image, scale)
        self.net.setInputSize(small.shape[1::-1])
        found = self.net.detect(np.ascontiguousarray(small[..., ::-1]))[1]
        found = np.zeros((0, 15)) if found is None else found
        boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], 1) / scale
        return make_detections(boxes, found[:, 14], size=size)


def fit_calibration(scores: np.ndarray, correct: np.ndarray) -> list[list[float]]:
    """The share of right boxes as a rising function of the raw score (isotonic regression).

    Args:
        scores: ``(N,)`` raw scores of boxes.
        correct: ``(N,)`` whether each is a person (IoU with a labelled one above 0.5, say).

    Returns:
        ``calibration`` of `Boxes`: two points a step.
    """
    order = np.argsort(scores, kind='stable')
    blocks: list[list[float]] = []  # sum, count, first and last score
    for score, right in zip(np.asarray(scores, float)[order], np.asarray(correct, float)[order], strict=True):
        blocks.append([right, 1, score, score])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count, _, last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count, blocks[-1][2], last]
    return [[round(float(edge), 4), round(float(b[0] / b[1]), 4)] for b in blocks for edge in dict.fromkeys(b[2:])]
