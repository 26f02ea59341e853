# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Tell from the normals of visible surfaces which way their axes point.

What a camera sees faces it, so z towards the viewer is positive on average. At the outline of a body the surface
turns away in the direction that leads out of the body, so a normal's x and y agree there with the direction
outwards. Three signs tell the convention; all are + for x right, y up, z towards the viewer.
"""

from __future__ import annotations

import cv2
import numpy as np

from ...structures.geometry import NORMAL_AXES, OUR_AXES

# Pixels from the outline that are looked at, and the side that large images are thinned to.
_BAND = 6.0
_SIDE = 640


def axis_evidence(normals: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Evidence of one image.

    Args:
        normals: ``(3, H, W)`` unit vectors, (0, 0, 0) where unknown.
        mask: ``(H, W)`` bool of people; None = wherever normals are known.

    Returns:
        ``(8,)`` sums over pixels, to be added over images: near outlines x * outwards right and y * outwards up, and
        the absolute values of both; over the person the three channels, and the number of pixels.
    """
    step = max(1, max(normals.shape[1:]) // _SIDE)
    normals = normals[:, ::step, ::step]
    mask = None if mask is None else mask[::step, ::step]
    length = np.linalg.norm(normals, axis=0)
    known = np.isfinite(length) & (length > 0.5)
    inside = known if mask is None else known & mask
    if not inside.any():
        return np.zeros(8)
    # Beyond the frame nothing is known: pad as inside, so that the frame is no outline.
    padded = np.pad(inside.astype(np.uint8), 1, constant_values=1)
    # Without an outline the distance is infinite everywhere.
    distance = np.minimum(cv2.distanceTransform(padded, cv2.DIST_L2, 5), 1e4)
    gradient = np.gradient(cv2.GaussianBlur(distance, (0, 0), 1.5))
    inner = np.s_[1:-1, 1:-1]
    down, right, distance = gradient[0][inner], gradient[1][inner], distance[inner]
    # The distance grows inwards, so outwards is against its gradient; rows grow downwards.
    outward = np.stack([-right, down])
    norm = np.linalg.norm(outward, axis=0)
    near = inside & (distance <= _BAND) & (norm > 0.3)
    direction = outward[:, near] / norm[near]
    product = normals[:2, near] * direction
    return np.concatenate([product.sum(1), np.abs(product).sum(1), normals[:, inside].sum(1), [inside.sum()]])


def detect_axes(evidence: np.ndarray) -> tuple[int, int, int]:
    """Signs of x, y, z relative to ours: 1, -1, or 0 where the evidence is too weak (flat or few surfaces)."""
    outward, strength, pixels = evidence[:2], evidence[2:4], evidence[7]
    share = np.divide(outward, strength, out=np.zeros(2), where=strength > 1.0)
    x, y = (int(np.sign(s)) if abs(s) > 0.3 else 0 for s in share)
    z = evidence[6] / max(pixels, 1)
    return (x, y, int(np.sign(z)) if abs(z) > 0.2 else 0)


def describe_axes(evidence: np.ndarray, declared: str = OUR_AXES) -> str | None:
    """One line saying what is wrong with normals declared to follow a convention; None when nothing is.

    Args:
        evidence: Of normals as they stand in the file (before any conversion).
        declared: A key of `NORMAL_AXES`.
    """
    x, _, z = evidence[4:7] / max(evidence[7], 1)
    if abs(x) > 0.4 and abs(z) < 0.2:  # blue and red of a colour-coded file
        return (
            f'red and blue seem swapped: the first channel looks like z (declared: {declared}); read the files as RGB'
        )
    found, expected = detect_axes(evidence), NORMAL_AXES[declared]
    wrong = [axis for axis, f, e in zip('xyz', found, expected, strict=True) if f and f != e]
    if not wrong:
        return None
    fitting = [
        name for name, signs in NORMAL_AXES.items() if all(f in (0, s) for f, s in zip(found, signs, strict=True))
    ]
    hint = f'; they look like {" or ".join(repr(name) for name in fitting)}' if fitting else ''
    return f'normals are declared {declared}, but {" and ".join(wrong)} point the other way on surfaces seen{hint}'
