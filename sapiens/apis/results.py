# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What inference returns: typed objects in the frame and resolution of the original image.

Coordinates are pixels with the centre of the first pixel at (0, 0), x to the right, y down; boxes are
``x1, y1, x2, y2``. A result equals itself alone: arrays have no single answer to ``==``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..errors import UserError
from ..structures.geometry import NORMAL_AXES, OUR_AXES
from ..vocabularies import KeypointVocabulary, PartVocabulary, convert_keypoints, load_keypoints

TASKS = ('pose', 'seg', 'depth', 'normal')


class _Short:
    """Arrays are told by their shapes: a result may hold hundreds of megabytes."""

    def __repr__(self) -> str:
        told = []
        for item in fields(cast(Any, self)):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                if value.size > 4:
                    value = f'{value.dtype} {value.shape}'
                else:  # as Python's numbers: float32 has no 38.1
                    value = np.array(value.tolist()).round(1).tolist()
            elif isinstance(value, dict):
                value = {key: getattr(entry, 'shape', entry) for key, entry in value.items()}
            elif item.name == 'vocabulary':
                value = value.name
            if value is not None and value is not False and value != {}:
                told.append(f'{item.name}={value}')
        return f'{type(self).__name__}({", ".join(told)})'


def _index(name: str, vocabulary: KeypointVocabulary | PartVocabulary, kind: str) -> int:
    if name not in vocabulary.names:
        raise KeyError(f"'{name}' is not a {kind} of '{vocabulary.name}'")
    return vocabulary.names.index(name)


@dataclass(frozen=True, repr=False, eq=False)
class PersonKeypoints(_Short):
    """Keypoints of one person.

    Attributes:
        xy: ``(K, 2)`` float32 pixels; NaN where a conversion has no such point.
        scores: ``(K,)`` float32 in [0, 1].
        box: ``(4,)`` float32, the box that the person was looked for in.
        box_score: Of the detector; 1 without one.
        instance_id: Number of the person in the image, or the track in a video.
    """

    xy: np.ndarray
    scores: np.ndarray
    box: np.ndarray
    box_score: float
    instance_id: int
    vocabulary: KeypointVocabulary

    def __getitem__(self, name: str) -> tuple[float, float, float]:
        """``x, y, score`` of a keypoint by name."""
        i = _index(name, self.vocabulary, 'keypoint')
        return float(self.xy[i, 0]), float(self.xy[i, 1]), float(self.scores[i])

    def as_dict(self) -> dict[str, tuple[float, float, float]]:
        """Name -> ``(x, y, score)``."""
        return {name: self[name] for name in self.vocabulary.names}


@dataclass(frozen=True, repr=False, eq=False)
class KeypointSet(_Short):
    """Keypoints of all N persons of an image.

    Attributes:
        xy: ``(N, K, 2)`` float32 pixels.
        scores: ``(N, K)`` float32 in [0, 1].
        boxes: ``(N, 4)`` float32.
        box_scores: ``(N,)`` float32.
        instance_ids: ``(N,)`` int64.
    """

    xy: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    box_scores: np.ndarray
    instance_ids: np.ndarray
    vocabulary: KeypointVocabulary

    def __len__(self) -> int:
        return len(self.xy)

    def __iter__(self) -> Iterator[PersonKeypoints]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> PersonKeypoints:
        return PersonKeypoints(
            self.xy[i],
            self.scores[i],
            self.boxes[i],
            float(self.box_scores[i]),
            int(self.instance_ids[i]),
            self.vocabulary,
        )

    def to(self, vocabulary: str | KeypointVocabulary) -> KeypointSet:
        """The same persons in another vocabulary, e.g. ``'coco17'``, ``'wholebody133'`` or ``'openpose25'``.

        Raises:
            VocabularyError: No map leads there.
        """
        target = load_keypoints(vocabulary)
        xy, scores = convert_keypoints(self.xy, self.scores, self.vocabulary, target)
        return KeypointSet(xy, scores, self.boxes, self.box_scores, self.instance_ids, target)


