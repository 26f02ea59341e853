# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Samples of the fixture people: labels agree with each other, and seed and index decide everything."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.errors import UserError
from sapiens.synthesis import contact
from sapiens.synthesis.fixture_assets import FixtureAssets
from sapiens.synthesis.labels import InvalidSample, check
from sapiens.synthesis.scene import PRESETS, Recipe, draw_sample
from sapiens.synthesis.sensor import Sensor
from sapiens.vocabularies import convert_keypoints, load_vocabulary

RECIPE = Recipe(size=(128, 96), persons=(1, 2), samples=1, lights=8)
NAMES = load_vocabulary('keypoints308').names


@pytest.fixture(scope='module')
def samples():
    return [draw_sample(FixtureAssets(), RECIPE, 5, i) for i in range(8)]


def front(framing):
    """Somebody who stands and looks at us."""
    recipe = replace(RECIPE, framings=(framing,), persons=(1, 1), families=('standing',), size=(256, 192))
    for index in range(40):
        sample = draw_sample(FixtureAssets(), recipe, 9, index)
        k = sample.labels.persons[0]['keypoints']
        eyes = k[[NAMES.index('left_eye'), NAMES.index('right_eye')]]
        if (eyes[:, 2] == 2).all() and abs(eyes[0, 0] - eyes[1, 0]) > 8 * abs(eyes[0, 1] - eyes[1, 1]):
            return sample, dict(zip(NAMES, k, strict=True))
    raise AssertionError('nobody looks at us')


def test_samples_pass_their_own_check(samples):
    for sample in samples:
        check(sample.labels, sample.camera, sample.image)


def test_depth_and_keypoints_agree_with_the_camera(samples):
    for sample in samples:
        for person in sample.labels.persons:
            k = person['keypoints']
            assert k.shape == (308, 3)
            outside = k[:, 2] == 0
            assert (k[outside] == 0).all()


def test_normals_match_the_gradient_of_depth():
    recipe = replace(RECIPE, size=(384, 288), framings=('upper',), persons=(1, 1))
    sample = draw_sample(FixtureAssets(), recipe, 3, 1)
    z, k = sample.labels.depth.astype(np.float64), sample.camera.intrinsics
    rows, columns = np.mgrid[: z.shape[0], : z.shape[1]]
    points = np.stack([(columns - k[0, 2]) / k[0, 0] * z, (rows - k[1, 2]) / k[1, 1] * z, z], -1)
    dx, dy = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    n = np.cross(dy, dx)
    n = n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-12) * [1, -1, -1]
    near = np.abs(dx[..., 2]) + np.abs(dy[..., 2]) < 0.01
    inner = near & (np.minimum.reduce([z[1:-1, 1:-1], z[1:-1, 2:], z[1:-1, :-2], z[2:, 1:-1], z[:-2, 1:-1]]) > 0)
    angle = np.degrees(np.arccos(np.clip((n * sample.labels.normals[1:-1, 1:-1]).sum(-1), -1, 1)))
    assert inner.sum() > 1000
    assert np.median(angle[inner]) < 10  # flat triangles of a coarse body against its smooth normals


def test_left_and_right_in_front_of_the_camera():
    sample, k = front('upper')
    assert k['left_eye'][0] > k['right_eye'][0]  # a person who faces us has the left eye on the right of the picture
    assert k['left_shoulder'][0] > k['right_shoulder'][0]
    names = load_vocabulary('parts28').names
    assert sample.labels.normals[sample.labels.instances == 1][:, 2].mean() > 0.4
    parts = sample.labels.parts
    left, right = (np.isin(parts, [i for i, n in enumerate(names) if n.startswith(s)]) for s in ('Left_', 'Right_'))
    if left.any() and right.any():
        assert np.nonzero(left)[1].mean() > np.nonzero(right)[1].mean()


def test_sub_points_run_from_image_left_to_image_right():
    _, k = front('face')
    for side in 'lr':
        for line in ('upper_lash_line', 'lower_lash_line', 'upper_eyelid_line', 'upper_crease_line'):
            order = [k[f'{side}_midpoint_{i}_of_{line}'][0] for i in (3, 1, 4)]
            order += [k[f'{side}_centerpoint_of_{line}'][0]]
            order += [k[f'{side}_midpoint_{i}_of_{line}'][0] for i in (5, 2, 6)]
            assert order == sorted(order)
        assert k[f'{side}_border_of_iris_9'][0] < k[f'{side}_center_of_iris'][0] < k[f'{side}_border_of_iris_3'][0]
        assert k[f'{side}_border_of_iris_12'][1] < k[f'{side}_border_of_iris_6'][1]
    lips = [k[f'midpoint_{i}_of_upper_outer_lip'][0] for i in (3, 1, 4, 5, 2, 6)]
    assert lips == sorted(lips)
    brow = [k[f'upper_midpoint_{i}_of_r_eyebrow'][0] for i in (2, 1, 3)]
    assert brow == sorted(brow) and k['end_of_r_eyebrow'][0] < brow[0] < k['upper_startpoint_of_r_eyebrow'][0]


