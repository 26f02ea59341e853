# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The detector that ships: a small network for whole images, whose boxes the model of all tasks corrects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..datasets.transforms.topdown import fit_aspect, udp_matrix
from ..errors import UserError
from ..models import PartHead, PersonHead, PoseHead
from ..registry import DETECTORS
from ..structures.geometry import box_iou, share_inside
from ..utils.numbers import check_number
from .detectors import Detections, least_score, make_detections
from .loading import load_model
from .sources import Frame

THRESHOLD = 0.33
CANDIDATES = 0.15
"""Least score of a box that a model of body parts looks at."""
TOWARDS_REGION = 0.25
"""How much of the way to the region of a person around it a box goes: the network knows better where people end."""
DOUBT_OF_SMALL = 0.1
"""Power of a box's side, as a share of the image's, in its score: the larger of two as sure is right more often."""
INSIDE, DOUBT_OF_INSIDE = 0.8, 0.85
"""Share of a box within a better one from which it rather is a part of that person; its score is times the second."""


@DETECTORS.register_module()
class TinyDetector:
    """Persons by a model with a `PersonHead`; needs nothing but the package.

    The first window holds the whole image; each further level has windows of half the size that overlap, for smaller
    people. What a window's border cuts is left to the other windows. Then a model of body parts looks at each box: what
    it sees there of a person moves the box, and joins boxes that mean the same person. A box that fits the person seen
    counts more than one that would have to move, one with points of a body that the model is sure of more than one
    without, a large one more than a small one, and one within a better box less.

    Args:
        threshold: Least score of a person: the geometric mean of what the network says, of how sure `refine` is of the
            person's region and of the body's points, and of how well the box fits the region, a little less for small
            boxes and for those within others; without `refine`, the first.
        levels: Sizes of windows; people below about a tenth of the image need 3.
        model: Name or config of the model, see `load_model`.
        weights: Its weights; None = those that ship.
        overlap: Intersection over union above which the worse of two boxes is dropped.
        batch_size: Windows, or boxes, that run together.
        refine: Name or config of a model with a `PartHead`, and best a `PoseHead`, that corrects the boxes; None leaves
            them.

    Raises:
        UserError: A model has no such head.
    """

    def __init__(
        self,
        threshold: float | str = THRESHOLD,
        levels: int | str = 1,
        model: str | Path = 'sapiens_tiny_persons',
        weights: str | Path | None = None,
        overlap: float = 0.5,
        batch_size: int = 8,
        refine: str | Path | None = 'tiny',
    ) -> None:
        self.threshold, self.levels, self.overlap = least_score(threshold), int(levels), overlap
        check_number('levels of the detector', self.levels, 1, whole=True)
        self.batch_size = batch_size
        self.network, self.size, tasks = _load(model, weights, {PersonHead: 'finds persons'})
        self.task = tasks[PersonHead]
        self.judge = None if refine is None else _load(refine, None, {PartHead: 'sees body parts', PoseHead: None})

    @torch.inference_mode()
    def __call__(self, frame: Frame) -> Detections:
        """Look at all windows, keep the best of boxes that overlap."""
        height, width = frame.image.shape[:2]
        # What a person is worth is only known after the look at its parts.
        least = self.threshold if self.judge is None else min(self.threshold, CANDIDATES)
        views = list(windows((height, width), self.size, self.levels))
        boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
        head = self.network.heads[self.task]
        for part, outputs in self._look(frame.image, views, self.network, self.size, [self.task], flip_test=True):
            for view, (shares, score) in zip(part, head.detect(outputs[self.task], least), strict=True):
                pixels = _in_image(view, shares.numpy())
                whole = uncut(pixels, view, (height, width))
                boxes.append(pixels[whole])
                scores.append(score.numpy()[whole])
        size = (height, width)
        found = make_detections(np.concatenate(boxes), np.concatenate(scores), least, size, self.overlap)
        if self.judge is None or not len(found.boxes):
            return found
        proposed = found.boxes.astype(np.float64)
        refined = self._refine(frame.image, proposed)
        regions = refined[:, :4]
        worth = (found.scores * refined[:, 4] * box_iou(proposed, regions)) ** (1 / 4)
        area = (proposed[:, 2:] - proposed[:, :2]).prod(1) / (height * width)
        worth *= np.sqrt(area) ** DOUBT_OF_SMALL
        moved = proposed + TOWARDS_REGION * (regions - proposed)
        better = worth[:, None] < worth
        worth[(better & (share_inside(moved[:, None], moved) > INSIDE)).any(1)] *= DOUBT_OF_INSIDE
        return make_detections(moved, worth, self.threshold, size, self.overlap)

    def _refine(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """``(N, 5)``: the box of the largest region of a person around each box, and its worth.

        That is the mean probability of a person in the region, times the root of the share of its box that it fills,
        times the mean score of the body's points.
        """
        assert self.judge is not None
        network, shape, tasks = self.judge
        seg, pose = tasks[PartHead], tasks.get(PoseHead)
        extents = [1.25 * fit_aspect(box[2:] - box[:2], shape) for box in boxes]
        views = [np.array([*((b[:2] + b[2:]) / 2 - e / 2), *e]) for b, e in zip(boxes, extents, strict=True)]
        refined = []
        for part, outputs in self._look(image, views, network, shape, [task for task in (seg, pose) if task]):
            # Of a `PartHead` that decides about persons first, this is the probability of all parts together.
            people = (outputs[seg][:, 1:].amax(1) - outputs[seg][:, 0]).sigmoid().numpy()
            sure = body_score(network.heads[pose], outputs[pose]) if pose else np.ones(len(part))
            for view, person, score in zip(part, people, sure, strict=True):
                _, regions, facts, _ = cv2.connectedComponentsWithStats((person > 0.5).astype(np.uint8))
                facts[0, cv2.CC_STAT_AREA] = 0  # the background
                largest = facts[:, cv2.CC_STAT_AREA].argmax()
                x, y, w, h, area = facts[largest]
                worth = 0.0
                if area > 0.03 * person.size:
                    worth = score * person[regions == largest].mean() * np.sqrt(area / (w * h))
                share = np.array([x, y, x + w, y + h]) / np.tile(person.shape[::-1], 2)
                refined.append([*_in_image(view, share), worth])
        return np.array(refined)

    def _look(
        self,
        image: np.ndarray,
        views: list[np.ndarray],
        network: Any,
        size: tuple[int, int],
        heads: list[str],
        **options: Any,
    ) -> Iterator[tuple[list[np.ndarray], dict[str, torch.Tensor]]]:
        """Windows, some at a time, with what a network's heads put out for them."""
        for start in range(0, len(views), self.batch_size):
            part = views[start : start + self.batch_size]
            crops = [torch.from_numpy(_cut(image, view, size)) for view in part]
            inputs = network.data_preprocessor({'inputs': crops})['inputs']
            yield part, network.outputs(inputs, heads=heads, **options)


def _load(
    model: str | Path, weights: str | Path | None, purposes: dict[type, str | None]
) -> tuple[Any, tuple[int, int], dict[type, str]]:
    """A network, its input's size ``(H, W)``, and its heads by kind; one of each kind with a purpose must be there."""
    loaded = load_model(model, weights)
    network: Any = loaded.network.float()
    heads = getattr(network, 'heads', {})  # of pretraining there are none
    tasks = {kind: name for kind in purposes for name, head in heads.items() if isinstance(head, kind)}
    for kind, purpose in purposes.items():
        if purpose and kind not in tasks:
            raise UserError(f'{loaded.source}: has no head that {purpose}; use another detector')
    network.test_cfg.pop('scales', None)  # boxes need no second scale
    return network, tuple(network.backbone.img_size), tasks


def body_score(head: Any, heatmaps: torch.Tensor) -> np.ndarray:
    """``(N,)``: mean over the body's points of the peaks of a `PoseHead`'s heatmaps ``(N, K, h, w)``, from 0 to 1."""
    peaks = heatmaps.flatten(2).amax(2).clamp(0, 1)
    return peaks[:, head.vocabulary.groups.get('body', slice(None))].mean(1).numpy()


def _in_image(view: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """``(..., 4)`` boxes as shares of a window -> in pixels of the image."""
    return np.tile(view[:2], 2) + shares * np.tile(view[2:], 2)


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
        fy, fx = (factor if side >= factor else 1 for side in image.shape[:2])  # of a line nothing would be left
        image = cv2.resize(image, None, fx=1 / fx, fy=1 / fy, interpolation=cv2.INTER_AREA)
        back = np.array([[fx, 0, (fx - 1) / 2], [0, fy, (fy - 1) / 2], [0, 0, 1]])
        matrix = matrix @ back
    cut = cv2.warpAffine(image, matrix[:2], size[::-1], flags=cv2.INTER_LINEAR)
    return np.ascontiguousarray(cut.transpose(2, 0, 1))
