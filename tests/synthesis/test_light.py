# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Light keeps its energy, pictures their order of brightness."""

import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.synthesis.environment import LUMA, directions, procedural_sky, sample_lights, turn, washed
from sapiens.synthesis.shading import expose


@pytest.fixture
def sky():
    return procedural_sky(np.random.default_rng(1))


def test_lights_have_the_energy_of_the_sky(sky):
    height = len(sky.radiance)
    solid = np.sin((np.arange(height) + 0.5) / height * np.pi)[:, None, None] * (np.pi / height) ** 2
    whole = (sky.radiance * solid).sum((0, 1))
    drawn = np.mean([sample_lights(sky, 32, np.random.default_rng(i)).irradiance.sum(0) for i in range(40)], axis=0)
    assert drawn == pytest.approx(whole, rel=0.03)


def test_lights_come_from_where_it_is_bright():
    sky = procedural_sky(np.random.default_rng(0))
    sky.radiance[:] = 0.01
    sky.radiance[8, 40] = 500
    lights = sample_lights(sky, 16, np.random.default_rng(0))
    sun = directions(len(sky.radiance))[8, 40]
    assert (lights.direction @ sun > 0.999).mean() > 0.8


def test_washing_takes_colour_and_no_brightness(sky):
    half, none = washed(sky, 0.5), washed(sky, 0.0)
    assert half.radiance @ LUMA == pytest.approx(sky.radiance @ LUMA, rel=1e-4)
    assert np.ptp(half.radiance, axis=-1) == pytest.approx(0.5 * np.ptp(sky.radiance, axis=-1), rel=1e-3, abs=1e-6)
    assert np.ptp(none.radiance, axis=-1).max() < 1e-4 * sky.radiance.max()


def test_a_full_turn_changes_nothing(sky):
    assert (turn(turn(sky, 0.25), 0.75).radiance == sky.radiance).all()


def test_exposure_keeps_order_and_never_overflows():
    ramp = np.geomspace(1e-3, 1e3, 64, dtype=np.float32)
    radiance = np.repeat(np.repeat(ramp[None, :, None], 8, 0), 3, 2)
    picture = expose(radiance, np.ones(radiance.shape[:2], np.float32), 0.15)
    assert picture.dtype == np.uint8 and (np.diff(picture[0, :, 0].astype(int)) >= 0).all()
    assert picture.min() < 10 and picture.max() > 200


@pytest.mark.parametrize('light', [0.01, 1.0, 100.0])
def test_people_come_out_alike_in_any_light(light):
    rng = np.random.default_rng(0)
    radiance = (light * rng.uniform(0.5, 1.5, (40, 30, 3))).astype(np.float32)
    coverage = np.zeros((40, 30), np.float32)
    coverage[10:30, 8:22] = 1
    people = expose(radiance, coverage, 0.15)[10:30, 8:22]
    assert 90 < np.median(people) < 165 and people.max() < 235


def test_a_face_above_dark_clothes_does_not_burn_out():
    radiance = np.full((40, 30, 3), 0.05, np.float32)
    radiance[:8] = 1.0  # a fifth of the person is twenty times as bright
    picture = expose(radiance, np.ones((40, 30), np.float32), 0.15)
    assert picture[:8].max() < 235 and picture[20:].min() > 15
