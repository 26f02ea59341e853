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


def test_panoramas_of_the_users_own(tmp_path):
    import cv2

    from sapiens.errors import UserError
    from sapiens.synthesis.environment import read_environment

    picture = np.zeros((64, 128, 3), np.float32)
    picture[:20] = (5.0, 2.0, 1.0)  # blue, green, red: a blue sky
    cv2.imwrite(str(tmp_path / 'sky.hdr'), picture)
    found = read_environment(str(tmp_path / 'sky.hdr'), height=32)
    assert found.name == 'sky' and found.radiance.shape == (32, 64, 3)
    np.testing.assert_allclose(found.radiance[3, 5], (1, 2, 5), rtol=0.02)
    assert found.along(np.array([[[0.0, 1.0, 0.0]]]))[0, 0, 2] > 4
    for name, wrong in (('square', np.ones((64, 64, 3), np.float32)), ('black', np.zeros((16, 32, 3), np.float32))):
        cv2.imwrite(str(tmp_path / f'{name}.hdr'), wrong)
        with pytest.raises(UserError, match=f'{name}.hdr: is '):
            read_environment(str(tmp_path / f'{name}.hdr'))


def test_panoramas_light_most_pictures_and_leave_other_recipes_alone(tmp_path):
    import cv2

    from sapiens.synthesis.job import Job, _describe
    from sapiens.synthesis.library import load_assets
    from sapiens.synthesis.scene import Recipe, draw_sample

    cv2.imwrite(str(tmp_path / 'sky.hdr'), np.ones((16, 32, 3), np.float32))
    plain = Recipe(size=(64, 48), persons=(1, 1))
    own = Recipe(size=(64, 48), persons=(1, 1), hdris=(str(tmp_path / 'sky.hdr'),))
    names = [draw_sample(load_assets('fixture'), own, 3, i).info['environment'] for i in range(6)]
    assert 2 <= names.count('sky') <= 6
    assert 'hdris' not in _describe(Job('x', 1, 0, 0, plain, 'fixture'))
    assert _describe(Job('x', 1, 0, 0, own, 'fixture'))['hdris'] == ['sky']
