# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The path tracer draws the same scene as the rasterizer that makes the labels."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.errors import UserError
from sapiens.synthesis import fixture, mitsuba_renderer, mitsuba_variants
from sapiens.synthesis.actor import pose_actor
from sapiens.synthesis.camera import frame_points
from sapiens.synthesis.environment import Environment, directions, sample_lights
from sapiens.synthesis.fixture_assets import FixtureAssets
from sapiens.synthesis.ground import Ground
from sapiens.synthesis.job import Job, run
from sapiens.synthesis.mesh import Material, Mesh, join
from sapiens.synthesis.posing import Pose, neutral
from sapiens.synthesis.rasterizer import rasterize
from sapiens.synthesis.scene import Recipe, draw_sample
from sapiens.synthesis.shading import render_radiance

ROOT = Path(__file__).resolve().parents[2]
SIZE = (128, 96)


@pytest.fixture(scope='module')
def renderer():
    pytest.importorskip('mitsuba', reason='Mitsuba is not installed: pip install -e .[mitsuba]')
    return mitsuba_variants.choose()[0]


def lamp(axis, spread=60.0, ambient=0.2):
    axis = np.array(axis, np.float32) / np.linalg.norm(axis)
    radiance = ambient + 30 * np.exp(spread * (directions(32) @ axis - 1))
    return Environment(np.repeat(radiance[..., None], 3, -1).astype(np.float32))


@pytest.fixture(scope='module')
def person():
    figure = pose_actor(fixture.build(np.random.default_rng(0)), Pose(neutral()), 20, np.zeros(2))
    return join([figure.mesh], [1])


