# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What is wrong with maps of depth and normals, by their values alone."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from ..structures.geometry import NORMAL_AXES, OUR_AXES

UNIT_TOLERANCE = 0.05
"""A normal whose length differs more from 1 is not a unit vector (8-bit files err by 0.01)."""


def check_depth(raw: np.ndarray, depth_scale: float = 0.001) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with depth as its file has it, ``(H, W)`` of units of ``depth_scale`` metres or of metres."""
    if raw.dtype.kind == 'f':
        broken = ~np.isfinite(raw)
        if broken.any():
            yield 'NaN depth', f'{broken.mean():.2%} of the pixels are NaN or infinite; write 0 for unknown'
        if (raw[~broken] < 0).any():
            yield 'negative depth', f'{(raw[~broken] < 0).mean():.2%} of the pixels; write 0 for unknown'
    if raw.dtype == np.uint8:
        yield 'coarse depth', 'whole numbers of 8 bits, at most 255 steps: a picture of depth? Save 16 bits, or floats'
    known = raw[np.isfinite(raw) & (raw > 0)]
    if not known.size:
        yield 'empty depth', 'no pixel has a depth above 0'
        return
    median = float(np.median(known)) * (1 if raw.dtype.kind == 'f' else depth_scale)
    if not 0.02 < median < 100:
        what = 'floats are metres' if raw.dtype.kind == 'f' else f'whole numbers are units of {depth_scale:g} m'
        yield 'depth units?', f'the median is {median:g} m ({what}); save other units, or set depth_scale'


def check_people_depth(raw: np.ndarray, mask: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with depth on people, ``(H, W)`` as its file has it: numbers that stand for unknown."""
    known = raw[(mask > 0) & np.isfinite(raw) & (raw > 0)]
    if known.size:
        far = known > 20 * np.median(known)
        if raw.dtype == np.uint16:
            far |= known == 65535
        if far.mean() > 1e-3:
            numbers = f'{np.median(known[far]):g}, others {np.median(known):g}'
            yield (
                'depth of the unknown?',
                f'{far.mean():.1%} of the pixels of people are {numbers}; write 0 for unknown',
            )


def check_normals(normals: np.ndarray, axes: str = OUR_AXES) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with ``(H, W, 3)`` normals, in those axes, that were not scaled to length 1 yet."""
    if not np.isfinite(normals).all():
        yield 'NaN normals', f'{(~np.isfinite(normals)).any(-1).mean():.2%} of the pixels; write (0, 0, 0) for unknown'
        return
    length = np.linalg.norm(normals, axis=-1)
    known = length > 1e-6
    if not known.any():
        yield 'empty normals', 'no pixel has a normal'
        return
    wrong = np.abs(length[known] - 1) > UNIT_TOLERANCE
    if wrong.mean() > 0.01:
        lengths = np.percentile(length[known], [5, 95])
        yield 'non-unit normals', f'{wrong.mean():.1%} of the normals; lengths {lengths[0]:.2f} to {lengths[1]:.2f}'
    means = normals[known].mean(0)
    away = (normals[..., 2][known] * NORMAL_AXES[axes][2] < -0.05).mean()
    other = next(name for name, signs in NORMAL_AXES.items() if signs[2] != NORMAL_AXES[axes][2])
    if means[0] > 0.35 and means[2] < 0.6 * means[0] and (normals[..., 0][known] > -0.05).mean() > 0.9:
        yield 'normals in BGR order?', 'the first channel looks like z, to the viewer; save x, y, z as RGB'
    elif away > 0.5:
        yield 'normals point away', f"{away:.0%}, seen in '{axes}'; set normal_axes='{other}' or turn z to the viewer"


def farther_at_rim(depth: np.ndarray, mask: np.ndarray) -> float | None:
    """Share of a person's outline where depth is larger than further inside.

    Bodies curve away from the viewer towards their outline, so nearly all of it is farther than what lies inside: 82 to
    100 % in each of 80 renders. Of inverse depth, where near is large, it was 0 to 18 %.

    Args:
        depth: ``(H, W)``, 0 where unknown.
        mask: ``(H, W)``, people.

    Returns:
        None where too little of an outline is to be seen.
    """
    people = ((mask > 0) & np.isfinite(depth) & (depth > 0)).astype(np.uint8)
    # The image's border is no outline.
    inside = cv2.distanceTransform(cv2.copyMakeBorder(people, 1, 1, 1, 1, cv2.BORDER_REPLICATE), cv2.DIST_L2, 5)
    inside = inside[1:-1, 1:-1]
    y, x = np.nonzero((inside > 1.5) & (inside < 3))
    way = np.stack([cv2.Sobel(inside, cv2.CV_32F, *axis, ksize=5)[y, x] for axis in ((0, 1), (1, 0))])
    step = max(3.0, 0.04 * float(people.sum()) ** 0.5)
    aim = np.rint([y, x] + step * way / (np.linalg.norm(way, axis=0) + 1e-6)).astype(int)
    v, u = np.clip(aim, 0, np.array([depth.shape]).T - 1)
    deeper = inside[v, u] > inside[y, x] + 0.3 * step
    rim, core = depth[y, x][deeper].astype(np.float64), depth[v, u][deeper]
    counts = (rim != core) & (rim > 0.5 * core)  # a rim that was blended with unknown depth says nothing
    return float((rim > core)[counts].mean()) if counts.sum() >= 30 else None
