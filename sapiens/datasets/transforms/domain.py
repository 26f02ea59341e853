# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Random looks of a whole picture, so that shapes count and the look of renders does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS
from .fields import Sample


@TRANSFORMS.register_module()
@dataclass(eq=False)
class RandomConvolution(BaseTransform):
    """Mix the picture with its convolution by a random kernel over space and colours.

    A random layer keeps shapes and changes colours and fine texture, so a network that learns from it looks less at
    how renders or photographs look (Xu et al., "Robust and Generalizable Visual Representation Learning via Random
    Convolutions", ICLR 2021).

    Args:
        sizes: Side of the kernel, one is drawn.
        mix: Range of the convolved picture's share.
    """

    prob: float = 0.3
    sizes: Sequence[int] = (1, 3, 5)
    mix: tuple[float, float] = (0.0, 1.0)

    def transform(self, results: Sample) -> Sample:
        """Replace ``img`` with the given probability."""
        if np.random.rand() >= self.prob:
            return results
        size = int(np.random.choice(self.sizes))
        kernels = np.random.normal(0, 1 / np.sqrt(3 * size * size), (3, 3, size, size)).astype(np.float32)
        results['img'] = convolve(results['img'], kernels, np.random.uniform(*self.mix))
        return results


def convolve(image: np.ndarray, kernels: np.ndarray, share: float) -> np.ndarray:
    """Mix an image with its convolution, which is given the image's mean and spread.

    Args:
        image: ``(H, W, 3)`` uint8.
        kernels: ``(3, 3, k, k)``: from each channel (second) to each (first).
        share: Of the convolved picture.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    plain = image.astype(np.float32)
    mean, spread = plain.mean(), plain.std()
    plain -= mean
    if kernels.shape[-1] == 1:
        mixed = cv2.transform(plain, np.ascontiguousarray(kernels[..., 0, 0]))
    else:
        channels = cv2.split(plain)
        mixed = np.stack(
            [sum(cv2.filter2D(c, -1, k) for c, k in zip(channels, row, strict=True)) for row in kernels], -1
        )
    mixed = (mixed - mixed.mean()) * (spread / max(float(mixed.std()), 1e-3))
    return np.clip(plain + share * (mixed - plain) + (mean + 0.5), 0, 255).astype(np.uint8)


@TRANSFORMS.register_module()
@dataclass(eq=False)
class RandomLight(BaseTransform):
    """Light that is not the same everywhere: a smooth random gain, with a little colour.

    Args:
        spread: Standard deviation of the gain's logarithm.
        colour: Standard deviation of its difference between channels.
    """

    prob: float = 0.3
    spread: float = 0.35
    colour: float = 0.1

    def transform(self, results: Sample) -> Sample:
        """Replace ``img`` with the given probability."""
        if np.random.rand() >= self.prob:
            return results
        image = results['img']
        grid = np.random.normal(0, self.spread, (4, 3, 1)) + np.random.normal(0, self.colour, (4, 3, 3))
        gain = cv2.resize(np.exp(grid).astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        results['img'] = np.clip(image * gain + 0.5, 0, 255).astype(np.uint8)
        return results
