# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Put pictures together: labels, rows of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .canvas import line_width, new_canvas


def put_label(image: np.ndarray, text: str) -> np.ndarray:
    """Write a line of text into the upper left corner, white on a dark band.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        text: ASCII text; shrunk until it fits the width.

    Returns:
        A new ``(H, W, 3)`` uint8 RGB image.
    """
    canvas = new_canvas(image)
    scale = 0.28 * line_width(*canvas.shape[:2]) + 0.25
    (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    if w + 2 * base > canvas.shape[1]:
        scale *= canvas.shape[1] / (w + 2 * base)
    stroke = max(1, round(1.6 * scale))
    (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, stroke)
    pad = max(2, base // 2)
    band = canvas[: h + base + 2 * pad, : w + 2 * pad]
    band[:] = band // 4
    cv2.putText(canvas, text, (pad, h + pad), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), stroke, cv2.LINE_AA)
    return canvas


def side_by_side(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    gap: int | None = None,
) -> np.ndarray:
    """Put pictures into a row, or into rows of ``columns``, all brought to the height of the first.

    Args:
        images: ``(H, W, 3)`` uint8 RGB each.
        columns: Pictures per row; default: all in one row.
        gap: White pixels between pictures; default: 1 % of the height.

    Returns:
        One uint8 RGB image on a white ground.

    Raises:
        ValueError: No image, or not one title per image.
    """
    if not len(images) or (titles is not None and len(titles) != len(images)):
        raise ValueError(f'{len(images)} images and {"no" if titles is None else len(titles)} titles')
    height = images[0].shape[0]
    gap = max(2, height // 100) if gap is None else gap
    tiles = []
    for i, image in enumerate(images):
        tile = new_canvas(image)
        if tile.shape[0] != height:
            width = max(1, round(tile.shape[1] * height / tile.shape[0]))
            shrink = tile.shape[0] > height
            tile = cv2.resize(tile, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
        tiles.append(tile if titles is None else put_label(tile, titles[i]))
    columns = columns or len(tiles)
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    total = max(sum(t.shape[1] for t in row) + gap * (len(row) - 1) for row in rows)
    picture = np.full((height * len(rows) + gap * (len(rows) - 1), total, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        x, y = 0, r * (height + gap)
        for tile in row:
            picture[y : y + height, x : x + tile.shape[1]] = tile
            x += tile.shape[1] + gap
    return picture
