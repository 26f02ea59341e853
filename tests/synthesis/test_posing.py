# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Joint angles mean what their names say, poses keep their limits, contacts hold."""

from collections import Counter

import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.synthesis import contact, fixture, poses
from sapiens.synthesis.actor import pose_actor, surface_points, transforms_of
from sapiens.synthesis.crowd import pose_for
from sapiens.synthesis.posing import Pose, bone_rotations, neutral, within_limits
from sapiens.synthesis.skeleton import rotation, skin


@pytest.fixture(scope='module')
def skeleton():
    return fixture.build(np.random.default_rng(0)).skeleton


def joints(skeleton, angles):
    t = skeleton.transforms(bone_rotations(skeleton, Pose(angles)), np.eye(3), np.zeros(3))
    at = contact.joints(skeleton, t)
    return lambda name: at[skeleton.index[name]]


def flat():
    angles = neutral()
    for side in 'LR':
        angles[f'shoulder.{side}'] = np.zeros(3)
        angles[f'elbow.{side}'] = np.zeros(1)
        angles[f'hip.{side}'] = np.zeros(3)
        angles[f'knee.{side}'] = np.zeros(1)
    return angles


@pytest.mark.parametrize('side', ['L', 'R'])
def test_arm_directions(skeleton, side):
    sign = 1 if side == 'L' else -1
    for shoulder, expected in (
        ((0, 0, 0), (0, -1, 0)),
        ((90, 90, 0), (0, 0, 1)),
        ((40, 0, 0), (sign * np.sin(np.radians(40)), -np.cos(np.radians(40)), 0)),
    ):
        angles = flat()
        angles[f'shoulder.{side}'] = np.array(shoulder, float)
        at = joints(skeleton, angles)
        d = at(f'lowerarm01.{side}') - at(f'upperarm01.{side}')
        assert d / np.linalg.norm(d) @ np.array(expected) > 0.995
    angles = flat()
    angles[f'elbow.{side}'] = np.array([90.0])
    at = joints(skeleton, angles)
    d = at(f'wrist.{side}') - at(f'lowerarm01.{side}')
    assert d[2] / np.linalg.norm(d) > 0.99  # a bent elbow brings the forearm forward


@pytest.mark.parametrize('side', ['L', 'R'])
def test_leg_directions(skeleton, side):
    angles = flat()
    angles[f'hip.{side}'] = np.array([90.0, 0, 0])
    angles[f'knee.{side}'] = np.array([90.0])
    at = joints(skeleton, angles)
    thigh = at(f'lowerleg01.{side}') - at(f'upperleg01.{side}')
    shin = at(f'foot.{side}') - at(f'lowerleg01.{side}')
    assert thigh[2] / np.linalg.norm(thigh) > 0.99
    assert shin[1] / np.linalg.norm(shin) < -0.99


def test_left_is_the_persons_left(skeleton):
    at = joints(skeleton, flat())
    assert at('upperarm01.L')[0] > 0 > at('upperarm01.R')[0]
    assert at('toe1-1.L')[2] > at('foot.L')[2]  # toes point to the front, +z


@pytest.mark.parametrize('family', sorted(poses.FAMILIES))
def test_families_stay_within_limits(family):
    rng = np.random.default_rng(1)
    for _ in range(30):
        assert within_limits(poses.draw(rng, family))


def test_limits_catch_a_bent_back_elbow():
    angles = neutral()
    angles['elbow.L'] = np.array([-20.0])
    pose = Pose(angles)
    assert not within_limits(pose)
    assert within_limits(pose.clipped())


def test_standing_figures_touch_the_ground_with_both_feet():
    rng = np.random.default_rng(3)
    for _ in range(6):
        actor = fixture.build(rng)
        pose = contact.settle_feet(actor.skeleton, poses.draw(rng, 'standing'))
        figure = pose_actor(actor, pose, 30, np.zeros(2))
        assert abs(figure.mesh.vertices[:, 1].min()) < 1e-5
        t = actor.skeleton.transforms(bone_rotations(actor.skeleton, pose), pose.tilt, np.zeros(3))
        assert abs(contact._sole(actor.skeleton, t, 'L') - contact._sole(actor.skeleton, t, 'R')) < 0.02


