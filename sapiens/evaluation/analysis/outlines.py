# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Agreement of the outlines of parts, within a tolerance."""

from __future__ import annotations

import cv2
import numpy as np


def boundary_counts(
    prediction: np.ndarray, label: np.ndarray, num_classes: int, tolerance: int, ignore: np.ndarray | None = None
) -> np.ndarray:
    r"""Count outline pixels that find their counterpart, per class.

    A pixel of a class is on the outline when one of its 4 neighbours in the image is of another class. With
    :math:`B_p, B_g` the outlines of a class in prediction and label and ``d`` the tolerance (Euclidean),
    precision is the share of :math:`B_p` within ``d`` of :math:`B_g`, recall the share of :math:`B_g` within
    ``d`` of :math:`B_p`, and F their harmonic mean.

    Args:
        prediction: ``(H, W)`` ids.
        label: ``(H, W)`` ids.
        tolerance: d in pixels.
        ignore: ``(H, W)`` bool; outlines within ``d`` of these pixels are not judged.

    Returns:
        ``(C, 4)`` int64: hits and size of the predicted outline, hits and size of the labelled outline.
    """
    judged = np.ones(label.shape, bool)
    if ignore is not None and ignore.any():
        judged = _distance(ignore) > tolerance
    counts = np.zeros((num_classes, 4), np.int64)
    present = np.union1d(np.unique(prediction), np.unique(label))
    for c in present[present < num_classes]:
        # One pixel more than the tolerance: outlines are found with their neighbours.
        window = _window((prediction == c) | (label == c), tolerance + 1)
        outlines = [_outline(ids[window] == c) & judged[window] for ids in (prediction, label)]
        near = [_distance(outline) <= tolerance for outline in outlines]
        counts[c] = [(outlines[0] & near[1]).sum(), outlines[0].sum(), (outlines[1] & near[0]).sum(), outlines[1].sum()]
    return counts


def boundary_f(counts: np.ndarray) -> np.ndarray:
    """F-score per class from summed counts ``(C, 4)``; NaN where the class has no labelled outline."""
    hits_p, size_p, hits_g, size_g = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    precision = np.divide(hits_p, size_p, out=np.zeros_like(hits_p), where=size_p > 0)
    recall = np.divide(hits_g, size_g, out=np.zeros_like(hits_g), where=size_g > 0)
    total = precision + recall
    score = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return np.where(size_g > 0, score, np.nan)


def _window(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The part of the image where a mask is, with a margin."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    return slice(top, rows[-1] + margin + 1), slice(left, columns[-1] + margin + 1)


def _distance(mask: np.ndarray) -> np.ndarray:
    """``(H, W)`` exact distance to the nearest pixel of a mask; infinite when it has none."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _outline(mask: np.ndarray) -> np.ndarray:
    """Pixels with a 4-neighbour outside the mask; beyond the border nothing is known, so it is no outline."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=(1,))
    return mask & (inner == 0)
