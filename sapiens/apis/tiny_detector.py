# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The detector that ships: a small network for whole images, or for windows of several sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..datasets.transforms.topdown import udp_matrix
from ..errors import UserError
from ..models import PersonHead
from ..registry import DETECTORS
from .detectors import Detections, make_detections
from .loading import load_model
from .sources import Frame


@DETECTORS.register_module()
class TinyDetector:
    """Persons by a model with a `PersonHead`; needs nothing but the package.

    The first window holds the whole image; each further level has windows of half the size that overlap, for smaller
    people. What a window's border cuts is left to the other windows.

    Args:
        levels: Sizes of windows; people below about a tenth of the image need 3.
        model: Name or config of the model, see `load_model`.
        weights: Its weights; None = those that ship.
        overlap: Intersection over union above which the worse of two boxes is dropped.
        batch_size: Windows that run together.

    Raises:
        UserError: The model has no such head.
    """

    def __init__(
        self,
        threshold: float | str = 0.2,
        levels: int | str = 1,
        model: str | Path = 'sapiens_tiny_persons',
        weights: str | Path | None = None,
        overlap: float = 0.5,
        batch_size: int = 8,
    ) -> None:
        self.threshold, self.levels, self.overlap = float(threshold), int(levels), overlap
        self.batch_size = batch_size
        loaded = load_model(model, weights)
        self.network: Any = loaded.network.float()
        self.task = next((name for name, head in self.network.heads.items() if isinstance(head, PersonHead)), None)
        if self.task is None:
            raise UserError(f'{loaded.source}: has no head that finds persons; use another detector')
        self.size = tuple(self.network.backbone.img_size)

    @torch.inference_mode()
    def __call__(self, frame: Frame) -> Detections:
        """Look at all windows, keep the best of boxes that overlap."""
        height, width = frame.image.shape[:2]
        views = list(windows((height, width), self.size, self.levels))
        boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
        for start in range(0, len(views), self.batch_size):
            part = views[start : start + self.batch_size]
            crops = [_cut(frame.image, view, self.size) for view in part]
            inputs = self.network.data_preprocessor({'inputs': [torch.from_numpy(c) for c in crops]})['inputs']
            output = self.network.outputs(inputs, flip_test=True, heads=[self.task])[self.task]
            results = self.network.heads[self.task].detect(output, self.threshold)
            for view, (shares, score) in zip(part, results, strict=True):
                found = np.tile(view[:2], 2) + shares.numpy() * np.tile(view[2:], 2)
                whole = uncut(found, view, (height, width))
                boxes.append(found[whole])
                scores.append(score.numpy()[whole])
        size = (height, width)
        return make_detections(np.concatenate(boxes), np.concatenate(scores), self.threshold, size, self.overlap)


def windows(size: tuple[int, int], aspect: tuple[int, int], levels: int) -> list[np.ndarray]:
    """Windows ``x, y, width, height`` of the aspect of ``(H, W)`` that cover an image of ``size`` at every level.

    The first holds the whole image; those of a level are half as large as the level before and overlap by a third.
    """
    height, width = size
    ratio = aspect[1] / aspect[0]
    largest = np.array([max(width, height * ratio), max(height, width / ratio)])
    found = []
    for level in range(levels):
        extent = largest / 2**level
        starts = []
        for length, side in zip(extent, (width, height), strict=True):
            free = side - length
            count = 1 if free <= 0 else 1 + int(np.ceil(free / (length * 2 / 3)))
            starts.append([free / 2] if count == 1 else np.linspace(0, free, count))
        found += [np.array([x, y, *extent]) for y in starts[1] for x in starts[0]]
    return found


def uncut(boxes: np.ndarray, view: np.ndarray, size: tuple[int, int], margin: float = 0.03) -> np.ndarray:
    """``(N,)``: boxes that do not end at a side of the window beyond which the image goes on."""
    near = np.array([view[0], view[1], view[0] + view[2], view[1] + view[3]])
    slack = margin * np.tile(view[2:], 2)
    at_side = np.abs(boxes - near) < slack
    at_side[:, :2] |= boxes[:, :2] < near[:2]
    at_side[:, 2:] |= boxes[:, 2:] > near[2:]
    open_sides = np.array([near[0] > 1, near[1] > 1, near[2] < size[1] - 1, near[3] < size[0] - 1])
    return ~(at_side & open_sides).any(1)


def _cut(image: np.ndarray, view: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A window as the network's input, ``(3, H, W)`` uint8; averaged, not skipped, where it shrinks."""
    factor = max(1, int(min(view[2] / size[1], view[3] / size[0])))
    matrix = udp_matrix(view[:2] + view[2:] / 2, view[2:], size)
    if factor > 1:
        image = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        back = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]])
        matrix = matrix @ back
    cut = cv2.warpAffine(image, matrix[:2], size[::-1], flags=cv2.INTER_LINEAR)
    return np.ascontiguousarray(cut.transpose(2, 0, 1))