def test_self_collision_sees_shins_in_each_other(skeleton):
    angles = flat()
    good = skeleton.transforms(bone_rotations(skeleton, Pose(angles)), np.eye(3), np.zeros(3))
    assert contact.self_collision(skeleton, good) <= 0.012
    for side in 'LR':
        angles[f'hip.{side}'] = np.array([0.0, -15, 0])
    bad = skeleton.transforms(bone_rotations(skeleton, Pose(angles)), np.eye(3), np.zeros(3))
    assert contact.self_collision(skeleton, bad) > 0.012


def test_segment_distances_against_sampling():
    rng = np.random.default_rng(0)
    a, b, c, d = rng.normal(size=(4, 8, 3))
    exact = contact.segment_distances(a, b, c, d)
    t = np.linspace(0, 1, 101)[:, None, None]
    first, second = a + (b - a) * t, c + (d - c) * t
    sampled = np.linalg.norm(first[:, None, :, None] - second[None, :, None], axis=-1).min((0, 1))
    assert (exact <= sampled + 1e-9).all() and (sampled - exact).max() < 0.03


def test_balance_rejects_a_leaning_tower(skeleton):
    upright = skeleton.transforms(bone_rotations(skeleton, Pose(flat())), np.eye(3), np.zeros(3))
    tilted = skeleton.transforms(bone_rotations(skeleton, Pose(flat())), rotation((1, 0, 0), -35), np.zeros(3))
    assert contact.balanced(skeleton, upright)
    assert not contact.balanced(skeleton, tilted)


def test_skinning_is_linear_and_rigid():
    points = np.random.default_rng(0).normal(size=(50, 3))
    r = rotation((1, 2, 3), 40)
    transforms = np.concatenate([np.stack([np.eye(3), r]), np.array([[[0], [0], [0]], [[1.0], [2], [3]]])], -1)
    bones = np.tile(np.array([[0, 1]], np.int16), (50, 1))
    whole = skin(points, bones, np.tile(np.array([[0, 1.0]], np.float32), (50, 1)), transforms)
    half = skin(points, bones, np.full((50, 2), 0.5, np.float32), transforms)
    moved = points @ r.T + [1, 2, 3]
    assert np.abs(whole - moved).max() < 1e-5
    assert np.abs(half - (points + moved) / 2).max() < 1e-5


def test_a_tilted_box_settles_flat_and_a_pole_falls_over():
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-0.2, 0.2) for z in (-2, 2)], float)
    tilted = corners @ (rotation((1, 0, 0), 11) @ rotation((0, 0, 1), -7)).T
    settled = tilted @ contact.settle_body(tilted, np.zeros(3), 15).T
    assert np.ptp(np.sort(settled[:, 1])[:4]) < 0.02  # four corners carry it
    pole = corners[:, [0, 2, 1]] * [0.1, 1, 1] @ rotation((0, 0, 1), 12).T
    assert contact.settle_body(pole, np.zeros(3), 15) is None


@pytest.mark.parametrize('family', ['lying', 'floor_sitting', 'kneeling'])
def test_who_is_on_the_ground_rests_on_it(family):
    rejected = Counter()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        actor = fixture.build(rng)
        pose = pose_for(actor, (family,), (), rng, rejected)
        figure = pose_actor(actor, pose, 0, np.zeros(2))
        transforms = transforms_of(actor, pose, pose.tilt)
        mass = contact.centre_of_mass(actor.skeleton, contact.joints(actor.skeleton, transforms))
        again = contact.settle_body(surface_points(actor, transforms), mass, 15)
        assert np.degrees(np.arccos(np.clip((np.trace(again) - 1) / 2, -1, 1))) < 1.5
        low = figure.mesh.vertices[figure.mesh.vertices[:, 1] < 0.03][:, [0, 2]]
        assert np.ptp(low, axis=0).max() > 0.25  # it does not stand on one point
