# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Draw part maps, depth maps and normal maps."""

from __future__ import annotations

import cv2
import numpy as np

from ..vocabularies import PartVocabulary, load_parts
from .canvas import line_width, new_canvas

INVALID_COLOR = (100, 100, 100)
"""Grey of pixels without a depth or a normal; neither colour scale contains it."""
STRIPE = 256
"""Rows that are coloured at once: photos may have 100 megapixels."""


def draw_parts(
    image: np.ndarray,
    part_map: np.ndarray,
    vocabulary: str | PartVocabulary,
    alpha: float = 0.55,
) -> np.ndarray:
    """Lay the part colours over the image, with dark borders; background (id 0) and unlabelled pixels (255) stay.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        part_map: ``(H, W)`` integer part ids, 255 = ignore.
        alpha: Weight of the colours, 0 to 1.

    Returns:
        A new ``(H, W, 3)`` uint8 RGB image.

    Raises:
        ValueError: Sizes differ, or an id lies outside the vocabulary.
    """
    canvas = new_canvas(image)
    names = load_parts(vocabulary)
    part_map = np.asarray(part_map)
    if part_map.shape != canvas.shape[:2]:
        raise ValueError(f'the part map is {part_map.shape}, the image {canvas.shape[:2]}')
    known = np.zeros(256, bool)
    known[: names.num_classes] = known[255] = True
    beyond = part_map[(part_map < 0) | (part_map > 255)]
    part_map = part_map.astype(np.uint8)
    if beyond.size or not known[part_map].all():
        worst = int(beyond[0] if beyond.size else part_map[~known[part_map]].max())
        raise ValueError(f"part id {worst} is outside vocabulary '{names.name}' ({names.num_classes} classes)")
    table = np.zeros((256, 3), np.uint8)
    table[: names.num_classes] = names.colors
    painted = (part_map != 0) & (part_map != 255)
    mixed = cv2.addWeighted(canvas, 1 - alpha, table[part_map], alpha, 0)
    canvas[painted] = mixed[painted]
    size = 1 + 2 * round(line_width(*canvas.shape[:2]) / 4)
    kernel = np.ones((max(size, 2), max(size, 2)), np.uint8)
    border = (cv2.dilate(part_map, kernel) != cv2.erode(part_map, kernel)) & painted
    canvas[border] = (canvas[border] * 0.6).astype(np.uint8)
    return canvas


def draw_depth(
    depth: np.ndarray,
    mask: np.ndarray | None = None,
    near: float | None = None,
    far: float | None = None,
) -> np.ndarray:
    """Colour a depth map: near is bright yellow, far is dark violet (OpenCV's ``inferno``), invalid is grey.

    Args:
        depth: ``(H, W)`` or ``(1, H, W)``, larger = farther.
        mask: ``(H, W)`` or ``(1, H, W)``, true where the depth counts; default: where it is finite.
        near: Depth of the brightest colour; default: the smallest valid depth.
        far: Depth of the darkest colour; default: the largest valid depth.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    depth = _plane(depth).astype(np.float32)
    valid = np.isfinite(depth)
    if mask is not None:
        valid &= _plane(mask).astype(bool)
    picture = np.full((*depth.shape, 3), INVALID_COLOR, np.uint8)
    if not valid.any():
        return picture
    near = float(np.min(depth, where=valid, initial=np.inf)) if near is None else near
    far = float(np.max(depth, where=valid, initial=-np.inf)) if far is None else far
    for start in range(0, len(depth), STRIPE):
        rows = slice(start, start + STRIPE)
        closeness = 1 - (np.where(valid[rows], depth[rows], near) - near) / max(far - near, 1e-12)
        # An image of one depth is shown as near.
        level = (np.clip(closeness, 0, 1) * 255).astype(np.uint8)
        colored = cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)[..., ::-1]
        np.copyto(picture[rows], colored, where=valid[rows, :, None])
    return picture


def draw_normals(normals: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Colour a normal map: ``(n + 1) / 2``, so a surface that faces the camera is blue-violet; unknown is grey.

    Args:
        normals: ``(H, W, 3)`` or ``(3, H, W)``, x right, y up, z towards the viewer; (0, 0, 0) = unknown.
        mask: ``(H, W)`` or ``(1, H, W)``, true where the normals count.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    normals = np.asarray(normals, np.float32)
    if normals.ndim == 3 and normals.shape[-1] != 3 and normals.shape[0] == 3:
        normals = normals.transpose(1, 2, 0)
    if normals.ndim != 3 or normals.shape[-1] != 3:
        raise ValueError(f'normals are (H, W, 3) or (3, H, W), got {normals.shape}')
    picture = np.full(normals.shape, INVALID_COLOR, np.uint8)
    mask = None if mask is None else _plane(mask).astype(bool)
    for start in range(0, len(normals), STRIPE):
        rows = slice(start, start + STRIPE)
        part = normals[rows]
        valid = np.isfinite(part).all(-1) & (part != 0).any(-1)
        if mask is not None:
            valid &= mask[rows]
        colored = np.clip((part + 1) * np.float32(127.5), 0, 255)
        np.copyto(picture[rows], colored, casting='unsafe', where=valid[..., None])
    return picture


def _plane(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise ValueError(f'a map is (H, W) or (1, H, W), got {array.shape}')
    return array