@dataclass(frozen=True, repr=False, eq=False)
class PartMap(_Short):
    """Body parts.

    Attributes:
        ids: ``(H, W)`` uint8, index into ``vocabulary.names``; 0 = background.
        scores: ``(H, W)`` float32 probability of the chosen class, when asked for (``part_scores=True``).
    """

    ids: np.ndarray
    vocabulary: PartVocabulary
    scores: np.ndarray | None = None

    @property
    def mask(self) -> np.ndarray:
        """``(H, W)`` bool, true on people."""
        return self.ids > 0

    def of(self, name: str) -> np.ndarray:
        """``(H, W)`` bool mask of the part of that name."""
        return self.ids == _index(name, self.vocabulary, 'part')


@dataclass(frozen=True, repr=False, eq=False)
class DepthMap(_Short):
    """Relative depth.

    Attributes:
        data: ``(H, W)`` float32, larger = farther, known up to scale and shift; NaN where invalid.
        valid: ``(H, W)`` bool: on people where a mask is known, else wherever the model looked.
        mask_source: ``'given'``, ``'parts'`` (a part model ran) or ``'none'`` (values off the person mean nothing).
    """

    data: np.ndarray
    valid: np.ndarray
    mask_source: str

    @property
    def range(self) -> tuple[float | None, float | None]:
        """The nearest and the farthest valid depth; None where nothing is valid."""
        if not self.valid.any():
            return None, None
        near = np.min(self.data, where=self.valid, initial=np.inf)
        far = np.max(self.data, where=self.valid, initial=-np.inf)
        return float(near), float(far)

    def to_normals(self, relief: float | None = None) -> NormalMap:
        """Normals of the depth as a surface seen from far away (orthographic), as in the paper's Fig. 8.

        Args:
            relief: Extent in pixels from the nearest to the farthest valid point, since relative depth has no scale;
                by default half the width of the valid region.
        """
        return depth_to_normals(self.data, self.valid, relief, self.mask_source)


@dataclass(frozen=True, repr=False, eq=False)
class NormalMap(_Short):
    """Surface normals.

    Attributes:
        data: ``(H, W, 3)`` float32 unit vectors; (0, 0, 0) where invalid.
        valid: ``(H, W)`` bool.
        mask_source: As in `DepthMap`.
        axes: Key of `NORMAL_AXES`.
    """

    data: np.ndarray
    valid: np.ndarray
    mask_source: str
    axes: str = OUR_AXES

    def to(self, axes: str) -> NormalMap:
        """The same normals in other axes: ``'opencv'`` is x right, y down, z away from the viewer."""
        for name in (self.axes, axes):
            if name not in NORMAL_AXES:
                raise UserError(f"unknown axes '{name}' of normals; known are {', '.join(map(repr, NORMAL_AXES))}")
        if axes == self.axes:
            return self
        signs = np.array(NORMAL_AXES[axes], np.float32) * np.array(NORMAL_AXES[self.axes], np.float32)
        return NormalMap(self.data * signs + 0.0, self.valid, self.mask_source, axes)

    def __call__(self, to: str = OUR_AXES) -> np.ndarray:
        """``(H, W, 3)`` in the axes asked for."""
        return self.to(to).data


