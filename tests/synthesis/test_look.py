# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Skin, hair, lens, seats and the darkening at the feet have the colours and shapes that they should have."""

import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.synthesis import floors, shadows
from sapiens.synthesis.environment import procedural_sky, sample_lights
from sapiens.synthesis.ground import contact_shade
from sapiens.synthesis.lens import defocus, disc, spread
from sapiens.synthesis.makehuman import colors, dressing, skin
from sapiens.synthesis.mesh import Material, Mesh, join


@pytest.mark.parametrize('dark', [False, True])
def test_skin_is_neither_chalk_nor_brick(dark):
    rng = np.random.default_rng(0)
    tones = np.array([skin.skin_color(dark, rng) for _ in range(1000)])
    red, green, blue = tones.T
    assert (red > green).all() and (green > blue * 0.98).all() and tones.min() > 35 and tones.max() < 245
    assert (red / blue > 1.05).all() and (red / blue < 2.1).all()
    assert np.ptp(tones.mean(1)) > 60


def test_a_skin_texture_takes_the_tone_and_keeps_its_detail():
    rng = np.random.default_rng(0)
    texture = np.full((64, 64, 4), 255, np.uint8)
    texture[..., :3] = np.clip([205, 160, 130] + rng.normal(0, 6, (64, 64, 1)), 0, 255)
    red = tuple(np.zeros((64, 64, 4), np.uint8) for _ in range(2))
    red[1][20:30, 20:30] = 20, 102, 87, 0
    tone = np.array([120.0, 86, 66])
    out = skin.toned(texture, tone, red, False, np.random.default_rng(1))
    plain = red[1].max(-1) == 0
    assert np.median(out[plain][:, :3], axis=0) == pytest.approx(tone, abs=3)
    assert (out[..., 3] == 255).all() and out[plain][:, 0].std() > 2
    ratio = out[..., 0].astype(float) / out[..., 1]
    assert ratio[25, 25] > 1.05 * np.median(ratio[plain])


def test_strands_keep_detail_without_dark_patches():
    rng = np.random.default_rng(0)
    texture = np.full((256, 256, 4), 255, np.uint8)
    patch = np.where(np.arange(256) < 128, 40, 160)[:, None]
    texture[..., :3] = np.clip(patch * (1 + 0.15 * rng.choice([-1, 1], (1, 256))), 0, 255)[..., None]
    even = colors.strands(texture)[..., 0].astype(float)
    assert even[200:].mean() / even[:56].mean() < 1.7  # 4 before
    assert even[220].std() / even[220].mean() == pytest.approx(0.15, abs=0.05)


def test_eyes_are_not_lamps():
    texture = dressing.iris_texture(np.array([90.0, 70, 50]), np.random.default_rng(0))
    assert texture[..., :3].max() < 225
    middle = len(texture) // 2
    assert texture[middle, middle, :3].max() < 12
    assert texture[10, middle, :3].mean() < 0.75 * texture[-10, middle, :3].mean()  # the lid shades the upper part


def test_a_disc_spreads_a_point_evenly():
    kernel = disc(4.0)
    assert kernel.sum() == pytest.approx(1, abs=1e-5) and (kernel == kernel.T).all()
    assert 1 / kernel.max() == pytest.approx(np.pi * 4**2, rel=0.05)


def test_defocus_keeps_brightness_and_leaves_the_hidden_out():
    picture = np.full((60, 80, 3), 2.0, np.float32)
    known = np.ones((60, 80), bool)
    known[20:40, 30:50] = False
    picture[~known] = 1000
    out = defocus(picture, known, np.full(known.shape, 6, np.float32), 6.0)
    assert out[known] == pytest.approx(2.0, rel=1e-3)
    sharp = defocus(picture, known, np.zeros(known.shape, np.float32), 6.0)
    assert (sharp == picture).all()


def test_lens_is_sharp_at_the_people_and_blurs_with_distance():
    radius = spread(np.array([2.0, 3.0, 6.0, 60.0, 0.0]), 3.0, 10.0)
    assert radius[:2].tolist() == [0, 0] and (np.diff(radius[1:]) > 0).all() and radius[-1] == 10


def _box(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    points = np.array([[x, y, z] for y in (low, high) for x in (-0.2, 0.2) for z in (-0.2, 0.2)], np.float32)
    return points, np.array([[0, 1, 3], [0, 3, 2], [4, 7, 5], [4, 6, 7]], np.int32)


def test_floor_is_darker_where_something_stands():
    x, z = np.meshgrid(np.linspace(-1.5, 1.5, 31), np.linspace(-1.5, 1.5, 31))
    points = np.stack([x, np.zeros_like(x), z], -1)
    stands, hovers = (contact_shade(points, *_box(low, 1.5)) for low in (0.0, 0.6))
    assert stands[15, 15] < 0.3 and stands[0, 0] == 1 and stands.min() > 0
    assert stands[15, 17] == pytest.approx(stands[15, 13], abs=0.05)
    assert stands[15, 12] > stands[15, 15] and hovers.min() > 0.99


def test_holes_cast_no_shadow():
    texture = np.full((8, 8, 4), 255, np.uint8)
    texture[:, 4:, 3] = 0
    points, faces = _box(0, 1)
    uv = np.full((4, 3, 2), 0.5, np.float32)
    uv[:2, :, 0], uv[2:, :, 0] = 0.2, 0.8
    for cutout, expected in ((True, [True, True, False, False]), (False, [True] * 4)):
        mesh = Mesh(points, faces, uv, np.zeros(4, np.int32), np.zeros(4, np.uint8), [Material(texture, cutout=cutout)])
        scene = join([mesh], [1])
        assert shadows.opaque(scene).tolist() == expected
    lights = sample_lights(procedural_sky(np.random.default_rng(0)), 4, np.random.default_rng(0))
    assert np.isfinite(shadows.shadow_maps(scene, lights, 64).maps).any()


def test_seats_are_textured_and_of_dull_colours():
    seats = [floors.seat_surface(np.random.default_rng(i)) for i in range(12)]
    assert all(s.texture.shape == (floors.SIDE, floors.SIDE, 3) and 0.3 < s.scale < 2 for s in seats)
    assert np.mean([np.ptp(s.texture.mean((0, 1))) for s in seats]) < 60
    assert min(s.texture.std() for s in seats) > 2
