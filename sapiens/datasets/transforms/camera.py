# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What photographs go through and renders do not: bad cameras, small pictures, heavy compression, no colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ...registry import TRANSFORMS
from .base import Transform
from .fields import Sample


@TRANSFORMS.register_module()
@dataclass(eq=False)
class RandomCamera(Transform):
    """Each effect with its own probability, in the order in which a picture meets them; labels stay.

    Args:
        white_balance_prob: A wrong white balance, and
        white_balance: the standard deviation of the logarithm of red and blue gain.
        gamma_prob: Another exposure curve, and
        gamma: the standard deviation of the logarithm of its exponent.
        grey_prob: No colours.
        low_resolution_prob: Reduced and enlarged again, by a factor in
        low_resolution: this range.
        noise_prob: Noise with a standard deviation up to
        noise: this many grey levels.
        jpeg_prob: Compression with a quality in
        jpeg: this range.
    """

    white_balance_prob: float = 0.3
    white_balance: float = 0.15
    gamma_prob: float = 0.3
    gamma: float = 0.3
    grey_prob: float = 0.08
    low_resolution_prob: float = 0.25
    low_resolution: tuple[float, float] = (1.3, 4.0)
    noise_prob: float = 0.2
    noise: float = 15.0
    jpeg_prob: float = 0.2
    jpeg: tuple[int, int] = (15, 85)

    def transform(self, results: Sample) -> Sample:
        """Replace ``img``."""
        image = results['img']
        tables = self._tables()
        if tables is not None:
            image = cv2.LUT(image, tables)
        if np.random.rand() < self.grey_prob:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if np.random.rand() < self.low_resolution_prob:
            image = low_resolution(image, np.random.uniform(*self.low_resolution), np.random.randint(2))
        if np.random.rand() < self.noise_prob:
            noise = np.empty(image.shape, np.int16)
            cv2.setRNGSeed(np.random.randint(2**31))
            cv2.randn(noise, np.zeros(1), np.full(1, np.random.uniform(0, self.noise)))
            image = cv2.add(image, noise, dtype=cv2.CV_8U)
        if np.random.rand() < self.jpeg_prob:
            quality = int(np.random.uniform(*self.jpeg))
            # The order of the channels hardly matters to the encoder, and it comes back as it went in.
            data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        results['img'] = image
        return results

    def _tables(self) -> np.ndarray | None:
        """White balance and exposure as one ``(256, 1, 3)`` look-up table; None for neither."""
        gains, exponent = np.zeros(3), 1.0
        if np.random.rand() < self.white_balance_prob:
            gains[[0, 2]] = np.random.randn(2) * self.white_balance
        if np.random.rand() < self.gamma_prob:
            exponent = np.exp(np.random.randn() * self.gamma)
        if exponent == 1.0 and not gains.any():
            return None
        levels = (np.arange(256) / 255.0)[:, None] ** exponent * np.exp(gains) * 255
        return np.clip(levels + 0.5, 0, 255).astype(np.uint8)[:, None]


def low_resolution(image: np.ndarray, factor: float, smooth: int) -> np.ndarray:
    """Reduce by a factor and enlarge to the old size, smoothly or in blocks' interpolation."""
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(1, round(width / factor)), max(1, round(height / factor))), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC if smooth else cv2.INTER_LINEAR)