def depth_to_normals(
    depth: np.ndarray, valid: np.ndarray, relief: float | None = None, mask_source: str = 'none'
) -> NormalMap:
    """Normals of an orthographic surface from depth that is known up to scale and shift.

    Args:
        depth: ``(H, W)``, larger = farther.
        valid: ``(H, W)`` bool.
        relief: See `DepthMap.to_normals`.

    Returns:
        Normals x right, y up, z towards the viewer; valid where both neighbours along a row and a column are.
    """
    depth = np.asarray(depth, np.float64)
    valid = np.asarray(valid, bool) & np.isfinite(depth)
    normals = np.zeros((*depth.shape, 3), np.float32)
    if valid.any():
        if relief is None:
            columns = np.flatnonzero(valid.any(0))
            relief = (columns[-1] - columns[0] + 1) / 2
        span = np.ptp(depth[valid])
        surface = np.where(valid, depth, 0) * (relief / span if span > 0 else 0.0)
        inner = valid.copy()
        inner[:, 1:-1] &= valid[:, :-2] & valid[:, 2:]
        inner[1:-1] &= valid[:-2] & valid[2:]
        inner[[0, -1]] = inner[:, [0, -1]] = False
        valid = inner
        down, right = np.gradient(surface) if min(depth.shape) > 1 else (np.zeros_like(depth),) * 2
        # A surface that recedes to the right faces right; rows grow downwards, y upwards.
        raw = np.stack([right, -down, np.ones_like(depth)], -1)
        normals = (raw / np.linalg.norm(raw, axis=-1, keepdims=True) * valid[..., None]).astype(np.float32)
    return NormalMap(normals, valid, mask_source)


@dataclass(frozen=True, repr=False, eq=False)
class Features(_Short):
    """Features of the encoder for one image.

    Attributes:
        layers: Layer -> ``(C, h, w)`` float32 map, or ``(C,)`` when pooled.
        cls: ``(C,)`` cls token of the last layer asked for; None without one.
    """

    name: str
    layers: dict[int, np.ndarray]
    cls: np.ndarray | None = None


@dataclass(repr=False, eq=False)
class ImageResult(_Short):
    """Everything about one image.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB, the original.
        name: Short name without suffix, used for files; ``path`` is the file it came from, if any.
        index: Position in the source; the frame number of a video.
        time: Seconds since the beginning of a video, else None.
        boxes, box_scores, instance_ids: Persons: ``(N, 4)`` float32, ``(N,)`` float32, ``(N,)`` int64.
        keypoints, parts, depth, normals: Results of the tasks that ran, else None.
        others: Maps ``(..., H, W)`` of heads of your own: ``pred_matte`` as ``'matte'``.
        origins: Task -> where its published weights are from, and their licence; other weights are left out.
        searched: Whether persons were looked for; without, each image was taken as a whole.
        tracked: Whether ``instance_ids`` are a tracker's, -1 where it is not sure yet; else they count the persons.
    """

    image: np.ndarray
    name: str
    path: Path | None = None
    index: int = 0
    time: float | None = None
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    box_scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    instance_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    keypoints: KeypointSet | None = None
    parts: PartMap | None = None
    depth: DepthMap | None = None
    normals: NormalMap | None = None
    others: dict[str, np.ndarray] = field(default_factory=dict)
    origins: dict[str, dict[str, str]] = field(default_factory=dict)
    searched: bool = False
    tracked: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)``."""
        height, width = self.image.shape[:2]
        return height, width

    def depth_to_normals(self, relief: float | None = None) -> NormalMap:
        """See `DepthMap.to_normals`.

        Raises:
            UserError: No depth was predicted.
        """
        if self.depth is None:
            raise UserError(f'{self.name}: has no depth; run a depth model')
        return self.depth.to_normals(relief)

    def draw(self, task: str | None = None, threshold: float = 0.3) -> np.ndarray:
        """Picture of the results as ``(H, W', 3)`` uint8 RGB.

        Args:
            task: ``'pose'``, ``'seg'``, ``'depth'`` or ``'normal'``; None puts all that ran side by side.
            threshold: Keypoints with a lower score are left out.
        """
        from .saving import draw_result

        return draw_result(self, task, threshold)

    def save(self, folder: str | Path, **options: Any) -> list[Path]:
        """Write JSON (also in COCO's result format), PNG maps and pictures; see `sapiens.apis.saving.save_result`."""
        from .saving import save_result

        return save_result(self, folder, **options)
