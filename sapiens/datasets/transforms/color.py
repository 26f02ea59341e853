# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What changes pixels and leaves labels alone: distortion of colours, blur, dropout, random convolutions and light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ...registry import TRANSFORMS
from .base import Transform, accept
from .fields import Sample


@TRANSFORMS.register_module(name=['PhotometricDistortion', 'PhotoMetricDistortion'])
@accept(brightness_delta=('brightness', float), contrast_range=('contrast', tuple),
        saturation_range=('saturation', tuple), hue_delta=('hue', int))  # fmt: skip
@dataclass(eq=False)
class PhotometricDistortion(Transform):
    """Random brightness, contrast, saturation and hue, each with probability 1/2; contrast before or after the colours.

    Args:
        brightness: Largest shift of all channels, 0 to 255.
        contrast: Range of the factor on all channels.
        saturation: Range of the factor on HSV saturation.
        hue: Largest shift of the hue, in units of 2 degrees.
        swap_prob: Probability of a random order of the channels.
    """

    brightness: float = 32
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: int = 18
    swap_prob: float = 0.0

    def transform(self, results: Sample) -> Sample:
        """Replace ``img``."""
        results['img'] = distort(results['img'], **self.draw())
        return results

    def draw(self) -> dict[str, Any]:
        """Parameters of `distort`."""
        chosen: dict[str, Any] = {}
        if np.random.randint(2):
            chosen['brightness'] = np.random.uniform(-self.brightness, self.brightness)
        contrast_first = bool(np.random.randint(2))
        if contrast_first and np.random.randint(2):
            chosen['contrast'] = np.random.uniform(*self.contrast)
        if np.random.randint(2):
            chosen['saturation'] = np.random.uniform(*self.saturation)
        if self.hue and np.random.randint(2):
            chosen['hue'] = np.random.randint(-self.hue, self.hue)
        if not contrast_first and np.random.randint(2):
            chosen['contrast'] = np.random.uniform(*self.contrast)
        if self.swap_prob and np.random.rand() < self.swap_prob:
            chosen['order'] = np.random.permutation(3)
        return {**chosen, 'contrast_first': contrast_first}


def distort(
    image: np.ndarray,
    brightness: float = 0.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: int = 0,
    contrast_first: bool = True,
    order: Sequence[int] | None = None,
) -> np.ndarray:
    """Change an ``(H, W, 3)`` uint8 RGB image; each step clips and cuts to integers (`PhotometricDistortion`)."""
    first = _scale(np.arange(256), 1.0, brightness)
    if contrast_first:
        first = _scale(first, contrast)
    image = cv2.LUT(image, first)
    if saturation != 1 or hue:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        # Hues count 180 steps; the table of a channel changes nothing in the others.
        table = np.stack([(np.arange(256) + hue) % 180, _scale(np.arange(256), saturation), np.arange(256)], -1)
        image = cv2.cvtColor(cv2.LUT(hsv, table.astype(np.uint8)[:, None]), cv2.COLOR_HSV2RGB)
    if not contrast_first and contrast != 1:
        image = cv2.LUT(image, _scale(np.arange(256), contrast))
    return image if order is None else np.ascontiguousarray(image[..., list(order)])


def _scale(values: np.ndarray, factor: float, offset: float = 0.0) -> np.ndarray:
    return np.clip(values.astype(np.float32) * factor + offset, 0, 255).astype(np.uint8)


@TRANSFORMS.register_module()
@dataclass(eq=False)
class RandomBlur(Transform):
    """Blur by a Gaussian or, as a moving camera does, along a line.

    Args:
        sigma: Range of the Gaussian's standard deviation in pixels.
        motion_prob: Share of motion blurs.
        motion: Largest length of the line in pixels.
    """

    prob: float = 0.1
    sigma: tuple[float, float] = (0.5, 3.0)
    motion_prob: float = 0.3
    motion: int = 15

    def transform(self, results: Sample) -> Sample:
        """Blur ``img`` with the given probability."""
        if np.random.rand() >= self.prob:
            return results
        if np.random.rand() < self.motion_prob:
            kernel = line_kernel(np.random.randint(3, max(self.motion, 3) + 1), np.random.uniform(0, 180))
            results['img'] = cv2.filter2D(results['img'], -1, kernel)
        else:
            results['img'] = cv2.GaussianBlur(results['img'], (0, 0), np.random.uniform(*self.sigma))
        return results


def line_kernel(length: int, degrees: float) -> np.ndarray:
    """``(n, n)`` float32 kernel of a line through the middle, summing to 1; n is odd."""
    size = length | 1
    middle, reach = size // 2, length / 2
    direction = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))]) * reach * 16
    kernel = np.zeros((size, size), np.float32)
    start, end = (np.round(middle * 16 + s * direction).astype(int).tolist() for s in (-1, 1))
    cv2.line(kernel, start, end, (1.0,), 1, cv2.LINE_8, 4)
    return kernel / kernel.sum()


@TRANSFORMS.register_module()
@dataclass(eq=False)
class CoarseDropout(Transform):
    """Cover rectangles with one colour, as if something stood in front; labels stay, so the model learns to guess.

    Args:
        holes: Range of the number of rectangles.
        size: Range of their sides as a share of the image's.
        fill: Colour, or None for a random one each.
    """

    prob: float = 0.1
    holes: tuple[int, int] = (1, 3)
    size: tuple[float, float] = (0.1, 0.4)
    fill: Sequence[int] | None = (0, 0, 0)

    def transform(self, results: Sample) -> Sample:
        """Cover parts of ``img`` with the given probability."""
        if np.random.rand() >= self.prob:
            return results
        image = results['img'].copy()
        height, width = image.shape[:2]
        for _ in range(np.random.randint(self.holes[0], self.holes[1] + 1)):
            h, w = (np.random.uniform(*self.size, 2) * (height, width)).astype(int)
            y, x = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
            image[y : y + h, x : x + w] = np.random.randint(0, 256, 3) if self.fill is None else self.fill
        results['img'] = image
        return results


@TRANSFORMS.register_module()
@dataclass(eq=False)
class RandomConvolution(Transform):
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
class RandomLight(Transform):
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
