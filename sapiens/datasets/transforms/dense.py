# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Geometry of whole images: mirror, resize, crop, pad, rotate, and all at once in one warp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ...errors import UserError
from ...registry import TRANSFORMS
from ...structures.geometry import resize_matrix
from ..label_files import people_of
from .base import SizedTransform, Transform, accept
from .fields import IGNORE, Sample, as_matrix, cut_sample, flip_sample, translation, warp_points, warp_sample

# The last two are mmcv's words.
_INTERPOLATION = {'linear': cv2.INTER_LINEAR, 'area': cv2.INTER_AREA, 'cubic': cv2.INTER_CUBIC,
                  'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC}  # fmt: skip


@TRANSFORMS.register_module()
@accept(flip_ratio=('prob',))
@dataclass(eq=False)
class RandomFlip(Transform):
    """Mirror left to right: pixels, points and vectors move, left and right parts and points exchange names.

    Cheapest behind the warp or crop to the input's size.

    Args:
        direction: Only ``'horizontal'``, as configs of OpenMMLab have it: people stand upright.
    """

    prob: float = 0.5
    direction: str = 'horizontal'

    def __post_init__(self) -> None:
        if self.direction not in ('horizontal', ['horizontal']):
            raise UserError(f"RandomFlip: direction is 'horizontal', not {self.direction!r}")

    def transform(self, results: Sample) -> Sample:
        """Mirror with the given probability."""
        return flip_sample(results) if np.random.rand() < self.prob else results


@TRANSFORMS.register_module()
@dataclass(eq=False)
class Resize(SizedTransform):
    """Resize to ``(H, W)``.

    Args:
        keep_ratio: Keep the aspect: the result is the largest that fits into ``input_size`` (see `Pad`).
        interpolation: Of the image: ``'linear'``, ``'area'`` (best when shrinking a lot) or ``'cubic'``.
        depth_scale_compensation: See `warp_sample`.
        scale: mmcv's word for the size, (W, H); with ``keep_ratio`` its longer side is that of the image, however it
            lies. ``RandomResize`` and ``RandomChoiceResize`` set it each time.
    """

    keep_ratio: bool = False
    interpolation: str = 'linear'
    depth_scale_compensation: bool = False
    scale: Any = None

    def __post_init__(self) -> None:
        _flag(self.interpolation)

    def transform(self, results: Sample) -> Sample:
        """Resize every field."""
        height, width = results['img_shape']
        size = self.size if not self.scale else (self.scale[1], self.scale[0])
        if self.keep_ratio:
            if self.scale and (size[0] > size[1]) != (height > width):
                size = size[::-1]
            size = fit_inside((height, width), size)
        return resize_sample(results, size, self.interpolation, self.depth_scale_compensation)


@TRANSFORMS.register_module()
@dataclass(eq=False)
class Pad(SizedTransform):
    """Pad to at least ``(H, W)``, with the image in the middle or in the upper left corner.

    Args:
        center: Whether the image goes to the middle.
        pad_img, pad_part: Values outside.
    """

    center: bool = True
    pad_img: int | tuple[int, int, int] = 0
    pad_part: int = IGNORE

    def transform(self, results: Sample) -> Sample:
        """Pad every field; an image that is large enough stays as it is."""
        height, width = (max(0, a - b) for a, b in zip(self.size, results['img_shape'], strict=True))
        if not height and not width:
            return results
        top, left = (height // 2, width // 2) if self.center else (0, 0)
        size = (results['img_shape'][0] + height, results['img_shape'][1] + width)
        return cut_sample(results, -left, -top, size, self.pad_img, self.pad_part)


@TRANSFORMS.register_module()
@accept(crop_size=('input_size', tuple), cat_max_ratio=('max_share', float))
@dataclass(eq=False)
class RandomCrop(SizedTransform):
    """Cut out a window of ``(H, W)``, or of the whole side where the image is smaller.

    Args:
        max_share: Draw again (up to 10 times) while one part id covers more than this share of the window's labelled
            pixels, so that windows of nothing but background stay rare.
    """

    max_share: float = 1.0

    def transform(self, results: Sample) -> Sample:
        """Crop every field."""
        height, width = results['img_shape']
        size = (min(self.size[0], height), min(self.size[1], width))
        for _ in range(10):
            y = np.random.randint(height - size[0] + 1)
            x = np.random.randint(width - size[1] + 1)
            if self.max_share >= 1 or 'part_map' not in results:
                break
            window = results['part_map'][y : y + size[0], x : x + size[1]]
            counts = np.bincount(window.ravel(), minlength=256)[:IGNORE]
            if (counts > 0).sum() > 1 and counts.max() < self.max_share * counts.sum():
                break
        return cut_sample(results, x, y, size)


@TRANSFORMS.register_module()
@accept(degree=('degrees',), pad_val=('pad_img',), seg_pad_val=('pad_part',))
@dataclass(eq=False)
class RandomRotate(Transform):
    """Turn the image around its centre, clockwise for positive angles; the size stays.

    Args:
        degrees: Range of the angle; one number means ``(-degrees, degrees)``.
        pad_img, pad_part: Values outside.
    """

    degrees: float | Sequence[float] = 20.0
    prob: float = 0.5
    pad_img: int | tuple[int, int, int] = 0
    pad_part: int = IGNORE

    def transform(self, results: Sample) -> Sample:
        """Rotate every field with the given probability."""
        if np.random.rand() >= self.prob:
            return results
        low, high = self.degrees if isinstance(self.degrees, Sequence) else (-self.degrees, self.degrees)
        matrix = rotation_matrix(results['img_shape'], np.random.uniform(low, high))
        return warp_sample(results, matrix, results['img_shape'], self.pad_img, self.pad_part)


@TRANSFORMS.register_module()
@dataclass(eq=False)
class RandomAffine(SizedTransform):
    """Scale, rotate, shift and crop to the network's input in one warp, so that pixels are interpolated once.

    The image is first fitted into ``input_size`` (stretched, or with its aspect kept), then zoomed. Zooming in goes,
    with ``focus_prob``, to a random pixel of a person, else to the image's middle.

    Args:
        scale: Range of the zoom beyond fitting (log-uniform).
        rotate: Largest angle in degrees, and
        rotate_prob: its probability.
        shift: Largest shift as a share of the input's.
        keep_ratio: Keep the image's aspect when fitting.
        focus_prob: Probability of zooming at a person (needs ``mask`` or ``part_map``).
        pad_img, pad_part: Values outside the image.
        depth_scale_compensation: See `warp_sample`.
    """

    scale: tuple[float, float] = (0.75, 2.0)
    rotate: float = 20.0
    rotate_prob: float = 0.5
    shift: float = 0.1
    keep_ratio: bool = False
    focus_prob: float = 0.5
    pad_img: int | tuple[int, int, int] = 0
    pad_part: int = IGNORE
    depth_scale_compensation: bool = False

    def transform(self, results: Sample) -> Sample:
        """Warp every field."""
        shape = results['img_shape']
        size = self.size
        inner = fit_inside(shape, size) if self.keep_ratio else size
        fit = resize_matrix(shape, inner)
        zoom = float(np.exp(np.random.uniform(*np.log(self.scale))))
        angle = np.random.uniform(-self.rotate, self.rotate) if np.random.rand() < self.rotate_prob else 0.0
        # Zooming in goes to a person; zooming out keeps the whole image in view.
        focus = self._focus(results) if zoom > 1 else (np.array(shape[::-1]) - 1) / 2
        offset = np.random.uniform(-self.shift, self.shift, 2) * size[::-1]
        target = (np.array(size[::-1]) - 1) / 2 + offset
        turn = rotation_matrix(size, angle, zoom, np.zeros(2))
        matrix = translation(*target) @ turn @ translation(*-warp_points(focus, fit).astype(np.float64)) @ fit
        return warp_sample(results, matrix, size, self.pad_img, self.pad_part, self.depth_scale_compensation)

    def _focus(self, results: Sample) -> np.ndarray:
        """A random pixel of a person, or the middle."""
        height, width = results['img_shape']
        people = results.get('mask')
        if people is None and 'part_map' in results:
            people = people_of(results['part_map'])
        if np.random.rand() < self.focus_prob and people is not None:
            # A coarse grid is enough and spares listing millions of pixels.
            step = max(1, min(height, width) // 64)
            found = np.flatnonzero(people[::step, ::step])
            if found.size:
                y, x = divmod(int(np.random.choice(found)), -(-width // step))
                return np.array([x * step, y * step], np.float64)
        return np.array([(width - 1) / 2, (height - 1) / 2])


@TRANSFORMS.register_module()
@dataclass(eq=False)
class RandomResizedCrop(SizedTransform):
    """Cut out a window of random area and aspect and resize it (pretraining).

    Args:
        area: Range of the window's share of the image.
        aspect: Range of the window's aspect relative to that of the input.
        interpolation: As in `Resize`; shrinking always averages.
    """

    area: tuple[float, float] = (0.2, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = 'cubic'

    def __post_init__(self) -> None:
        _flag(self.interpolation)

    def transform(self, results: Sample) -> Sample:
        """Crop and resize every field."""
        height, width = results['img_shape']
        size = self.size
        for _ in range(10):
            area = np.random.uniform(*self.area) * height * width
            aspect = np.exp(np.random.uniform(*np.log(self.aspect))) * size[1] / size[0]
            w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                break
        else:
            h, w = fit_inside(size, (height, width))
        y, x = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
        cut_sample(results, x, y, (h, w))
        shrinks = h > size[0] and w > size[1]
        return resize_sample(results, size, 'area' if shrinks else self.interpolation)


def _flag(interpolation: str) -> int:
    if interpolation not in _INTERPOLATION:
        raise UserError(f"interpolation '{interpolation}' is none of {', '.join(map(repr, _INTERPOLATION))}")
    return _INTERPOLATION[interpolation]


def resize_sample(
    results: Sample, size: tuple[int, int], interpolation: str = 'linear', depth_scale_compensation: bool = False
) -> Sample:
    """Resize every field to ``(H, W)``; borders meet borders."""
    source = tuple(results['img_shape'])
    if source == (size[0], size[1]):
        return results
    image = results.pop('img', None)
    warp_sample(results, resize_matrix(source, size), size, depth_scale_compensation=depth_scale_compensation)
    if image is not None:
        # cv2.resize repeats the border where a warp would blend with the colour outside.
        results['img'] = cv2.resize(image, (size[1], size[0]), interpolation=_flag(interpolation))
    return results


def fit_inside(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The largest ``(H, W)`` with the aspect of ``shape`` that fits into ``size``."""
    factor = min(size[0] / shape[0], size[1] / shape[1])
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def rotation_matrix(
    shape: tuple[int, int], degrees: float, zoom: float = 1.0, center: np.ndarray | None = None
) -> np.ndarray:
    """``(3, 3)``: turn clockwise by degrees and zoom, around a point (the middle of ``(H, W)`` by default)."""
    x, y = ((shape[1] - 1) / 2, (shape[0] - 1) / 2) if center is None else map(float, center)
    return as_matrix(cv2.getRotationMatrix2D((x, y), -degrees, zoom))
