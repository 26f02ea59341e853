# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Confidence intervals by resampling images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def bootstrap_intervals(
    num_images: int,
    statistic: Callable[[np.ndarray], dict[str, float]],
    resamples: int,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of figures computed on images drawn with replacement.

    Args:
        statistic: Takes ``(N,)`` integer weights (how often each image was drawn), returns the figures.
        resamples: Number of draws; 0 gives no intervals.

    Returns:
        ``{figure: (low, high)}``; a figure that was undefined (NaN or -1) in more than half of the draws is absent,
        and so is everything when there are fewer than two images.
    """
    if resamples <= 0 or num_images < 2:
        return {}
    random = np.random.default_rng(seed)
    chances = np.full(num_images, 1 / num_images)
    draws: dict[str, list[float]] = {}
    for _ in range(resamples):
        for name, value in statistic(random.multinomial(num_images, chances)).items():
            draws.setdefault(name, []).append(value)
    intervals = {}
    for name, values in draws.items():
        numbers = np.array(values, np.float64)
        numbers = numbers[np.isfinite(numbers) & (numbers != -1)]
        if len(numbers) * 2 > resamples:
            low, high = np.quantile(numbers, [0.025, 0.975])
            intervals[name] = (float(low), float(high))
    return intervals
