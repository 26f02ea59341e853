# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The rasterizer against closed forms and against a ray tracer."""

import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.synthesis.camera import Camera, look_at
from sapiens.synthesis.rasterizer import interpolate, rasterize, vertex_normals

SIZE = (96, 128)
K = np.array([[140.0, 0, 63.5], [0, 140.0, 47.5], [0, 0, 1]])


def sphere(rings, segments, radius, centre):
    polar = np.linspace(0, np.pi, rings + 1)[:, None]
    around = np.arange(segments) / segments * 2 * np.pi
    unit = np.stack(
        np.broadcast_arrays(np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)), -1
    )
    index = np.arange((rings + 1) * segments).reshape(rings + 1, segments)
    a, b = index[:-1], index[1:]
    c, d = np.roll(a, -1, 1), np.roll(b, -1, 1)
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    unit = unit.reshape(-1, 3)
    return unit * radius + centre, faces.astype(np.int32), unit


def rays():
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([(columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1], np.ones(SIZE)], -1)


def test_sphere_depth_and_normals():
    centre, radius = np.array([0.1, -0.05, 2.0]), 0.5
    points, faces, unit = sphere(300, 600, radius, centre)
    depth, face_id, bary = rasterize(points, faces, K, SIZE)
    d = rays()
    a, b, c = (d * d).sum(-1), -2 * d @ centre, centre @ centre - radius**2
    root = b * b - 4 * a * c
    # Leave out the very rim, where a polygon and a circle differ.
    inside = root > 0.02
    exact = (-b - np.sqrt(np.maximum(root, 0))) / (2 * a)
    assert (face_id[inside] >= 0).all()
    assert np.abs(depth - exact)[inside].max() < 1e-4
    normals = interpolate(unit, faces, face_id, bary)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    true = (d * exact[..., None] - centre) / radius
    angle = np.degrees(np.arccos(np.clip((normals * true).sum(-1), -1, 1)))
    assert angle[inside].max() < 0.5


def test_vertex_normals_of_a_sphere_point_outwards():
    points, faces, unit = sphere(40, 80, 0.5, np.zeros(3))
    normals = vertex_normals(points, faces)
    body = np.abs(unit[:, 1]) < 0.99
    assert np.degrees(np.arccos(np.clip((normals * unit).sum(1), -1, 1)))[body].max() < 0.5


def test_slanted_plane_is_exact():
    normal, offset = np.array([0.3, -0.2, -1.0]), -2.0
    corners = np.array(
        [[x, y, (offset - normal[0] * x - normal[1] * y) / normal[2]] for x, y in ((-3, -3), (3, -3), (3, 3), (-3, 3))]
    )
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    depth, face_id, _ = rasterize(corners, faces, K, SIZE)
    exact = offset / (rays() @ normal)
    assert (face_id >= 0).all()
    assert np.abs(depth - exact).max() < 1e-6


def test_nearer_face_wins_and_cutouts_are_holes():
    square = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2.0]])
    points = np.concatenate([square, square + [0, 0, 1]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
    uv = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]] * 2, np.float32)
    texels = np.array([[255, 255, 255, 0], [255, 255, 255, 255], [9, 9, 9, 255]], np.uint8)
    table = np.array([[0, 2, 1, 1], [2, 1, 1, 0]], np.int64)
    material = np.array([0, 0, 1, 1], np.int32)
    depth, face_id, _ = rasterize(points, faces, K, SIZE, uv, material, texels, table)
    row = 47
    assert depth[row, 40] == pytest.approx(3.0) and face_id[row, 40] >= 2  # left half is a hole
    assert depth[row, 90] == pytest.approx(2.0) and face_id[row, 90] < 2


def test_agrees_with_embree():
    pytest.importorskip('embreex')
    trimesh = pytest.importorskip('trimesh')
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (300, 3)) + [0, 0, 3]
    faces = rng.integers(0, 300, (200, 3)).astype(np.int32)
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    depth, face_id, _ = rasterize(points, faces, K, SIZE)
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    mesh = trimesh.Trimesh(points, faces, process=False)
    d = rays().reshape(-1, 3)
    hits, ray, tri = RayMeshIntersector(mesh, scale_to_box=False).intersects_location(
        np.zeros_like(d), d, multiple_hits=False
    )
    traced = np.full(len(d), np.inf)
    traced[ray] = hits[:, 2]
    both = np.isfinite(traced) & (face_id.ravel() >= 0)
    assert both.sum() > 1000
    assert (np.isfinite(traced) != (face_id.ravel() >= 0)).mean() < 0.002
    # Where both see the same triangle, depths agree to a hundredth of a millimetre.
    same = np.zeros(len(d), bool)
    same[ray] = face_id.ravel()[ray] == tri
    assert same[both].mean() > 0.995
    assert np.abs(traced[same & both] - depth.ravel()[same & both]).max() < 1e-5


def test_camera_projects_rays_back():
    camera = Camera(K, look_at(np.array([1.0, 2, 3]), np.zeros(3), 0.3), np.array([1.0, 2, 3]), SIZE)
    points = camera.position + camera.rays() * 2.5
    image, depth = camera.project(points)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    assert np.abs(image - np.stack([columns, rows], -1)).max() < 1e-6
    assert (depth > 0).all()
    fine = camera.supersampled(3)
    coarse, _ = camera.project(np.zeros((1, 3)))
    dense, _ = fine.project(np.zeros((1, 3)))
    assert np.allclose(dense, coarse * 3 + 1)
