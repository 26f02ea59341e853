# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Pictures for tests."""

import cv2
import numpy as np


def photo(height=120, width=90, seed=0):
    """A picture with structure: smoothed noise, RGB."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
