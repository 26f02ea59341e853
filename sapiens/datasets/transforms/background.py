# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Photographs behind people."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from ...errors import UserError
from ...registry import TRANSFORMS
from ..image_files import decode_image, is_jpeg, list_images, upright_size
from ..storage import read_bytes
from .base import Transform
from .fields import IGNORE, Sample, inside_image


@TRANSFORMS.register_module()
@dataclass(eq=False)
class RandomBackground(Transform):
    """Replace what is not a person by a random part of a random human-free photo.

    People are where ``mask`` is 1, else where ``part_map`` is a part or 255. Depth and normals of what was replaced
    become unknown.

    Args:
        folder: Folder of photos without people (searched recursively). The data set's ``background`` comes first; with
            neither, nothing is done.
        prob: Probability.
        optional: Whether the folder may be missing, which the log then says, and samples may have no mask or parts.
        feather: Standard deviation in pixels of the soft edge.

    Raises:
        UserError: The folder is missing or holds no image, or the sample has neither mask nor parts.
    """

    folder: str | None = None
    prob: float = 0.5
    feather: float = 0.7
    optional: bool = False

    def __post_init__(self) -> None:
        self.note = ''
        self.background: str | None = None  # the data set's, see `settle`
        if self.folder is not None and self.optional and not os.path.isdir(self.folder):
            self.note = (
                f'{self.folder}: no such folder, so RandomBackground changes nothing; put photos without people there'
            )
            self.folder = None
        if self.folder is not None:
            list_images(self.folder)

    def transform(self, results: Sample) -> Sample:
        """Change ``img``, ``depth`` and ``normals`` with the given probability."""
        folder = self.background or self.folder
        if folder is None or np.random.rand() >= self.prob:
            return results
        if 'mask' in results:
            person = results['mask'] > 0
        elif 'part_map' in results:
            person = results['part_map'] > 0
            if 'ori_shape' in results:
                person &= inside_image(results)  # padding is ignored as a part, but nobody's pixels
        elif self.optional:
            return results
        else:
            raise UserError(f"{results['img_path']}: RandomBackground needs a mask or parts; add 'mask' to LoadLabels")
        background = random_window(photos_of(folder), results['img'].shape[:2])
        results['img'] = put_behind(results['img'], person, background, self.feather)
        results['pad_part'] = 0  # what `LoadLabels` says of pixels outside of the picture: nobody is there now
        if 'part_map' in results:
            ignored = results['part_map'] == IGNORE
            person = person | (ignored & inside_image(results) if 'ori_shape' in results else ignored)
        for name in ('depth', 'normals'):
            if name in results:
                results[name] = np.where(person if name == 'depth' else person[..., None], results[name], np.float32(0))
        return results


def put_behind(image: np.ndarray, person: np.ndarray, background: np.ndarray, feather: float) -> np.ndarray:
    """The people ``(H, W)`` bool of an image in front of a background, with an edge as soft as ``feather`` pixels."""
    alpha = cv2.GaussianBlur(person.astype(np.float32), (0, 0), feather) if feather else person
    alpha = np.asarray(alpha, np.float32)[..., None]
    return np.rint(image * alpha + background * (1 - alpha)).astype(np.uint8)


@lru_cache(maxsize=8)
def photos_of(folder: str | None) -> tuple[str, ...]:
    """Files of the photos in a folder; none without one."""
    return list_images(folder) if folder else ()


def random_window(files: Sequence[str], size: Sequence[int], zoom: float = 1.5) -> np.ndarray:
    """A random window of a random photo, at ``(H, W)``, enlarged up to ``zoom`` times more than it must be."""
    path = files[np.random.randint(len(files))]
    photo = _photo(path, tuple(1 << (n - 1).bit_length() for n in size))  # few sizes, so that photos stay in memory
    factor = max(size[0] / photo.shape[0], size[1] / photo.shape[1]) * np.random.uniform(1.0, zoom)
    h, w = (min(p, max(1, round(s / factor))) for p, s in zip(photo.shape[:2], size, strict=True))
    y, x = np.random.randint(photo.shape[0] - h + 1), np.random.randint(photo.shape[1] - w + 1)
    window = cv2.resize(photo[y : y + h, x : x + w], (size[1], size[0]))
    return cv2.flip(window, 1) if np.random.rand() < 0.5 else window


_KEPT: OrderedDict[tuple, np.ndarray] = OrderedDict()
_KEEP_BYTES = 128 * 2**20


def _photo(path: str, size: Sequence[int]) -> np.ndarray:
    """A decoded photo, small JPEGs as they come and large ones reduced; the last ones stay in memory.

    A folder of a few dozen photos is decoded once, where decoding them again and again would take longer than the rest
    of a small model's sample.
    """
    key = path, *size
    if key in _KEPT:
        _KEPT.move_to_end(key)
        return _KEPT[key]
    data = read_bytes(path)
    reduce = 1
    header = upright_size(data) if is_jpeg(data) else None
    if header:
        ratio = min(header[0][0] / size[0], header[0][1] / size[1])
        reduce = next((r for r in (8, 4, 2) if r <= ratio), 1)
    _KEPT[key] = photo = decode_image(data, path, reduce)
    while len(_KEPT) > 1 and sum(kept.nbytes for kept in _KEPT.values()) > _KEEP_BYTES:
        _KEPT.popitem(last=False)
    return photo