def test_swap_table_mirrors_the_fixture():
    from sapiens.synthesis import fixture

    actor = fixture.build(np.random.default_rng(2))
    vocabulary = load_vocabulary('keypoints308')
    mirrored = actor.keypoints[vocabulary.swap] * [-1, 1, 1]
    assert np.abs(mirrored - actor.keypoints).max() < 1e-9


def test_smaller_vocabularies_are_derived(samples):
    k = samples[0].labels.persons[0]['keypoints']
    for name, count in (('wholebody133', 114), ('coco17', 17)):
        points, scores = convert_keypoints(k[:, :2], k[:, 2], 'keypoints308', name)
        assert np.isfinite(points).all(-1).sum() >= count


def test_people_do_not_share_pixels_and_occlusion_hides(samples):
    crowd = [s for s in samples if len(s.labels.persons) == 2]
    assert crowd
    for sample in crowd:
        assert set(np.unique(sample.labels.instances)) <= {0, 1, 2}
        for number, person in enumerate(sample.labels.persons, 1):
            k = person['keypoints']
            hidden = k[k[:, 2] == 1]
            other = sample.labels.instances[tuple(np.rint(hidden[:, [1, 0]]).astype(int).T)]
            seen = k[k[:, 2] == 2]
            # Nothing that the other person covers entirely counts as visible.
            for x, y, _ in seen:
                window = sample.labels.instances[
                    max(int(round(y)) - 1, 0) : int(round(y)) + 2, max(int(round(x)) - 1, 0) : int(round(x)) + 2
                ]
                assert (window == number).any()
            assert other.size == len(hidden)


def test_seed_and_index_decide_everything():
    first = draw_sample(FixtureAssets(), RECIPE, 5, 3)
    again = draw_sample(FixtureAssets(), RECIPE, 5, 3)
    other = draw_sample(FixtureAssets(), RECIPE, 6, 3)
    assert (first.image == again.image).all() and (first.labels.depth == again.labels.depth).all()
    assert not (first.image == other.image).all()


def test_sensor_changes_the_picture_but_no_label():
    still = draw_sample(FixtureAssets(), replace(RECIPE, sensor=Sensor(0, 0, 0, 0)), 5, 2)
    noisy = draw_sample(FixtureAssets(), replace(RECIPE, sensor=Sensor(1, 1, 2, 1)), 5, 2)
    assert (still.labels.parts == noisy.labels.parts).all()
    assert not (still.image == noisy.image).all()


def test_presets():
    for name, options in PRESETS.items():
        sample = draw_sample(FixtureAssets(), replace(RECIPE, size=(160, 120), **options), 1, 0)
        assert len(sample.labels.persons) <= {'thuman-like': 1, 'hi4d-like': 2}[name]


@pytest.mark.parametrize('damage, message', [
    (lambda s: s.labels.depth.__setitem__(s.labels.instances > 0, np.nan), 'depth'),
    (lambda s: s.labels.normals.__imul__(0.5), 'unit'),
    (lambda s: s.labels.parts.__setitem__(slice(None), 0), 'parts'),
    (lambda s: s.labels.persons[0]['keypoints'].__setitem__((0, slice(None)), (1e4, 5, 2)), 'outside'),
])  # fmt: skip
def test_check_refuses_broken_labels(damage, message):
    sample = draw_sample(FixtureAssets(), RECIPE, 5, 1)
    damage(sample)
    with pytest.raises(InvalidSample, match=message):
        check(sample.labels, sample.camera, sample.image)


def test_an_iris_is_never_seen_from_behind():
    clock = ('3', 'midpoint_1', '12', 'midpoint_4', '9', 'midpoint_3', '6', 'midpoint_2')
    recipe = replace(RECIPE, size=(96, 72), persons=(1, 4))
    seen = 0
    for index in (2, 3, 11, 14, 15):  # somebody in profile, whose far eye is less than a pixel under the skin
        for person in draw_sample(FixtureAssets(), recipe, 2, index).labels.persons:
            for side in 'lr':
                ring = person['keypoints'][[NAMES.index(f'{side}_border_of_iris_{c}') for c in clock]]
                if (ring[:, 2] == 2).all():
                    x, y = (ring[:, :2].astype(float) - ring[0, :2]).T
                    assert (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() < 0
                    seen += 1
    assert seen > 2


def test_a_draw_that_is_thrown_away_counts_once(monkeypatch):
    monkeypatch.setattr(contact, 'overlap', lambda *_: 1.0)
    with pytest.raises(UserError, match=r"failed 2 times .*'people overlap': 2\b"):
        draw_sample(FixtureAssets(), replace(RECIPE, persons=(2, 2)), 1, 0, attempts=2)
