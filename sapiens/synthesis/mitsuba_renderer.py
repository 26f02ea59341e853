# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The picture by path tracing with Mitsuba 3: light that bounces, soft shadows, reflections. Labels never come from it.

Pictures coincide with the labels of our rasterizer: same intrinsics (also a shifted principal point), pixels averaged
over their own square, holes of cut-out textures by the same threshold.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import cv2
import numpy as np

from .camera import Camera
from .environment import Environment, Lights
from .ground import FAR, SRGB_TO_LINEAR, Ground
from .lens import defocus, spread
from .mesh import Scene
from .mitsuba_variants import load
from .rasterizer import rasterize

BOUNCES = 4
"""Longest path, in segments."""
SCALE = 100.0
"""Mitsuba gets centimetres around the middle of the scene: its rays start off a surface by more than rounding needs
where coordinates are small numbers, and would jump over skin that is closely under a hole."""


def render_radiance(
    scene: Scene,
    camera: Camera,
    environment: Environment,
    lights: Lights,
    ground: Ground,
    backdrop: np.ndarray | None = None,
    samples: int = 2,
    shadow_resolution: int = 0,
    rest: np.ndarray | None = None,
    blur: float = 0.0,
    *,
    renderer: str = 'mitsuba-scalar',
    spp: int = 32,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Render linear radiance; takes and returns what `shading.render_radiance` does.

    Not used are ``lights`` (the environment itself is sampled), ``shadow_resolution`` (shadows are traced) and ``rest``
    (there is no procedural relief).

    Args:
        camera: Where from; pixels must be square.
        samples: Supersampling along each side of the coverage where there is no backdrop.
        renderer: Key of `VARIANTS`.
        spp: Paths a pixel.
        seed: Same seed = same picture.
    """
    mi = load(renderer)
    middle = (scene.vertices.min(0) + scene.vertices.max(0)) / 2
    world = _shapes(mi, replace(scene, vertices=(scene.vertices - middle) * np.float32(SCALE)))
    world['light'] = {'type': 'envmap', 'bitmap': mi.Bitmap(_turned(environment.radiance)), 'mis_compensation': True}
    floor = backdrop is None and ground.texture is not None
    if floor:
        world['floor'] = _floor(mi, ground, camera.position, middle)
    world['camera'] = _sensor(mi, camera, spp, middle)
    hide = backdrop is not None
    # Unlike 'path', this one lets light from the lamps through the holes of cut-out textures.
    world['integrator'] = {'type': 'volpath', 'max_depth': BOUNCES, 'rr_depth': 3, 'hide_emitters': hide}
    picture = np.array(mi.render(mi.load_dict({'type': 'scene', **world}), spp=spp, seed=seed), np.float32)
    radiance = np.nan_to_num(picture[..., :3], posinf=0, neginf=0)
    if hide:
        coverage = np.clip(picture[..., 3], 0, 1)
        return radiance + backdrop.astype(np.float32) * (1 - coverage[..., None]), coverage
    coverage, focus = _coverage(scene, camera, samples)
    distance = _floor_distance(camera, ground) if floor else np.zeros(camera.size)
    if floor:
        radiance = _haze(radiance, coverage, distance, camera, environment)
    behind = defocus(radiance, coverage < 0.02, spread(distance, focus, blur), blur)
    return radiance * coverage[..., None] + behind * (1 - coverage[..., None]), coverage


def _sensor(mi: ModuleType, camera: Camera, spp: int, middle: np.ndarray) -> dict:
    height, width = camera.size
    k = camera.intrinsics
    # Mitsuba's x points left and its y up; its pixel i spans i to i + 1, so that our i is its i + 0.5.
    pose = np.eye(4)
    pose[:3, :3] = (camera.rotation * np.array([[-1], [-1], [1]])).T
    pose[:3, 3] = (camera.position - middle) * SCALE
    return {
        'type': 'perspective',
        'fov': float(np.degrees(2 * np.arctan(width / (2 * k[0, 0])))),
        'fov_axis': 'x',
        'principal_point_offset_x': float(0.5 - (k[0, 2] + 0.5) / width),
        'principal_point_offset_y': float(0.5 - (k[1, 2] + 0.5) / height),
        'near_clip': 0.02 * SCALE,
        'far_clip': 1000 * SCALE,
        'to_world': mi.ScalarTransform4f(pose),
        'sampler': {'type': 'multijitter', 'sample_count': spp},
        'film': {
            'type': 'hdrfilm', 'width': width, 'height': height, 'pixel_format': 'rgba', 'component_format': 'float32',
            'rfilter': {'type': 'box'},
        },
    }  # fmt: skip


def _turned(radiance: np.ndarray) -> np.ndarray:
    """Our panorama in Mitsuba's order of columns: it goes around the other way and starts half a turn later."""
    width = radiance.shape[1]
    return np.ascontiguousarray(radiance[:, (width // 2 - 1 - np.arange(width)) % width], np.float32)


def _shapes(mi: ModuleType, scene: Scene) -> dict:
    """One mesh for each material that is used."""
    shapes = {}
    for m in np.unique(scene.material):
        of = np.flatnonzero(scene.material == m)
        if scene.table[m, 3]:
            of = of[_any_opaque(_texture(scene, m)[..., 3] >= 128, scene.uv[of])]
        if not len(of):
            continue
        faces = scene.faces[of].ravel()
        uv = scene.uv[of].reshape(-1, 2) * np.float32([1, -1]) + np.float32([0, 1])
        surface = _bsdf(mi, scene, m)
        shapes[f'mesh{m}'] = _mesh(mi, f'mesh{m}', scene.vertices[faces], scene.normals[faces], uv, surface)
    return shapes


def _mesh(mi, name: str, points: np.ndarray, normals: np.ndarray | None, uv: np.ndarray, surface: dict):
    """Triangles of three corners of their own each."""
    properties = mi.Properties()
    properties['bsdf'] = mi.load_dict(surface)
    mesh = mi.Mesh(name, len(points), len(points) // 3, properties, normals is not None, True)
    parameters = mi.traverse(mesh)
    parameters['vertex_positions'] = np.ascontiguousarray(points, np.float32).ravel()
    if normals is not None:
        parameters['vertex_normals'] = np.ascontiguousarray(normals, np.float32).ravel()
    parameters['vertex_texcoords'] = np.ascontiguousarray(uv, np.float32).ravel()
    parameters['faces'] = np.arange(len(points), dtype=np.uint32)
    parameters.update()
    return mesh


def _texture(scene: Scene, m: int) -> np.ndarray:
    start, width, height, _ = scene.table[m]
    return scene.texels[start : start + width * height].reshape(height, width, 4)


def _any_opaque(opaque: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Which triangles show more than holes, ``(F,)``: those that do not are left out.

    Paths that went through a hole closely above skin would miss the skin, which begins within their rounding error.

    Args:
        opaque: ``(h, w)`` bool, the texture.
        uv: ``(F, 3, 2)``.
    """
    height, width = opaque.shape
    total = cv2.integral(opaque.astype(np.uint8)).astype(np.int64)
    pixel = np.stack([uv[..., 0] * width, (1 - uv[..., 1]) * height], -1)
    low, high = np.floor(pixel.min(1)).astype(int), np.floor(pixel.max(1)).astype(int) + 1
    tiled = ((low < 0) | (high > [width, height])).any(1)
    (x0, y0), (x1, y1) = np.clip(low, 0, [width, height]).T, np.clip(high, 0, [width, height]).T
    return tiled | (total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0] > 0)


def _bsdf(mi: ModuleType, scene: Scene, m: int) -> dict:
    texture, cutout = _texture(scene, m), scene.table[m, 3]
    gloss, shininess, skin = (float(v) for v in scene.looks[m, :3])
    opaque = texture[..., 3] >= 128
    color = _opaque_colors(texture) if cutout else texture[..., :3]
    surface = {
        'type': 'twosided',
        'bsdf': {
            'type': 'principled',
            'base_color': _image(mi, color),
            # The lobe of a Blinn-Phong exponent n has the width alpha = sqrt(2 / (n + 2)); alpha is roughness squared.
            'roughness': float(np.clip((2 / (shininess + 2)) ** 0.25, 0.1, 1)),
            'specular': float(np.clip(0.1 + 2 * gloss, 0, 1)),
            'flatness': 0.6 * skin,
        },
    }
    if cutout and not opaque.all():
        holes = np.repeat((opaque * np.uint8(255))[..., None], 3, -1)
        surface = {'type': 'mask', 'opacity': _image(mi, holes, raw=True), 'bsdf': surface}
    return surface


def _opaque_colors(texture: np.ndarray) -> np.ndarray:
    """Colours that run on into the holes, so that no colour of a hole bleeds into a rim."""
    weight = texture[..., 3:].astype(np.float32)
    total = cv2.GaussianBlur(weight, (0, 0), 2.0)[..., None]
    run = cv2.GaussianBlur(texture[..., :3] * weight, (0, 0), 2.0) / np.maximum(total, 1e-3)
    return np.where(weight >= 128, texture[..., :3], np.clip(run, 0, 255)).astype(np.uint8)


def _image(mi: ModuleType, image: np.ndarray, raw: bool = False) -> dict:
    """A texture of 8-bit sRGB, or of 8-bit numbers looked up without interpolation."""
    if image.shape[:2] == (1, 1):
        return {'type': 'rgb', 'value': SRGB_TO_LINEAR[image[0, 0]].tolist()}
    return {'type': 'bitmap', 'bitmap': mi.Bitmap(np.ascontiguousarray(image)), 'raw': raw,
            'filter_type': 'nearest' if raw else 'bilinear'}  # fmt: skip


def _floor(mi: ModuleType, ground: Ground, position: np.ndarray, middle: np.ndarray):
    """A disc around the camera; far away its texture gives way to its mean colour, so that no tiles are seen."""
    radii = np.concatenate([[0], np.geomspace(0.5, 1.5 * FAR, 24)])
    around = np.linspace(0, 2 * np.pi, 49)
    r, a = np.meshgrid(radii, around, indexing='ij')
    ring = np.stack([r * np.cos(a), np.full_like(r, ground.height), r * np.sin(a)], -1) + position * [1, 0, 1]
    quads = [ring[1:, :-1], ring[:-1, :-1], ring[:-1, 1:], ring[1:, 1:]]
    corners = np.stack([quads[k] for k in (0, 1, 2, 0, 2, 3)], -2).reshape(-1, 3)
    distance = np.linalg.norm(corners - position, axis=-1)
    mean = SRGB_TO_LINEAR[ground.texture].mean((0, 1))
    surface = {
        'type': 'blendbsdf',
        'weight': {'type': 'mesh_attribute', 'name': 'vertex_fade'},
        'near': {'type': 'diffuse', 'reflectance': _image(mi, ground.texture)},
        'far': {'type': 'diffuse', 'reflectance': {'type': 'rgb', 'value': mean.tolist()}},
    }
    uv = corners[:, [2, 0]] / ground.scale  # as `Ground.albedo` lays it: rows along x
    mesh = _mesh(mi, 'floor', (corners - middle) * SCALE, None, uv, {'type': 'twosided', 'bsdf': surface})
    mesh.add_attribute('vertex_fade', 1, np.clip(distance / (15 * ground.scale) - 0.33, 0, 1).astype(np.float32))
    return mesh


def _coverage(scene: Scene, camera: Camera, samples: int) -> tuple[np.ndarray, float]:
    """Coverage by people and things, and how far away they are in the middle."""
    fine = camera.supersampled(samples)
    depth = rasterize(fine.to_camera(scene.vertices), scene.faces, fine.intrinsics, fine.size, scene.uv, scene.material,
                      scene.texels, scene.table)[0]  # fmt: skip
    seen = np.isfinite(depth)
    focus = float(np.median(depth[seen])) if seen.any() else 1e3
    return cv2.resize(seen.astype(np.float32), camera.size[::-1], interpolation=cv2.INTER_AREA), focus


def _floor_distance(camera: Camera, ground: Ground) -> np.ndarray:
    """Metres to the floor along each pixel's ray, ``(H, W)``; 0 where it is not hit."""
    rays = camera.rays()
    drop = camera.position[1] - ground.height
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.where((rays[..., 1] < 0) & (drop > 0), -drop / rays[..., 1], 0)


def _haze(radiance, coverage, distance, camera: Camera, environment: Environment) -> np.ndarray:
    """Let the floor fade into what is behind it towards its far end, as the other renderer does."""
    share = (np.clip(distance / FAR, 0, 1) ** 2 * (1 - coverage))[..., None].astype(np.float32)
    return radiance * (1 - share) + environment.along(camera.rays()) * share
