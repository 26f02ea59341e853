# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What is wrong with a person's box and keypoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..structures.geometry import box_iou
from ..vocabularies import KeypointVocabulary, load_keypoints

SMALL_BOX = 3.0
"""A box with a side of fewer pixels shows nobody."""


def check_person(sample: dict[str, Any], size: tuple[int, int] | None, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with the box and the keypoints of a sample, as far as it has them.

    Args:
        size: ``(H, W)`` of the image where known.
        facts: Gets whether corners would fit the points better.
    """
    found = [*(check_box(sample, size) if 'bbox' in sample else ())]
    if 'keypoints' in sample:
        found += check_keypoints(sample, size)
        if 'bbox' in sample and not any(kind in ('tiny box', 'wrong keypoint count') for kind, _ in found):
            found += check_points_in_box(sample, size, facts)
    return found


def check_box(sample: dict[str, Any], size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a person's box as its file has it; ``size`` is the image's (H, W) where known."""
    x, y, w, h = _file_box(sample)
    if min(w, h) < SMALL_BOX:
        hint = ', as if given as shares of the image' if max(x, y, w, h) <= 1.5 else ''
        yield 'tiny box', f'{w:.3g} x {h:.3g} pixels{hint}'
    elif size is not None:
        beyond = max(-x / w, -y / h, (x + w - size[1]) / w, (y + h - size[0]) / h)
        if beyond > 0.1:
            fits = x < w <= size[1] and y < h <= size[0]
            hint = '; x1, y1, x2, y2 instead of x, y, width, height?' if fits else ''
            yield 'box beyond the image', f'by {beyond:.0%} of its side{hint}'


def check_points_in_box(
    sample: dict[str, Any], size: tuple[int, int] | None, facts: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield why labelled points do not lie in their person's box; ``facts`` gets whether corners would fit better."""
    x, y, w, h = _file_box(sample)
    points = sample['keypoints'][sample['keypoints_visible'] > 0]
    if len(points) < 3 or not np.isfinite(points).all():
        return

    def inside(moved: np.ndarray) -> float:
        return float(((moved >= [x - 2, y - 2]) & (moved <= [x + w + 2, y + h + 2])).all(-1).mean())

    def fit(moved: np.ndarray, corners: Sequence[float] = (x, y, x + w, y + h)) -> float:
        return float(box_iou(np.array([*moved.min(0), *moved.max(0)]), np.array(corners)))

    if np.abs(points).max() <= 1.5:
        guesses = {
            'normalised keypoints?': ('as shares of the image', points * (size or (h, w))[::-1]),
            'keypoints relative to the box?': ('as shares of the box', points * [w, h] + [x, y]),
        }
    else:
        guesses = {
            'keypoints relative to the box?': ('from its upper left corner', points + [x, y]),
            'x and y exchanged?': ('with x and y exchanged', points[:, ::-1]),
        }
    kind, (how, moved) = max(guesses.items(), key=lambda guess: fit(guess[1][1]))
    better = max(fit(points) + 0.15, fit(points, (x, y, w, h)))
    if len(points) >= 8:
        facts['persons'] = 1
        facts['corners'] = int(fit(points, (x, y, w, h)) > max(fit(points) + 0.1, fit(moved)))
    text = f'{round((1 - inside(points)) * len(points))} of {len(points)} labelled points lie outside'
    if inside(points) < 0.85 and inside(moved) > 0.95 and fit(moved) > better:
        yield kind, f'{text}; {how} they would lie inside'
    elif inside(points) < 0.6:
        yield 'keypoints outside the box', text


def _file_box(sample: dict[str, Any]) -> np.ndarray:
    """x, y, width, height, before it was cut to the image where that is known."""
    if 'file_bbox' in sample:
        return np.asarray(sample['file_bbox'], np.float64)
    x1, y1, x2, y2 = np.asarray(sample['bbox'], np.float64)
    return np.array([x1, y1, x2 - x1, y2 - y1])


def check_keypoints(sample: dict[str, Any], size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the keypoints of a sample; ``size`` is the image's (H, W) where known."""
    vocabulary = load_keypoints(sample['keypoint_vocabulary'])
    points, visible = sample['keypoints'], sample['keypoints_visible'] > 0
    if points.shape != (vocabulary.num_keypoints, 2):
        yield 'wrong keypoint count', f"{len(points)}, '{vocabulary.name}' has {vocabulary.num_keypoints}"
        return
    broken = visible & ~np.isfinite(points).all(-1)
    if broken.any():
        yield 'NaN keypoints', f'{broken.sum()} labelled points, first {vocabulary.names[np.flatnonzero(broken)[0]]}'
        visible = visible & ~broken
    if size is not None and visible.any():
        reach = 0.1 * np.array([size[1], size[0]])
        outside = visible & ((points < -reach) | (points > np.array([size[1], size[0]]) - 1 + reach)).any(-1)
        if outside.any():
            first = np.flatnonzero(outside)[0]
            yield 'keypoints off the image', (f'{outside.sum()} labelled points, first {vocabulary.names[first]} at '
                                              f'{points[first].round().tolist()}')  # fmt: skip
    # Hidden points of somebody seen from behind are labelled too; only what is seen tells the sides.
    reason = swapped_sides(points, visible & (sample['keypoints_visible'] > 1), vocabulary)
    if reason:
        yield 'left and right swapped?', reason


def swapped_sides(points: np.ndarray, visible: np.ndarray, vocabulary: KeypointVocabulary) -> str | None:
    """Why left and right seem exchanged, or None.

    A face that is seen shows its left eye on its own left: to the right of the line from nose to brow as the viewer
    sees it. And shoulders and hips of a body that is not twisted by more than a quarter turn have the same order.

    Args:
        points: ``(K, 2)``.
        visible: ``(K,)`` bool.
        vocabulary: With points named ``left_eye``, ``left_shoulder``, ... (without them nothing is suspected).
    """
    at = {name: points[i].astype(np.float64) for i, name in enumerate(vocabulary.names) if visible[i]}
    if {'nose', 'left_eye', 'right_eye'} <= at.keys():
        across, up = at['left_eye'] - at['right_eye'], (at['left_eye'] + at['right_eye']) / 2 - at['nose']
        width, height = np.linalg.norm(across), np.linalg.norm(up)
        # A profile says nothing, nor does a head seen from above or below: there the nose may lie beyond the eyes.
        if width > 0.5 * height and height > 0.4 * width and _cross(up, across) < -0.5 * width * height:
            return 'the left eye lies where the right one of a face would'
    if {'left_shoulder', 'right_shoulder', 'left_hip', 'right_hip'} <= at.keys():
        shoulders, hips = at['left_shoulder'] - at['right_shoulder'], at['left_hip'] - at['right_hip']
        up = (at['left_shoulder'] + at['right_shoulder'] - at['left_hip'] - at['right_hip']) / 2
        torso = np.linalg.norm(up)
        if torso > 0:
            sides = [_cross(up, v) / torso**2 for v in (shoulders, hips)]
            if sides[0] * sides[1] < 0 and min(abs(s) for s in sides) > 0.25:
                return 'shoulders and hips are in opposite order'
    return None


def _cross(a: np.ndarray, b: np.ndarray) -> float:
    """Positive when ``b`` points to the right of ``a`` as the viewer sees it (rows run down)."""
    return float(a[0] * b[1] - a[1] * b[0])
