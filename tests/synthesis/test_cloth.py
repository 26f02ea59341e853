# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Cloth on tiny meshes: hems, cover, folds; and on real assets where they are baked."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.synthesis.makehuman import cloth, cover, cutting, surface
from sapiens.synthesis.makehuman.nearest import nearest
from sapiens.synthesis.rasterizer import vertex_normals
from sapiens.synthesis.skeleton import Skeleton

ASSETS = Path(__file__).parents[2] / 'data' / 'assets'
BAKED = pytest.mark.skipif(not (ASSETS / 'manifest.json').is_file(), reason='assets are not baked')


def _grid(n, size=1.0, height=0.0):
    """A square in the x, z plane whose normal is up: points and triangles."""
    x, z = np.meshgrid(np.linspace(0, size, n), np.linspace(0, size, n))
    index = np.arange(n * n).reshape(n, n)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, c, b), (a, d, c))])
    return np.stack([x.ravel(), np.full(n * n, height), z.ravel()], -1), faces.astype(np.int32)


def _area(points, faces):
    a, b, c = (points[faces[:, i]] for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def test_hems_are_cut_straight():
    points, faces = _grid(6, 5.0)
    c = cutting.cut(faces, 2.3 - points[:, 2])
    both = np.concatenate([points, cutting.between(points, c.sources, c.mix)])
    kept = c.faces[c.inside]
    assert _area(both, kept).sum() == pytest.approx(2.3 * 5) and both[kept, 2].max() == pytest.approx(2.3)
    assert _area(both, c.faces).sum() == pytest.approx(25) and both[c.faces[~c.inside], 2].min() == pytest.approx(2.3)
    assert (vertex_normals(both, c.faces)[:, 1] > 0.99).all()
    # Texture coordinates stay where they were in space.
    assert np.allclose(c.spread(points[faces].astype(np.float32)), both[c.faces], atol=1e-6)


def test_subdividing_keeps_the_surface_and_its_texture():
    points, faces = _grid(4)
    fine, uv, edges, origin = cutting.subdivide(faces, points[faces].astype(np.float32), len(points))
    both = np.concatenate([points, cutting.rounded_middles(points, vertex_normals(points, faces), edges)])
    assert len(fine) == 4 * len(faces) and _area(both, fine).sum() == pytest.approx(1)
    assert np.allclose(uv, both[fine], atol=1e-6)
    assert np.allclose(both[fine].mean(1)[origin == 0].mean(0), points[faces[0]].mean(0))


def test_middles_are_rounded_on_a_ball():
    ring = np.linspace(0, 2 * np.pi, 13)[:-1]
    points = np.stack([np.cos(ring), np.sin(ring), 0 * ring], 1)
    edges = np.stack([np.arange(12), np.roll(np.arange(12), -1)], 1)
    middles = cutting.rounded_middles(points, points, edges)
    straight = np.linalg.norm(points[edges].mean(1), axis=1)
    assert np.abs(np.linalg.norm(middles, axis=1) - 1).max() < 0.06 * (1 - straight.min())


def test_rays_hit_what_is_in_front_of_them():
    points, faces = _grid(5, 1.0, 0.3)
    origins = np.array([[0.51, 0.0, 0.47], [1.5, 0.0, 0.5], [0.51, 0.35, 0.47], [0.51, -5.0, 0.47]])
    up = np.tile([0.0, 1.0, 0.0], (4, 1))
    assert cover.ray_lengths(origins, up, points, faces, 1.0, -0.1) == pytest.approx([0.3, 1.0, -0.05, 1.0])
    slant = np.array([[0.6, 0.8, 0.0]])
    assert cover.ray_lengths(origins[:1], slant, points, faces, 1.0, 0.0) == pytest.approx([0.375])


def test_nearest_agrees_with_all_distances():
    rng = np.random.default_rng(0)
    a, b = rng.random((300, 3)), rng.random((200, 3))
    assert (nearest(a, b) == np.linalg.norm(a[:, None] - b[None], axis=-1).argmin(1)).all()


def test_only_skin_deep_under_cloth_is_left_out():
    skin, skin_faces = _grid(41)
    patch, patch_faces = _grid(9, 0.5, 0.01)
    patch = patch + [0.25, 0, 0.25]
    depth = cover.cover_depth(skin, vertex_normals(skin, skin_faces), skin_faces, patch, patch_faces)
    inside = np.minimum(0.25 - np.abs(skin[:, 0] - 0.5), 0.25 - np.abs(skin[:, 2] - 0.5))
    assert (depth[inside < -0.03] == 0).all() and np.abs(depth - inside)[inside > 0.03].max() < 0.04
    far = cover.cover_depth(skin, vertex_normals(skin, skin_faces), skin_faces, patch + [0, 0.2, 0], patch_faces)
    assert (far == 0).all()
    plain = surface.Surface(
        skin_faces, skin[skin_faces].astype(np.float32), np.zeros(len(skin_faces)), np.zeros(len(skin_faces)),
        np.zeros((0, 2), np.int32), np.zeros(0), np.zeros((len(skin), 1), int), np.ones((len(skin), 1)),
    )  # fmt: skip
    drawn = surface.bare(plain, depth, 1.0)
    assert (inside[skin_faces[~drawn]] > cover.RIM - 0.03).all() and 0.5 < drawn.mean() < 0.95
    pressed = surface.press_in(skin, vertex_normals(skin, skin_faces), depth, 1.0)
    assert (pressed[inside > 0.06, 1] <= -0.99 * cover.SINK).all()
    assert np.abs(pressed[inside < -0.03, 1]).max() < cover.SINK / 4


def test_cloth_is_pushed_out_of_the_body():
    rng = np.random.default_rng(1)
    base, normals = np.zeros((50, 3)), np.tile([0.0, 0.0, 1.0], (50, 1))
    points = rng.normal(0, 0.02, (50, 3))
    out = cover.push_out(points, base, normals, 0.004)
    assert out[:, 2].min() >= 0.004 - 1e-12
    assert (out[points[:, 2] >= 0.004] == points[points[:, 2] >= 0.004]).all() and (out[:, :2] == points[:, :2]).all()


def test_cloth_spans_hollows_and_stays_above_the_body():
    points, faces = _grid(31)
    points[:, 1] = -0.1 * np.exp(-0.5 * ((points[:, 0] - 0.5) / 0.04) ** 2)
    links = cloth.neighbours(faces, len(points))
    up = np.tile([0.0, 1.0, 0.0], (len(points), 1))
    hold = (points[:, [0, 2]] == 0).any(1) | (points[:, [0, 2]] == 1).any(1)
    draped = cloth.drape(points, up, np.full(len(points), 0.005), links, hold, 20)
    height = draped[:, 1] - points[:, 1]
    groove = (np.abs(points[:, 0] - 0.5) < 0.02) & ~hold
    assert height.min() >= 0.005 - 1e-9 and height[groove].min() > 0.03
    assert np.abs(height[hold] - 0.005).max() < 1e-9
    assert (draped[:, [0, 2]] == points[:, [0, 2]]).all()


def _skeleton():
    names = ['spine05']
    heads = [[0, 0.1, 0]]
    places = {'upperarm01': [0.2, 0.5, 0], 'lowerarm01': [0.35, 0.35, 0], 'wrist': [0.45, 0.2, 0],
              'upperleg01': [0.1, 0.05, 0], 'lowerleg01': [0.1, -0.4, 0], 'foot': [0.1, -0.8, 0]}  # fmt: skip
    for side, sign in (('L', 1), ('R', -1)):
        names += [f'{n}.{side}' for n in places]
        heads += [[sign * x, y, z] for x, y, z in places.values()]
    heads = np.array(heads, float)
    return Skeleton(tuple(names), np.full(len(names), -1, np.int32), heads, heads)


def test_folds_lift_only_and_gather_at_joints():
    rng = np.random.default_rng(2)
    points = rng.uniform([0.05, -0.8, -0.1], [0.15, 0.1, 0.1], (4000, 3))
    frame = cloth.fold_frame(points, np.zeros(len(points)), np.full(len(points), 0.1), _skeleton())
    fit = cloth.Fit(0.004, 0.01, 0.0, 0.006)
    knee, thigh = np.abs(points[:, 1] + 0.4) < 0.04, np.abs(points[:, 1] + 0.2) < 0.04
    depths = [cloth.fold_depth(frame, fit, np.random.default_rng(i)) for i in range(6)]
    assert all(d.min() >= 0 and d.max() < 0.012 for d in depths)
    assert np.mean([d[knee].mean() / d[thigh].mean() for d in depths]) > 2
    assert (depths[0] == cloth.fold_depth(frame, fit, np.random.default_rng(0))).all()
    assert (depths[0] != depths[1]).any()
    some = cloth.fold_depth(frame, fit, np.random.default_rng(0), knee)
    assert (some[~knee] == 0).all() and some[knee].max() > 0


def test_cloth_stands_off_level_but_on_top():
    points, faces = _grid(5)
    links = cloth.neighbours(faces, len(points))
    share = np.zeros(len(points))
    side = np.tile([0.8, 0.6, 0.0], (len(points), 1))
    assert (cloth.hanging(side, links, share)[:, 1] < 0.2).all()
    assert np.allclose(cloth.hanging(side, links, share + 1), side)
    up = np.tile([0.0, 1.0, 0.0], (len(points), 1))
    assert np.allclose(cloth.hanging(up, links, share), up)


@BAKED
@pytest.mark.parametrize('seed', [3, 4])
def test_real_garments_are_over_the_skin_and_repeat(seed):
    from sapiens.synthesis.makehuman.assets import MakeHumanAssets
    from sapiens.synthesis.makehuman.garments import helper_garments, suit

    assets = MakeHumanAssets(str(ASSETS))
    points = assets.body.template * 0.1
    first, second = (helper_garments(assets.body, points, False, np.random.default_rng(seed)) for _ in range(2))
    tights = suit(assets.body, 'helper-tights')
    for a, b in zip(first, second, strict=True):
        assert (a.vertices == b.vertices).all() and (a.faces == b.faces).all()
        twin = nearest(a.vertices, tights.template)
        normals = vertex_normals(tights.template, tights.faces)
        assert ((a.vertices - tights.template[twin]) * normals[twin]).sum(1).min() > -0.004
