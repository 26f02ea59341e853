# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The assets that need no download: people of ellipsoids, procedural skies and floors."""

from __future__ import annotations

import cv2
import numpy as np

from . import fixture
from .actor import Actor
from .environment import Environment, procedural_sky


def noise_texture(rng: np.random.Generator, side: int = 128) -> np.ndarray:
    """A tileable floor of random colours and grains. ``(side, side, 3)`` uint8."""
    # Floors are grey, brown or green, seldom bright.
    grey = rng.uniform(45, 190)
    base = (grey + rng.normal(0, 1, 3) * rng.choice([5, 14, 30], p=[0.5, 0.4, 0.1])).clip(20, 225).astype(np.float32)
    texture = np.zeros((side, side), np.float32)
    for octave in range(2, 7):
        cells = 2**octave
        grid = np.tile(rng.normal(0, 1, (cells, cells)).astype(np.float32), (3, 3))
        big = cv2.resize(grid, (3 * side, 3 * side), interpolation=cv2.INTER_CUBIC)
        texture += big[side : 2 * side, side : 2 * side] * rng.uniform(4, 16)
    if rng.random() < 0.4:  # planks or tiles
        n = int(rng.integers(2, 7))
        y, x = np.mgrid[:side, :side] / side * n
        texture -= 40 * ((y % 1 < 0.05) | ((x % 1 < 0.05) & bool(rng.random() < 0.5)))
    tint = 1 + rng.normal(0, 0.08, 3).astype(np.float32)
    return np.clip(base + texture[..., None] * tint, 0, 255).astype(np.uint8)


class FixtureAssets:
    """Everything by code; see `scene.Assets`."""

    name = 'fixture'
    poses = ()

    def actor(self, rng: np.random.Generator) -> Actor:
        """A random person."""
        return fixture.build(rng)

    def environment(self, rng: np.random.Generator) -> Environment:
        """Random light."""
        return procedural_sky(rng)

    def ground(self, rng: np.random.Generator) -> np.ndarray:
        """A random floor."""
        return noise_texture(rng)