def square(texture, cutout=False):
    """An upright square of 1 m that faces +z."""
    corners = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0.5, 1, 0], [-0.5, 1, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uv = (corners[:, :2] + [0.5, 0])[faces].astype(np.float32)
    part = np.ones(2, np.uint8)
    return join([Mesh(corners, faces, uv, np.zeros(2, np.int32), part, [Material(texture, cutout, gloss=0.0)])], [1])


@pytest.mark.parametrize('roll, shift', [(0, (0, 0)), (0.3, (0.2, -0.1)), (0, (-0.2, 0.25))])
def test_silhouettes_coincide_with_the_labels(renderer, person, roll, shift):
    camera = frame_points(person.vertices, SIZE, 0.85, 0.4, 0.2, 1.2, roll, shift)
    _, coverage = mitsuba_renderer.render_radiance(
        person, camera, lamp((0, 1, 0)), None, Ground(None), np.zeros((*SIZE, 3), np.float32),
        renderer=renderer, spp=16,
    )  # fmt: skip
    label = rasterize(camera.to_camera(person.vertices), person.faces, camera.intrinsics, camera.size)[1] >= 0
    drawn = coverage > 0.5
    assert label.sum() > 500
    assert (label & drawn).sum() / (label | drawn).sum() > 0.98
    rows, columns = np.nonzero(label)
    middle = np.array([np.average(axis, weights=coverage) for axis in np.mgrid[: SIZE[0], : SIZE[1]]])
    assert np.abs(middle - [rows.mean(), columns.mean()]).max() < 0.3


@pytest.mark.parametrize('axis', [(1, 1, 0.4), (-1, 0.6, 0.2), (0.5, 1, -1)])
def test_light_and_textures_agree_with_the_other_renderer(renderer, axis):
    texture = np.full((8, 8, 4), 255, np.uint8)
    texture[:4, :, 0], texture[:, :4, 2] = 60, 60  # four different quarters
    scene = square(texture)
    camera = frame_points(scene.vertices * 2, SIZE, 0.9, 0.5, 0.35, 1.2, 0.15, (0.05, 0))
    environment = lamp(axis)
    floor = np.random.default_rng(0).integers(60, 250, (4, 4, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    lights = sample_lights(environment, 200, np.random.default_rng(0))
    ours, mask = render_radiance(scene, camera, environment, lights, Ground(floor, 1.5))
    theirs, same = mitsuba_renderer.render_radiance(
        scene, camera, environment, lights, Ground(floor, 1.5), renderer=renderer, spp=32
    )
    assert np.array_equal(mask, same)
    near = np.arange(SIZE[0])[:, None] >= 0.78 * SIZE[0]  # farther away the other renderer fades the floor
    for where in (mask > 0.99, (mask < 0.01) & near):
        first, second = ours[where], theirs[where]
        assert 0.75 < np.median(second) / np.median(first) < 1.35
        for channel in (0, 2):  # shadows and tiles of the floor, quarters of the texture
            assert np.corrcoef(first[:, channel], second[:, channel])[0, 1] > 0.8


def test_holes_are_holes(renderer):
    texture = np.full((8, 8, 4), 200, np.uint8)
    texture[:4, :, 3] = 0  # the upper half
    scene = square(texture, cutout=True)
    camera = frame_points(scene.vertices, SIZE, 0.9, 0, 0.1, 1.2)
    backdrop = np.full((*SIZE, 3), 7.0, np.float32)
    radiance, coverage = mitsuba_renderer.render_radiance(
        scene, camera, lamp((0, 1, 1)), None, Ground(None), backdrop, renderer=renderer, spp=4
    )
    points, _ = camera.project(np.array([[0.0, 0.8, 0], [0.0, 0.2, 0]]))
    (x0, y0), (x1, y1) = np.rint(points).astype(int)
    assert coverage[y0, x0] == 0 and np.allclose(radiance[y0, x0], 7)
    assert coverage[y1, x1] == 1 and radiance[y1, x1].max() < 6.9


def test_skin_closely_under_a_hole_is_seen(renderer):
    texture = np.full((8, 8, 4), 200, np.uint8)
    texture[2:6, 2:6, 3] = 0
    card = square(texture, cutout=True)
    points = np.concatenate([card.vertices, card.vertices - [0, 0, 8e-5]]).astype(np.float32)  # 0.08 mm
    skin = Mesh(points[4:], card.faces, card.uv, np.zeros(2, np.int32), card.part, [Material.plain((200, 200, 200))])
    front = Mesh(points[:4], card.faces, card.uv, np.zeros(2, np.int32), card.part, [Material(texture, True)])
    scene = join([skin, front], [1, 1])
    camera = frame_points(scene.vertices, SIZE, 0.9, 0, 0.1, 1.2)
    _, coverage = mitsuba_renderer.render_radiance(
        scene, camera, lamp((0, 1, 1)), None, Ground(None), np.zeros((*SIZE, 3), np.float32), renderer=renderer, spp=8
    )
    points = camera.to_camera(scene.vertices)
    label = rasterize(points, scene.faces, camera.intrinsics, SIZE)[1] >= 0
    inside = cv2.erode(label.astype(np.uint8), np.ones((3, 3))) > 0
    assert inside.sum() > 2000 and coverage[inside].min() == 1


def test_same_seed_same_picture_and_same_labels_as_numba(renderer):
    recipe = Recipe(size=(96, 72), persons=(1, 1), samples=1, lights=6, renderer=renderer, spp=4)
    first, again = (draw_sample(FixtureAssets(), recipe, 5, 1) for _ in range(2))
    other = draw_sample(FixtureAssets(), replace(recipe, renderer='numba', spp=0), 5, 1)
    assert (first.image == again.image).all()
    assert (first.labels.parts == other.labels.parts).all() and (first.labels.depth == other.labels.depth).all()
    assert not (first.image == other.image).all()


def test_folders_refuse_another_renderer(renderer, tmp_path):
    recipe = Recipe(size=(96, 72), persons=(1, 1), samples=1, lights=6, renderer=renderer, spp=2)
    run([Job(str(tmp_path), 1, 1, 0, recipe, 'fixture')], 1, lambda *_: None)
    for changed in (dict(renderer='numba'), dict(spp=4)):
        with pytest.raises(UserError, match=next(iter(changed))):
            run([Job(str(tmp_path), 1, 1, 0, replace(recipe, **changed), 'fixture')], 1, lambda *_: None)


def test_llvm_is_chosen_by_version(monkeypatch, tmp_path):
    monkeypatch.delenv('DRJIT_LIBLLVM_PATH', raising=False)
    monkeypatch.setattr(mitsuba_variants, '_FOLDERS', (str(tmp_path),))
    for name in ('libLLVM-15.so.1', 'libLLVM-16.so', 'libLLVM.so', 'libLLVMSupport.a'):
        (tmp_path / name).touch()
    assert mitsuba_variants.find_llvm() is None
    (tmp_path / 'libLLVM.so.19.1').touch()
    assert mitsuba_variants.find_llvm() == str(tmp_path / 'libLLVM.so.19.1')
    monkeypatch.setenv('DRJIT_LIBLLVM_PATH', '/my/libLLVM.so')
    assert mitsuba_variants.find_llvm() == '/my/libLLVM.so'


def test_without_mitsuba_one_line_and_nothing_written(run_script, tmp_path, monkeypatch):
    (tmp_path / 'mitsuba.py').write_text('raise ImportError("none")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mitsuba', raising=False)
    command = ['--out', tmp_path / 'out', '--num', 2, '--assets', 'fixture', '--renderer', 'mitsuba']
    done = run_script('tools/synthesis/render.py', *command)
    assert done.code == 1 and not (tmp_path / 'out').exists()
    assert done.err.splitlines() == [
        "error: --renderer mitsuba needs mitsuba: pip install 'sapiens-toolkit[mitsuba]' (none)"
    ]
