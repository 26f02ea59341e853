# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Things that are nobody: pieces of photographs and cloth in front of people and behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ...errors import UserError
from ...registry import TRANSFORMS
from .background import photos_of, put_behind, random_window
from .base import Transform
from .clothes import fabric
from .fields import Sample


@TRANSFORMS.register_module()
@dataclass(eq=False)
class RandomOccluder(Transform):
    """Put things in front of people: blobs, boxes, poles, and tables that hide all below them.

    They show photographs without people, or cloth. Behind them nobody is seen: parts become 0, the mask 0, depth and
    normals unknown; keypoints become hidden ones (visibility 1 instead of 2). Labels may have a fraction of the
    image's size. Put it behind all `LoadLabels`.

    Args:
        pieces: Range of their number.
        size: Range of their extent as a share of the image's, log-uniform.
        fabric_prob: Share of those of cloth; without photos all are.
        hidden: Largest share of the people that may be hidden by one; what would hide more is left out.
        background: Folder of the photos; None takes the data set's.
    """

    prob: float = 0.3
    pieces: tuple[int, int] = (1, 2)
    size: tuple[float, float] = (0.1, 0.5)
    fabric_prob: float = 0.3
    hidden: float = 0.6
    background: str | None = None

    def transform(self, results: Sample) -> Sample:
        """Change ``img`` and all labels with the given probability."""
        if np.random.rand() >= self.prob:
            return results
        photos = photos_of(self.background)
        for alpha in random_outlines(results['img'].shape[:2], self.pieces, self.size):
            if not self._hides_too_much(results, alpha):
                results['img'] = paste_piece(results['img'], alpha, photos, self.fabric_prob)
                hide(results, alpha > 0.5)
        return results

    def _hides_too_much(self, results: Sample, alpha: np.ndarray) -> bool:
        if 'part_map' not in results:
            return False
        people = (results['part_map'] > 0) & (results['part_map'] < 255)
        covered = _at(alpha > 0.5, people.shape)
        return int((people & covered).sum()) > self.hidden * int(people.sum())


@TRANSFORMS.register_module()
@dataclass(eq=False)
class RandomDecoy(Transform):
    """Put things behind people, of photographs or of cloth such as people wear: neither texture nor outline is enough.

    Needs ``mask`` or ``part_map`` at the image's size (else nothing is done); labels stay.

    Args:
        pieces, size, fabric_prob, background: As of `RandomOccluder`.
    """

    prob: float = 0.3
    pieces: tuple[int, int] = (1, 3)
    size: tuple[float, float] = (0.15, 0.7)
    fabric_prob: float = 0.5
    background: str | None = None

    def transform(self, results: Sample) -> Sample:
        """Replace ``img`` with the given probability."""
        known = next((results[name] for name in ('mask', 'part_map') if name in results), None)
        if known is None or np.random.rand() >= self.prob:
            return results
        photos, person = photos_of(self.background), known > 0
        behind = results['img']
        for alpha in random_outlines(behind.shape[:2], self.pieces, self.size):
            behind = paste_piece(behind, alpha, photos, self.fabric_prob)
        results['img'] = put_behind(results['img'], person, behind, 0.7)
        return results


def random_outlines(size: Sequence[int], pieces: tuple[int, int], extent: tuple[float, float]) -> Iterator[np.ndarray]:
    """Soft masks as of `random_outline`: a number of them in a range, their extents log-uniform in another."""
    for _ in range(np.random.randint(pieces[0], pieces[1] + 1)):
        yield random_outline(size, np.exp(np.random.uniform(*np.log(extent))))


