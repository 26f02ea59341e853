# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Mirror a sample, whatever labels it carries."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS
from .fields import Sample, flip_sample


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Mirror left to right: pixels, points and vectors move, left and right parts and points exchange names.

    Cheapest behind the warp or crop to the input's size.

    Args:
        prob: Probability.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def transform(self, results: Sample) -> Sample:
        """Mirror with the given probability."""
        return flip_sample(results) if np.random.rand() < self.prob else results
