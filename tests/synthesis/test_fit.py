# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Cloth on skin: who covers whom, folds that keep the hems, clean cuts."""

import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.synthesis.makehuman import fit
from sapiens.synthesis.rasterizer import vertex_normals


def tube(radius, low, high, rings=40, around=48):
    """An open tube about the y axis: vertices and triangles that look outwards."""
    y = np.linspace(low, high, rings)
    a = np.arange(around) / around * 2 * np.pi
    grid = np.stack(np.broadcast_arrays(radius * np.sin(a), y[:, None], radius * np.cos(a)), -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(around), indexing='ij')
    p, q = (i * around + j).ravel(), (i * around + (j + 1) % around).ravel()
    faces = np.concatenate([np.stack([p, q, p + around], 1), np.stack([q, q + around, p + around], 1)])
    return grid, faces.astype(np.int32)


def test_border_distance_of_a_tube():
    points, faces = tube(0.1, 0, 1)
    expected = np.minimum(points[:, 1], 1 - points[:, 1])
    assert np.abs(fit.border_distance(faces, points) - expected).max() < 1e-6


def test_a_closed_mesh_has_no_border():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    assert np.isinf(fit.border_distance(faces, points)).all()


def test_skin_under_a_sleeve_is_covered_and_sinks_below_it():
    skin, faces = tube(0.1, 0, 1)
    cloth, cloth_faces = tube(0.104, 0.3, 0.7)
    under = fit.covered(skin, vertex_normals(skin, faces), cloth, cloth_faces)
    y = skin[:, 1]
    assert (under[(y < 0.27) | (y > 0.73)] == 0).all()
    assert (under[(y > 0.36) & (y < 0.64)] == 1).all()
    assert np.ptp(under[(y > 0.3) & (y < 0.36)]) > 0.5  # it fades in from the hem
    sunk = np.hypot(*fit.sink(skin, faces, under, 1.0)[:, [0, 2]].T)
    assert np.abs(sunk - (0.1 - fit.SINK * under)).max() < 1e-3


def test_cloth_of_the_other_arm_does_not_cover():
    skin, faces = tube(0.05, 0, 1)
    cloth, cloth_faces = tube(0.055, 0, 1)
    under = fit.covered(skin, vertex_normals(skin, faces), cloth + [0.5, 0, 0], cloth_faces)
    assert (under == 0).all()


def test_folds_stay_outside_of_the_skin_and_keep_the_hems():
    cloth, faces = tube(0.104, 0, 0.6)
    border = fit.border_distance(faces, cloth)
    draped = fit.drape(cloth, faces, cloth, border, 1.0, np.random.default_rng(0), loose=0.01, depth=0.01)
    radius = np.hypot(draped[:, 0], draped[:, 2])
    assert (radius > 0.104 - 1e-4).all() and radius.max() > 0.112
    assert np.abs(draped - cloth)[border == 0].max() < 1e-9
    inner = radius.reshape(40, 48)[8:-8]
    # Folds run downwards: it changes more around the body than along it.
    assert np.abs(np.diff(inner, axis=1)).mean() / (2 * np.pi * 0.104 / 48) > 1.5 * (
        np.abs(np.diff(inner, axis=0)).mean() / (0.6 / 39)
    )


def test_draping_is_repeatable():
    cloth, faces = tube(0.1, 0, 0.5)
    border = fit.border_distance(faces, cloth)
    a, b = (fit.drape(cloth, faces, cloth, border, 1.0, np.random.default_rng(3), 0.01, 0.01) for _ in range(2))
    assert (a == b).all()


def test_a_cut_keeps_the_surface_and_runs_along_the_line():
    points, faces = tube(0.1, 0, 1, rings=12)
    field = points[:, 1] - 0.47 + 0.3 * points[:, 0]
    uv = np.stack([points[:, 0], points[:, 1]], -1)[faces]
    new, new_uv, origin, sources, mix = fit.cut(faces, uv, field)
    both = np.concatenate([points, points[sources[:, 0]] * (1 - mix[:, None]) + points[sources[:, 1]] * mix[:, None]])

    def area(p, f):
        a, b, c = p[f[:, 0]], p[f[:, 1]], p[f[:, 2]]
        return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)

    assert area(both, new).sum() == pytest.approx(area(points, faces).sum())
    assert np.bincount(origin, area(both, new)) == pytest.approx(area(points, faces))
    values = np.concatenate([field, np.zeros(len(sources))])[new]
    assert ((values > -1e-9).all(1) | (values < 1e-9).all(1)).all()  # no triangle is on both sides
    assert np.abs(new_uv - both[new][..., :2]).max() < 1e-6  # texture coordinates went along
    normals, before = vertex_normals(both, new), vertex_normals(points, faces)
    assert (normals[: len(points)] * before).sum(1).min() > 0.97  # all look the way they did