def random_outline(size: Sequence[int], share: float) -> np.ndarray:
    """Soft mask ``(H, W)`` float32 of a thing whose extent is about this share of the image's."""
    height, width = size
    kind = np.random.choice(4, p=[0.45, 0.2, 0.2, 0.15])
    centre = np.random.uniform(0.05, 0.95, 2) * (width, height)
    extent = np.exp(np.random.normal(0, 0.4, 2)) * share / 2 * (width, height)
    turn = np.random.uniform(0, np.pi)
    if kind == 0:  # a blob or a polygon
        angles = np.sort(np.random.uniform(0, 2 * np.pi, np.random.choice([4, 5, 8, 30])))
        outline = np.stack([np.cos(angles), np.sin(angles)], 1) * extent
    else:
        box = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
        if kind == 1:  # a box
            turn = np.random.normal(0, 0.3)
        elif kind == 2:  # a pole
            extent = np.array([np.random.uniform(0.01, 0.05) * width, np.random.uniform(0.2, 1.0) * height])
        else:  # a table, a wall
            turn, extent = np.random.normal(0, 0.05), np.array([width * np.random.uniform(0.3, 1.5), height])
            centre[1] = height * np.random.uniform(0.5, 0.95) + height
            if np.random.rand() < 0.3:
                extent, centre = np.array([width, 2.0 * height]), np.array([width * (1 - share / 2) + width, 0.0])
                centre[0] = centre[0] if np.random.rand() < 0.5 else width - 1 - centre[0]
        outline = box * extent
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    mask = np.zeros((height, width), np.float32)
    points = np.round((outline @ matrix.T + centre) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], (1.0,), cv2.LINE_8, 4)
    return cv2.GaussianBlur(mask, (0, 0), np.random.uniform(0.4, 1.2))


def paste_piece(image: np.ndarray, alpha: np.ndarray, photos: Sequence[str], fabric_prob: float) -> np.ndarray:
    """The image with a piece of a photograph or of cloth where the mask says."""
    x, y, width, height = cv2.boundingRect((alpha > 0.01).astype(np.uint8))
    if not width:
        return image
    part = slice(y, y + height), slice(x, x + width)
    if not photos or np.random.rand() < fabric_prob:
        texture = fabric((height, width)) * np.random.uniform(100, 260)
        dark, bright = np.random.uniform(0.6, 1.2, 2).tolist()
        ramp = np.linspace(dark, bright, width)[None, :, None]  # light on it
        texture = texture * ramp.astype(np.float32)
    else:
        texture = random_window(photos, (height, width), 2.0) * np.float32(np.exp(np.random.normal(0, 0.2)))
    weight = alpha[part][..., None]
    image = image.copy()
    image[part] = np.clip(image[part] * (1 - weight) + texture * weight + 0.5, 0, 255)
    return image


def hide(results: Sample, covered: np.ndarray) -> None:
    """Let the labels say that something stands in front where ``(H, W)`` is true.

    Raises:
        UserError: A label's size is no fraction of the image's.
    """
    for name in ('part_map', 'mask', 'depth', 'normals'):
        if name in results:
            shape = results[name].shape[:2]
            if covered.shape[0] % shape[0] or covered.shape[1] % shape[1]:
                raise UserError(f'{results.get("img_path", "sample")}: {name} of {shape} does not fit the image of '
                                f'{covered.shape}; put RandomOccluder behind LoadLabels')  # fmt: skip
            results[name] = results[name].copy()
            results[name][_at(covered, shape)] = 0
    if 'keypoints' in results:
        points = np.nan_to_num(results['keypoints'], nan=-1.0, posinf=-1.0, neginf=-1.0)
        x, y = np.round(np.clip(points, -1, 1e6)).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < covered.shape[1]) & (y < covered.shape[0])
        inside[inside] = covered[y[inside], x[inside]]
        visible = results['keypoints_visible']
        results['keypoints_visible'] = np.where(inside, np.minimum(visible, 1), visible).astype(visible.dtype)


def _at(covered: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A mask at a fraction of its size: the pixels near the middle of each block."""
    stride = covered.shape[0] // shape[0]
    return covered[(stride - 1) // 2 :: stride, (stride - 1) // 2 :: stride][: shape[0], : shape[1]]
