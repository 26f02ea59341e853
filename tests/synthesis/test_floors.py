# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Floors can be tiled, and keep their colour from near to far."""

import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.synthesis.floors import photo_floor, procedural_floor, seamless
from sapiens.synthesis.ground import SRGB_TO_LINEAR, Ground


def jump(texture):
    """How much more neighbours differ across the border of a tile than across the sharpest line inside, both ways."""
    x = texture.astype(float)
    x = x.reshape(*x.shape[:2], -1)
    inside = [np.abs(np.diff(x, axis=a)).mean((1 - a, 2)).max() for a in (0, 1)]
    across = [np.abs(x.take(0, a) - x.take(-1, a)).mean() for a in (0, 1)]
    return max(b / max(a, 1.0) for a, b in zip(inside, across, strict=True))


@pytest.mark.parametrize('seed', range(8))
def test_procedural_floors_tile(seed):
    ground = procedural_floor(np.random.default_rng(seed))
    assert ground.texture.shape == (512, 512, 3) and ground.texture.dtype == np.uint8
    assert 1 < ground.scale < 4 and ground.texture.std() > 1
    assert jump(ground.texture) < 1.5


def test_photographs_become_seamless_and_take_a_colour():
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 180, 256)[None] + rng.normal(0, 6, (256, 256))
    photo = np.clip(ramp, 0, 255).astype(np.uint8)
    tiled = seamless(photo)
    assert tiled.shape == (192, 192)
    assert jump(photo) > 5 and jump(tiled) < 1.5
    floor = photo_floor(tiled, ((40, 80, 40),), rng)
    mean = floor.texture.reshape(-1, 3).mean(0)
    assert mean[1] > 1.5 * mean[0]


def test_a_pixel_sees_texels_when_near_and_their_mean_when_far():
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:, ::2] = 200
    ground = Ground(texture, scale=1.0)
    points = np.zeros((1, 3, 3), np.float32)
    points[..., 2] = 0.5 / 64  # the centre of a bright texel: columns run along z
    hit = np.array([[True, True, False]])
    out = ground.albedo(points, np.array([[1 / 640, 0.5, 1]], np.float32), hit)
    light = SRGB_TO_LINEAR[200]
    assert out[0, 0] == pytest.approx(light, rel=1e-3)
    assert out[0, 1] == pytest.approx(light / 2, rel=1e-3)
    assert (out[0, 2] == 0).all()
