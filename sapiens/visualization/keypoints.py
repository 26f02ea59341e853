# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Draw keypoints and person boxes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..vocabularies import KeypointVocabulary, load_keypoints
from .canvas import SHIFT, fixed, line_width, new_canvas


def draw_keypoints(
    image: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray | None,
    vocabulary: str | KeypointVocabulary,
    threshold: float = 0.3,
) -> np.ndarray:
    """Draw the keypoints and skeletons of one or several people.

    Dots shrink where a group of points is crowded (238 face points stay apart on a small face) and people far
    away get thinner lines than people close by.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        keypoints: ``(K, 2)`` or ``(N, K, 2)``, x and y in pixels; points that are not finite are left out.
        scores: ``(K,)`` or ``(N, K)``; ``None`` draws every point.
        threshold: Points with a lower score are left out, and lines that end in them.

    Returns:
        A new ``(H, W, 3)`` uint8 RGB image.
    """
    canvas = new_canvas(image)
    names = load_keypoints(vocabulary)
    keypoints = np.asarray(keypoints, np.float64).reshape(-1, names.num_keypoints, 2)
    scores = np.ones(keypoints.shape[:2]) if scores is None else np.asarray(scores, np.float64)
    scores = scores.reshape(keypoints.shape[:2])
    shown = (scores >= threshold) & np.isfinite(keypoints).all(-1)
    for points, visible in zip(keypoints, shown, strict=True):
        if visible.any():
            # Between 0.4 and 1 times the image's, growing with the person's extent.
            limit = line_width(*canvas.shape[:2])
            width = float(np.clip(np.ptp(points[visible], axis=0).max() / 130, 0.4 * limit, limit))
            _draw_skeleton(canvas, points, visible, names, width)
            _draw_dots(canvas, points, visible, names, 1.4 * width)
    return canvas


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[str] | None = None,
    color: tuple[int, int, int] = (255, 196, 0),
) -> np.ndarray:
    """Draw boxes with an optional label above each.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        boxes: ``(N, 4)``: x1, y1, x2, y2 in pixels.
        labels: One for each box; '' is none.

    Returns:
        A new ``(H, W, 3)`` uint8 RGB image.
    """
    canvas = new_canvas(image)
    width = line_width(*canvas.shape[:2])
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    for i, box in enumerate(boxes):
        (x1, y1), (x2, y2) = fixed(box[:2]).tolist(), fixed(box[2:]).tolist()
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color, max(1, round(width)), cv2.LINE_AA, SHIFT)
        if labels is not None and labels[i]:
            scale, stroke = 0.35 * width + 0.1, max(1, round(width / 2))
            (w, h), base = cv2.getTextSize(labels[i], cv2.FONT_HERSHEY_SIMPLEX, scale, stroke)
            x, y = int(box[0]), max(int(box[1]), h + base)
            cv2.rectangle(canvas, (x, y - h - base), (x + w, y), color, -1)
            cv2.putText(canvas, labels[i], (x, y - base // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), stroke,
                        cv2.LINE_AA)  # fmt: skip
    return canvas


def _draw_skeleton(canvas: np.ndarray, points: np.ndarray, visible: np.ndarray, vocabulary: KeypointVocabulary,
                   width: float) -> None:  # fmt: skip
    stroke = dict.fromkeys(vocabulary.groups, width)
    for group, ids in vocabulary.groups.items():
        if 'hand' in group or group == 'face':
            stroke[group] = min(width, max(1.0, 0.7 * _spacing(points[ids][visible[ids]])))
    group_of = {int(i): group for group, ids in vocabulary.groups.items() for i in ids}
    for a, b in vocabulary.skeleton.tolist():
        if visible[a] and visible[b]:
            color = ((vocabulary.colors[a].astype(int) + vocabulary.colors[b]) // 2).tolist()
            w = min(stroke[group_of[a]], stroke[group_of[b]])
            start, end = fixed(points[[a, b]]).tolist()
            cv2.line(canvas, start, end, color, max(1, round(w)), cv2.LINE_AA, SHIFT)


def _draw_dots(canvas: np.ndarray, points: np.ndarray, visible: np.ndarray, vocabulary: KeypointVocabulary,
               radius: float) -> None:  # fmt: skip
    # The body is drawn last, so that it stays visible in a crowd of face points.
    for ids in reversed(list(vocabulary.groups.values())):
        ids = ids[visible[ids]]
        r = min(radius, 0.42 * _spacing(points[ids]))
        rim = r >= 2.5
        for i in ids.tolist():
            if r < 0.8:
                # Less than the smallest disc: one pixel each keeps the image visible between the points.
                x, y = np.round(points[i]).astype(int).tolist()
                if 0 <= y < canvas.shape[0] and 0 <= x < canvas.shape[1]:
                    canvas[y, x] = vocabulary.colors[i]
                continue
            center = fixed(points[i]).tolist()
            if rim:
                # A dark rim keeps a dot visible on a line or on cloth of its own colour.
                _disc(canvas, center, r + max(0.5, 0.2 * r), (0, 0, 0))
            _disc(canvas, center, r, vocabulary.colors[i].tolist())


def _disc(canvas: np.ndarray, center: list[int], radius: float, color: Sequence[int]) -> None:
    cv2.circle(canvas, center, int(radius * (1 << SHIFT)), color, -1, cv2.LINE_AA, SHIFT)


def _spacing(points: np.ndarray) -> float:
    """Lower-quartile distance from a point to its nearest neighbour; infinite for fewer than two points."""
    if len(points) < 2:
        return float('inf')
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return float(np.percentile(distance.min(1), 25))
