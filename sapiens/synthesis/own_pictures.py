# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The user's own pictures behind the people, and the panoramas that light them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ..datasets.image_files import find_files, list_images, read_image
from ..errors import UserError
from .environment import Environment, read_environment
from .ground import SRGB_TO_LINEAR
from .labels import InvalidSample


def background_files(folder: str | Path) -> tuple[str, ...]:
    """Images of a folder, sorted.

    Raises:
        UserError: No folder, no image in it, or a file that is none.
    """
    files = tuple(sorted(list_images(folder)))
    # Their first bytes alone: thousands of photos take long to decode.
    if bad := next((file for file in files if not cv2.haveImageReader(file)), None):
        raise UserError(f'{bad}: not a readable image; remove it from the folder of backgrounds')
    return files


def panorama_files(folder: str | Path) -> tuple[str, ...]:
    """Panoramas of a folder, sorted, all of which can be read.

    Raises:
        UserError: No folder, no ``.hdr`` in it, or one that `read_environment` refuses.
    """
    if not Path(folder).is_dir():
        raise UserError(f'{folder}: no such folder')
    files = tuple(map(str, find_files(folder, ('.hdr',))))
    if not files:
        raise UserError(f'{folder}: holds no .hdr picture')
    for file in files:
        read_environment(file)
    return files


_panorama = lru_cache(maxsize=32)(read_environment)


def draw_panorama(files: tuple[str, ...], rng: np.random.Generator) -> Environment | None:
    """One of the panoramas for three pictures in four; None for the others, and where there are none."""
    if files and rng.random() < 0.75:
        return _panorama(files[int(rng.integers(len(files)))])
    return None


def draw_backdrop(files: tuple[str, ...], size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Part of one of the pictures as linear radiance ``(H, W, 3)``.

    Raises:
        InvalidSample: The file is damaged.
    """
    path = files[int(rng.integers(len(files)))]
    try:
        image = read_image(path)
    except UserError as error:  # a damaged file does not end a long run
        raise InvalidSample(str(error)) from None
    height, width = size
    scale = max(height / image.shape[0], width / image.shape[1]) * rng.uniform(1.0, 1.4)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    image = cv2.copyMakeBorder(
        image, 0, max(height - image.shape[0], 0), 0, max(width - image.shape[1], 0), cv2.BORDER_REFLECT
    )
    top, left = rng.integers(image.shape[0] - height + 1), rng.integers(image.shape[1] - width + 1)
    crop = image[top : top + height, left : left + width]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.ascontiguousarray(SRGB_TO_LINEAR[crop] * 1.5)
