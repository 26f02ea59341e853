# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From a person's box to the network's input: box -> centre and scale -> augmentation -> one UDP warp.

The box transforms need no pixels, so they come *before* `LoadImage`, which then knows the crop and can decode less.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ...registry import TRANSFORMS
from .base import SizedTransform, Transform, accept
from .fields import IGNORE, Sample, as_matrix, vocabulary_of, warp_sample

_LOWER = re.compile(r'hip|knee|ankle|foot|toe|heel', re.IGNORECASE)


@TRANSFORMS.register_module(name=['PersonBox', 'GetBBoxCenterScale'])
@dataclass(eq=False)
class PersonBox(Transform):
    """Box ``x1, y1, x2, y2`` -> ``bbox_center`` (2,), ``bbox_scale`` (2,) width and height, ``bbox_rotation`` degrees.

    Args:
        padding: Factor on width and height.
    """

    padding: float = 1.25

    def transform(self, results: Sample) -> Sample:
        """Add the three fields, in pixels of the original image."""
        if results.get('bbox') is None:
            raise UserError(f'{results.get("img_path", "sample")}: has no person box; use a data set with boxes '
                            "(sample_per='person') or the dense transforms")  # fmt: skip
        x1, y1, x2, y2 = np.asarray(results['bbox'], np.float64).reshape(4)
        results['bbox_center'] = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
        results['bbox_scale'] = np.maximum([x2 - x1, y2 - y1], 1.0) * self.padding
        results['bbox_rotation'] = 0.0
        return results


@TRANSFORMS.register_module()
@accept(min_total_keypoints=('min_total', int), upper_prioritized_prob=('upper_prob', float))
@dataclass(eq=False)
class RandomHalfBody(Transform):
    """Now and then look at the upper or the lower half of the body alone.

    The halves are told by the vocabulary's names (hips, knees, ankles and feet are lower). Works before `LoadImage`.

    Args:
        prob: Probability where enough points are visible.
        min_total: Visible points that a person must have.
        min_half: Visible points that the chosen half must have.
        padding: Factor on the half's extent, on top of `PersonBox`'s.
        upper_prob: Probability of the upper half.
    """

    prob: float = 0.3
    min_total: int = 9
    min_half: int = 3
    padding: float = 1.5
    upper_prob: float = 0.7

    def transform(self, results: Sample) -> Sample:
        """Replace ``bbox_center`` and ``bbox_scale``."""
        if 'keypoints' not in results:
            return results
        visible = results['keypoints_visible'] > 0
        if visible.sum() < self.min_total or np.random.rand() >= self.prob:
            return results
        names = vocabulary_of(results, 'keypoint_vocabulary').names
        lower = np.array([bool(_LOWER.search(name)) for name in names])
        chosen = visible & (~lower if np.random.rand() < self.upper_prob else lower)
        if chosen.sum() < self.min_half:
            return results
        points = results['keypoints'][chosen].astype(np.float64)
        low, high = points.min(0), points.max(0)
        results['bbox_center'] = (low + high) / 2
        results['bbox_scale'] = np.maximum(high - low, 1.0) * self.padding
        return results


@TRANSFORMS.register_module(name=['RandomBox', 'RandomBBoxTransform'])
@accept(
    shift_factor=('shift', lambda factor: factor / 2), scale_factor=('scale', tuple), rotate_factor=('rotate', float)
)
@dataclass(eq=False)
class RandomBox(Transform):
    """Shift, scale and rotate the crop. Works before `LoadImage`.

    Args:
        shift: Standard deviation of the centre's shift as a share of the box (cut at twice that), and
        shift_prob: its probability.
        scale: Smallest and largest factor on the box (normal around their mean, cut), and
        scale_prob: its probability.
        rotate: Largest angle in degrees (normal with half of it as deviation, cut), and
        rotate_prob: its probability.
    """

    shift: float = 0.08
    shift_prob: float = 0.3
    scale: tuple[float, float] = (0.5, 1.5)
    scale_prob: float = 1.0
    rotate: float = 80.0
    rotate_prob: float = 0.6

    def transform(self, results: Sample) -> Sample:
        """Change ``bbox_center``, ``bbox_scale`` and ``bbox_rotation``."""
        if np.random.rand() < self.shift_prob:
            offset = np.clip(np.random.randn(2) * self.shift, -2 * self.shift, 2 * self.shift)
            results['bbox_center'] = results['bbox_center'] + offset * results['bbox_scale']
        if np.random.rand() < self.scale_prob:
            low, high = self.scale
            factor = np.clip((low + high) / 2 + np.random.randn() * (high - low) / 4, low, high)
            results['bbox_scale'] = results['bbox_scale'] * factor
        if np.random.rand() < self.rotate_prob:
            results['bbox_rotation'] = float(np.clip(np.random.randn() * self.rotate / 2, -self.rotate, self.rotate))
        return results


@TRANSFORMS.register_module()
@dataclass(eq=False)
class TopdownAffine(SizedTransform):
    """Warp the box to the network's input in one go, in the unbiased (UDP) convention.

    The box is first widened or heightened to the input's aspect; its corners then land on the *centres* of the
    input's corner pixels, so that flips and heatmaps align without a shift.

    Args:
        pad_img: Colour outside the image.
        pad_part: Part id outside the image.
        depth_scale_compensation: See `warp_sample`.
        use_udp: mmpose's word; ``input_size`` is then (W, H), as theirs is.

    Raises:
        UserError: ``use_udp=False``, which models of this toolkit do not know.
    """

    pad_img: int | tuple[int, int, int] = 0
    pad_part: int = IGNORE
    depth_scale_compensation: bool = False
    use_udp: bool | None = None

    def __post_init__(self) -> None:
        if self.use_udp is False:
            raise UserError("TopdownAffine: is always unbiased (UDP); type='mmpose.TopdownAffine' has the other one")
        if self.use_udp and self.input_size is not None:
            self.input_size = self.input_size[::-1]

    def transform(self, results: Sample) -> Sample:
        """Warp every field; ``warp_mat`` becomes the map from the original image to the input."""
        size = self.size
        results['bbox_scale'] = fit_aspect(results['bbox_scale'], size)
        matrix = udp_matrix(results['bbox_center'], results['bbox_scale'], size, results.get('bbox_rotation', 0.0))
        step = matrix @ np.linalg.inv(as_matrix(results['warp_mat']))
        return warp_sample(results, step, size, self.pad_img, self.pad_part, self.depth_scale_compensation)


def fit_aspect(scale: np.ndarray, input_size: Sequence[int]) -> np.ndarray:
    """Lengthen the shorter side of a box ``(width, height)`` until it has the aspect of ``(H, W)``."""
    aspect = input_size[1] / input_size[0]
    width, height = scale
    return np.array([width, width / aspect] if width > height * aspect else [height * aspect, height], np.float64)


def udp_matrix(center: np.ndarray, scale: np.ndarray, size: tuple[int, int], rotation: float = 0.0) -> np.ndarray:
    """Map of a rotated box to the input: its corners to the centres of the corner pixels.

    Args:
        center: ``(2,)`` x, y of the box.
        scale: ``(2,)`` width and height of the box, with the aspect of ``size``.
        size: ``(H, W)`` of the input.
        rotation: Degrees by which the content turns clockwise.

    Returns:
        ``(3, 3)`` float64.
    """
    last = np.array([size[1] - 1, size[0] - 1], np.float64)
    angle = np.deg2rad(rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = (last / scale)[:, None] * turn
    matrix[:2, 2] = last / 2 - matrix[:2, :2] @ np.asarray(center, np.float64)
    return matrix
