# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Which pixels of a crop are its person's: those in the box, up to the edges of the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

BOX_MARGIN = 0.05
"""Share of a box's sides by which a person may reach beyond it; what lies further out is somebody else's."""
SURE_PERSON, SURE_BACKGROUND = 1.0, -3.0
"""Log-odds beyond which colours decide nothing."""
SIDE = 160
"""Pixels of the longer side at which colours are compared."""


def in_box(box: Sequence[float], region: tuple[int, int, int, int], margin: float = 0.0) -> np.ndarray:
    """``(h, w)`` bool: the pixels of a region ``x0, y0, x1, y1`` (ends excluded) that lie in a box ``x1, y1, x2, y2``.

    Args:
        margin: Share of its sides by which the box is grown.
    """
    inside = []
    for start, stop, low, high in zip(region[:2], region[2:], box[:2], box[2:], strict=True):
        slack = margin * (high - low)
        pixels = np.arange(start, stop)
        inside.append((pixels >= low - slack) & (pixels <= high + slack))
    columns, rows = inside
    return rows[:, None] & columns[None]


def fit_outline(image: np.ndarray, log_odds: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Move a coarse outline to the edges of the image, by GrabCut (Rother, Kolmogorov and Blake, SIGGRAPH 2004).

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        log_odds: ``(H, W)`` of a person against background.
        inside: ``(H, W)`` bool; there is no person elsewhere.

    Returns:
        ``(H, W)`` bool: the person.
    """
    height, width = log_odds.shape
    shrink = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    small = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
    odds = cv2.resize(np.ascontiguousarray(log_odds, np.float32), size, interpolation=cv2.INTER_AREA)
    there = cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    labels = np.where(odds > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[odds > SURE_PERSON] = cv2.GC_FGD
    labels[(odds < SURE_BACKGROUND) | ~there] = cv2.GC_BGD
    person = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    # Each side is a mixture of five colours, which takes some pixels to tell.
    if min(person.sum(), (~person).sum()) < 50:
        return (log_odds > 0) & inside
    cv2.setRNGSeed(0)  # the mixtures start at random
    cv2.grabCut(small, labels, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 1, cv2.GC_INIT_WITH_MASK)
    person = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    if (labels == cv2.GC_FGD).any():  # what has the person's colours, but nothing that is surely a person, is a thing
        regions = cv2.connectedComponents(person.astype(np.uint8))[1]
        person &= np.isin(regions, regions[labels == cv2.GC_FGD])
    # Between the pixels of the small image the outline is a smooth line.
    smooth = cv2.GaussianBlur(person.astype(np.float32), (3, 3), 0)
    return (cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5) & inside


def nearest_parts(parts: np.ndarray, person: np.ndarray) -> np.ndarray:
    """A part map cut and filled to a person: where none was found, the nearest one.

    Args:
        parts: ``(H, W)`` uint8, 0 = background.
        person: ``(H, W)`` bool.
    """
    kept = np.where(person, parts, 0)
    missing = person & (kept == 0)
    if not missing.any() or not parts.any():
        return kept
    source = parts if not kept.any() else kept
    _, nearest = cv2.distanceTransformWithLabels(
        (source == 0).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    part_of = np.zeros(nearest.max() + 1, np.uint8)
    known = source > 0
    part_of[nearest[known]] = source[known]
    kept[missing] = part_of[nearest[missing]]
    return kept
