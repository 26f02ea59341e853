# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Compose whole photographs of nobody to many people, for detectors, out of renders of a few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from mmcv.transforms import Compose

from ...errors import UserError
from ...registry import TRANSFORMS
from ..label_files import read_label
from ..storage import read_bytes, readable_name
from .background import photos_of, random_window
from .base import SizedTransform
from .clothes import RandomTexture
from .fields import Sample
from .loading import LoadImage, LoadLabels


@TRANSFORMS.register_module()
@dataclass(eq=False)
class ComposeCrowd(SizedTransform):
    """Paste the people of several samples into a photograph without people, far ones first.

    A picture of any aspect is made and fitted into the input's size. People whom their render cuts are cut by the
    picture's border as well, or hidden below something. Pieces of photographs lie behind people and in front of them,
    so that an outline alone is nobody. Instead of `LoadImage`; needs a data set of manifests with one sample an image,
    ``instances``, parts and a ``background``.

    Args:
        groups: Most renders in a picture.
        empty_prob: Probability of a picture without people.
        whole_prob: Probability that the first render stays in its own surroundings.
        cut_prob: Probability of taking a render that cuts people; else another is drawn.
        height: Range of the height of a render's tallest person as a share of the picture's, log-uniform.
        pieces: Most pieces behind people, and after each group the probability of one in front.
        texture_prob: Probability of clothes with the texture of photographs.
        least: Least share of a person that must be seen to count, and
        least_height: the least height in pixels.

    Raises:
        UserError: The sample has no instances, or the data set no ``background``.
    """

    groups: int = 3
    empty_prob: float = 0.1
    whole_prob: float = 0.15
    cut_prob: float = 0.12
    height: tuple[float, float] = (0.1, 1.0)
    pieces: tuple[int, float] = (3, 0.2)
    texture_prob: float = 0.4
    least: float = 0.2
    least_height: int = 8

    def __post_init__(self) -> None:
        self.whole: dict[str, bool] = {}
        """Image -> whether everybody in it is seen whole, as far as known."""
        self.background: str | None = None
        self.draw: Callable[[], Sample] | None = None
        """Gives another random sample; the data set sets both, see `settle`."""
        labels = LoadLabels(kinds=['parts', 'mask'], optional=True)
        self.transforms = Compose([LoadImage(reduce=False), labels, RandomTexture(prob=self.texture_prob)])

    def transform(self, results: Sample) -> Sample:
        """Replace everything by ``img`` at the input's size and ``boxes``, what is seen of each person."""
        if self.background is None:
            raise UserError('ComposeCrowd needs the data set to have background=FOLDER of photos without people')
        size = self.size
        photos = photos_of(self.background)
        if np.random.rand() < self.empty_prob:
            picture = Picture(photos, _random_size(size))
            self._behind(picture)
        else:
            picture = self._people(results, photos, size)
        image, boxes = picture.fit(size, self.least, self.least_height)
        return {
            'img_path': results['img_path'],
            'img': image,
            'img_shape': size,
            'ori_shape': size,
            'warp_mat': np.eye(3),
            'flipped': False,
            'boxes': boxes,
        }

    def _people(self, results: Sample, photos: Sequence[str], size: tuple[int, int]) -> Picture:
        count = np.random.randint(1, self.groups + 1)
        if np.random.rand() < self.whole_prob:
            picture = Picture.whole(photos, *self._read(results, self._ids(results)), size)
            count = np.random.randint(2)  # perhaps somebody else in front
        else:
            picture = Picture(photos, _random_size(size))
            self._behind(picture)
        groups = [self._draw() for _ in range(count)]
        low, high = np.log(self.height)
        for share, (image, ids) in zip(sorted(np.exp(np.random.uniform(low, high, len(groups)))), groups, strict=True):
            picture.paste(image, ids, share)
            if np.random.rand() < self.pieces[1]:
                picture.piece(np.random.uniform(0.1, 0.4))
        return picture

    def _draw(self) -> tuple[np.ndarray, np.ndarray]:
        for _ in range(20):
            sample = self.draw()
            path = sample['img_path']
            if path not in self.whole:
                ids = self._ids(sample)
                self.whole[path] = bool(ids.any()) and not any(cut_sides(ids))
            if self.whole[path] or np.random.rand() < self.cut_prob:
                break
        return self._read(sample, self._ids(sample))

    def _behind(self, picture: Picture) -> None:
        for _ in range(np.random.randint(self.pieces[0] + 1)):
            picture.piece(np.random.uniform(0.1, 0.8))

    @staticmethod
    def _ids(sample: Sample) -> np.ndarray:
        name = sample.get('label_files', {}).get('instances')
        if name is None:
            raise UserError(f'{sample["img_path"]}: has no instances, which ComposeCrowd needs')
        return read_label('instances', read_bytes(name), readable_name(name))

    def _read(self, sample: Sample, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Image ``(H, W, 3)`` and ids ``(H, W)`` of the people, perhaps mirrored."""
        image = self.transforms(sample)['img']
        return (image[:, ::-1], ids[:, ::-1]) if np.random.rand() < 0.5 else (image, ids)


class Picture:
    """A picture that grows from the back to the front, and who is seen at each pixel.

    Args:
        photos: Files of photographs without people.
        size: ``(h, w)``.
    """

    def __init__(self, photos: Sequence[str], size: tuple[int, int]) -> None:
        self.photos, self.size = photos, size
        self.image = random_window(photos, size, 2.5)
        self.ids = np.zeros(size, np.int16)
        self.areas = [0]
        """Of each person, hidden pixels and those outside of the picture included."""

    @classmethod
    def whole(cls, photos: Sequence[str], image: np.ndarray, ids: np.ndarray, size: tuple[int, int]) -> Picture:
        """A part of a picture as it is."""
        part = [round(length * np.random.uniform(0.6, 1.0)) for length in ids.shape]
        (y, h), (x, w) = ((np.random.randint(of - n + 1), n) for n, of in zip(part, ids.shape, strict=True))
        image, ids = image[y : y + h, x : x + w], ids[y : y + h, x : x + w]
        scale = min(size[0] / h, size[1] / w)
        shape = max(1, round(h * scale)), max(1, round(w * scale))
        picture = cls(photos, shape)
        picture.image = cv2.resize(np.ascontiguousarray(image), shape[::-1], interpolation=cv2.INTER_AREA)
        picture.ids = _shrink_ids(ids, shape)
        picture.areas += [int((picture.ids == i).sum()) for i in range(1, int(ids.max()) + 1)]
        return picture

    def paste(self, image: np.ndarray, ids: np.ndarray, share: float) -> None:
        """People at a size where the tallest has this share of the picture's height."""
        (h, w), (rows, columns) = self.size, ids.shape
        seen = ids > 0
        if not seen.any():
            return
        cut = cut_sides(ids)
        boxes = [cv2.boundingRect(np.uint8(ids == i)) for i in np.unique(ids[seen])]
        x1, y1, width, height = cv2.boundingRect(np.uint8(seen))
        scale = share * h / max(box[3] for box in boxes)
        if any(cut):
            scale = max(scale, 0.25 * h / rows)
        if cut[2] and cut[3]:
            scale = max(scale, w / columns)
        if cut[0] and cut[1]:
            scale = max(scale, h / rows)
        frame = np.array([max(1, round(columns * scale)), max(1, round(rows * scale))])
        middle = (np.array([x1, y1]) + np.array([width, height]) / 2) * scale
        # Whole people stand anywhere, also half outside of the picture, more often low than high.
        x, y = np.array([np.random.uniform(0, w), h * np.random.triangular(0.1, 0.65, 1.0)]) - middle
        beyond = np.abs(np.random.normal(0, 0.1, 2)) * frame
        x = _at_border(x, cut[2:], w, frame[0], beyond[0])
        hidden = cut[1] and not cut[0] and np.random.rand() < 0.25
        y = min(y, h - frame[1]) if hidden else _at_border(y, cut[:2], h, frame[1], beyond[1])
        self._put(image, ids, frame, (round(x), round(y)))
        if hidden:
            self._counter(round(x), round(y) + int(frame[1]), int(frame[0]))

    def _put(self, image: np.ndarray, ids: np.ndarray, frame: np.ndarray, corner: tuple[int, int]) -> None:
        way = cv2.INTER_AREA if frame[0] < ids.shape[1] else cv2.INTER_LINEAR
        image = cv2.resize(np.ascontiguousarray(image), tuple(frame.tolist()), interpolation=way)
        alpha = cv2.resize(np.float32(ids > 0), tuple(frame.tolist()), interpolation=way)
        people = _shrink_ids(ids, (int(frame[1]), int(frame[0])))
        first = len(self.areas) - 1
        self.areas += [int((people == i).sum()) for i in range(1, int(ids.max()) + 1)]
        inside, own = _common(corner, people.shape, self.size)
        alpha = cv2.GaussianBlur(alpha, (0, 0), 0.6)[own][..., None]
        gain = np.exp(np.random.normal(0, 0.15) + np.random.normal(0, 0.03, 3)).astype(np.float32)
        mixed = self.image[inside] * (1 - alpha) + image[own] * (alpha * gain)
        self.image[inside] = np.clip(mixed + 0.5, 0, 255)
        people = people[own]
        self.ids[inside] = np.where(people > 0, people + first, self.ids[inside])

    def piece(self, share: float) -> None:
        """A piece of a photograph with a round or angular outline, of this share of the picture's size."""
        h, w = self.size
        extent = np.exp(np.random.normal(0, 0.5, 2)) * share * min(h, w) / 2
        centre = np.random.uniform(0, [w, h])
        angles = np.sort(np.random.uniform(0, 2 * np.pi, np.random.choice([4, 5, 8, 30])))
        outline = centre + extent * np.stack([np.cos(angles), np.sin(angles)], 1)
        self._cover(outline)

    def _counter(self, x: int, y: int, width: int) -> None:
        """Something wide in front of people whom their render cuts at the bottom."""
        h = self.size[0]
        left, right = x - width * np.random.uniform(0, 1.5), x + width * np.random.uniform(1, 2.5)
        top = y - np.random.uniform(0.01, 0.1) * h
        bottom = h if np.random.rand() < 0.7 else y + np.random.uniform(0.1, 0.5) * h
        tilt = np.random.uniform(0, 0.01) * h
        self._cover(np.array([[left, top - tilt], [right, top], [right, bottom], [left, bottom]]))

    def _cover(self, outline: np.ndarray) -> None:
        mask = np.zeros(self.size, np.uint8)
        cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
        x, y, w, h = cv2.boundingRect(mask)
        if min(w, h) < 3:
            return
        part = slice(y, y + h), slice(x, x + w)
        texture = random_window(self.photos, (h, w), 2.0)
        self.image[part] = np.where(mask[part][..., None] > 0, texture, self.image[part])
        self.ids[part][mask[part] > 0] = 0

    def fit(self, size: tuple[int, int], least: float, least_height: int) -> tuple[np.ndarray, np.ndarray]:
        """The picture in the middle of a black input of that size, and boxes ``(N, 4)`` of people seen well enough."""
        y, x = ((outer - inner) // 2 for outer, inner in zip(size, self.size, strict=True))
        image = np.zeros((*size, 3), np.uint8)
        image[y : y + self.size[0], x : x + self.size[1]] = self.image
        counts = np.bincount(self.ids.ravel(), minlength=len(self.areas))
        boxes = []
        for person in range(1, len(self.areas)):
            if counts[person] <= max(least * self.areas[person], 12):
                continue
            left, top, w, h = cv2.boundingRect(np.uint8(self.ids == person))
            if h >= least_height:
                boxes.append([x + left, y + top, x + left + w - 1, y + top + h - 1])
        return image, np.array(boxes, np.float32).reshape(-1, 4)


def cut_sides(ids: np.ndarray) -> list[bool]:
    """Whether people reach beyond the top, bottom, left and right side."""
    return [bool((side > 0).sum() > 2) for side in (ids[0], ids[-1], ids[:, 0], ids[:, -1])]


def _at_border(place: float, cut: Sequence[bool], length: int, extent: int, beyond: float) -> float:
    """Where people begin along a side: as far ``beyond`` its ends as they are cut there, else at ``place``."""
    if all(cut):
        return np.random.uniform(min(length - extent, 0), 0)
    if cut[0]:
        return -beyond
    if cut[1]:
        return length - extent + beyond
    return place


def _random_size(size: tuple[int, int]) -> tuple[int, int]:
    """The largest ``(h, w)`` of a random aspect inside of the input."""
    aspect = np.exp(np.random.uniform(-0.5, 0.5))
    h, w = size
    return (h, min(w, round(h * aspect))) if aspect < w / h else (min(h, round(w / aspect)), w)


def _shrink_ids(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(np.ascontiguousarray(ids), size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.int16)


def _common(corner: tuple[int, int], inner: tuple[int, int], outer: tuple[int, int]) -> tuple:
    """Slices of the outer and of the inner array where an inner one at x, y covers the outer one."""
    x, y = corner
    rows = slice(max(y, 0), max(min(y + inner[0], outer[0]), 0))
    columns = slice(max(x, 0), max(min(x + inner[1], outer[1]), 0))
    return (rows, columns), tuple(
        slice(part.start - start, max(part.stop, part.start) - start)
        for part, start in zip((rows, columns), (y, x), strict=True)
    )
