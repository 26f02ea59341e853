# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From scene, camera and light to a picture: diffuse and glossy reflection, shadow maps, ground, background."""

from __future__ import annotations

import cv2
import numba
import numpy as np

from .camera import Camera
from .environment import LUMA, Environment, Lights
from .ground import FAR, SRGB_TO_LINEAR, Ground, contact_shade
from .lens import defocus, spread
from .mesh import Scene
from .rasterizer import rasterize
from .shadows import light_share, shadow_maps


@numba.njit(cache=True, fastmath=True)
def _noise(x, y, z):
    """Value noise in [-1, 1] on a unit lattice."""
    ix, iy, iz = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - ix, y - iy, z - iz
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    total = 0.0
    for dx in range(2):
        for dy in range(2):
            for dz in range(2):
                h = ((ix + dx) * 374761393 + (iy + dy) * 668265263 + (iz + dz) * 2147483647) & 0x7FFFFFFF
                h = ((h ^ (h >> 13)) * 1274126177) & 0x7FFFFFFF
                value = ((h ^ (h >> 16)) & 0xFFFF) / 32767.5 - 1.0
                weight = (fx if dx else 1 - fx) * (fy if dy else 1 - fy) * (fz if dz else 1 - fz)
                total += value * weight
    return total


@numba.njit(cache=True, fastmath=True)
def _shade(face_id, bary, faces, vertices, normals, rest, uv, material, texels, table, looks, linear, eye, pixel,
           light_dir, light_rgb, frames, maps, center, scale, bias, out):  # fmt: skip
    height, width = face_id.shape
    for y in range(height):
        for x in range(width):
            f = face_id[y, x]
            if f < 0:
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            wa, wb = bary[y, x, 0], bary[y, x, 1]
            wc = 1 - wa - wb
            px = wa * vertices[a, 0] + wb * vertices[b, 0] + wc * vertices[c, 0]
            py = wa * vertices[a, 1] + wb * vertices[b, 1] + wc * vertices[c, 1]
            pz = wa * vertices[a, 2] + wb * vertices[b, 2] + wc * vertices[c, 2]
            nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
            ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
            nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
            ex, ey, ez = eye[0] - px, eye[1] - py, eye[2] - pz
            inv = 1.0 / np.sqrt(ex * ex + ey * ey + ez * ez + 1e-12)
            ex, ey, ez = ex * inv, ey * inv, ez * inv
            m = material[f]
            bump, skin, gloss, power = looks[m, 3], looks[m, 2], looks[m, 0], looks[m, 1]
            if bump > 0:
                rx = wa * rest[a, 0] + wb * rest[b, 0] + wc * rest[c, 0]
                ry = wa * rest[a, 1] + wb * rest[b, 1] + wc * rest[c, 1]
                rz = wa * rest[a, 2] + wb * rest[b, 2] + wc * rest[c, 2]
                s = 480.0 if looks[m, 4] > 0 else 220.0 if skin > 0 else 14.0
                sy = 12.0 if looks[m, 4] > 0 else s
                # Relief finer than the pixels would be noise.
                bump *= min(max(1.5 - s * pixel / inv, 0.0), 1.0)
                nx += bump * _noise(rx * s, ry * sy, rz * s)
                ny += bump * _noise(rx * s + 31.7, ry * sy, rz * s)
                nz += bump * _noise(rx * s, ry * sy + 17.3, rz * s)
                pores = min(max(1.6 - 1100.0 * pixel / inv, 0.0), 1.0) * skin
                if pores > 0:
                    grain = pores * _noise(rx * 1100.0, ry * 1100.0, rz * 1100.0)
                    nx += 0.05 * grain
                    nz += 0.05 * pores * _noise(rx * 1100.0, ry * 1100.0 + 9.1, rz * 1100.0)
                    gloss *= 1.0 + 0.5 * grain
                if skin > 0:  # some places are oilier than others
                    gloss *= 1.0 + 0.5 * _noise(rx * 35.0, ry * 35.0, rz * 35.0)
            inv = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
            nx, ny, nz = nx * inv, ny * inv, nz * inv
            if nx * ex + ny * ey + nz * ez < -0.2:  # the back of an open surface
                nx, ny, nz = -nx, -ny, -nz
            # Bilinear texture look-up.
            u = wa * uv[f, 0, 0] + wb * uv[f, 1, 0] + wc * uv[f, 2, 0]
            v = wa * uv[f, 0, 1] + wb * uv[f, 1, 1] + wc * uv[f, 2, 1]
            tw, th = table[m, 1], table[m, 2]
            tu, tv = (u - np.floor(u)) * tw - 0.5, (1.0 - (v - np.floor(v))) * th - 0.5
            iu, iv = int(np.floor(tu)), int(np.floor(tv))
            fu, fv = tu - iu, tv - iv
            r = g = bl = total = 0.0
            for j in range(2):
                for i in range(2):
                    column, row = min(max(iu + i, 0), tw - 1), min(max(iv + j, 0), th - 1)
                    t = table[m, 0] + row * tw + column
                    w = (fu if i else 1 - fu) * (fv if j else 1 - fv)
                    if table[m, 3] != 0:
                        w = w * texels[t, 3] + 1e-6
                    r += w * linear[texels[t, 0]]
                    g += w * linear[texels[t, 1]]
                    bl += w * linear[texels[t, 2]]
                    total += w
            r, g, bl = r / total, g / total, bl / total
            dr = dg = db = sr = sg = sb = 0.0
            wrap_r, wrap_g, wrap_b = 0.20 * skin, 0.13 * skin, 0.10 * skin
            for light in range(light_dir.shape[0]):
                lx, ly, lz = light_dir[light, 0], light_dir[light, 1], light_dir[light, 2]
                cosine = nx * lx + ny * ly + nz * lz
                if cosine <= -wrap_r:
                    continue
                lit = light_share(px, py, pz, nx, ny, nz, light, frames, maps, center, scale, bias)
                if lit <= 0:
                    continue
                dr += lit * light_rgb[light, 0] * max(cosine + wrap_r, 0.0) / (1 + wrap_r)
                dg += lit * light_rgb[light, 1] * max(cosine + wrap_g, 0.0) / (1 + wrap_g)
                db += lit * light_rgb[light, 2] * max(cosine + wrap_b, 0.0) / (1 + wrap_b)
                if cosine > 0 and gloss > 0:
                    hx, hy, hz = lx + ex, ly + ey, lz + ez
                    inv = 1.0 / np.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
                    half = max((nx * hx + ny * hy + nz * hz) * inv, 0.0)
                    if half < 0.6:  # too dim to be seen, and powers are dear
                        continue
                    s = lit * cosine * gloss * half**power * (power + 8) * 0.04
                    if skin > 0:  # slanting light glances off (Schlick)
                        slant = 1.0 - max((ex * hx + ey * hy + ez * hz) * inv, 0.0)
                        s *= 0.8 + 12.0 * slant**5
                    sr += s * light_rgb[light, 0]
                    sg += s * light_rgb[light, 1]
                    sb += s * light_rgb[light, 2]
            out[y, x, 0] = (r * dr + sr) / np.pi
            out[y, x, 1] = (g * dg + sg) / np.pi
            out[y, x, 2] = (bl * db + sb) / np.pi


@numba.njit(cache=True, fastmath=True)
def _shadow_of_ground(hit, points, light_dir, light_rgb, frames, maps, center, scale, bias, out):
    """Irradiance on the ground (normal up) at each pixel where ``hit``."""
    for y in range(hit.shape[0]):
        for x in range(hit.shape[1]):
            if not hit[y, x]:
                continue
            px, py, pz = points[y, x, 0], points[y, x, 1], points[y, x, 2]
            for light in range(light_dir.shape[0]):
                if light_dir[light, 1] <= 0:
                    continue
                s = light_share(px, py, pz, 0.0, 1.0, 0.0, light, frames, maps, center, scale, bias)
                s *= light_dir[light, 1]
                out[y, x, 0] += s * light_rgb[light, 0]
                out[y, x, 1] += s * light_rgb[light, 1]
                out[y, x, 2] += s * light_rgb[light, 2]


def render_radiance(
    scene: Scene,
    camera: Camera,
    environment: Environment,
    lights: Lights,
    ground: Ground,
    backdrop: np.ndarray | None = None,
    samples: int = 2,
    shadow_resolution: int = 256,
    rest: np.ndarray | None = None,
    blur: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Render linear radiance.

    Args:
        scene: The people and things.
        camera: Where from.
        environment: What is seen behind, and reflected.
        lights: The same as parallel lights.
        ground: The floor.
        backdrop: ``(H, W, 3)`` linear picture to stand behind the people in place of environment and ground.
        samples: Supersampling along each side.
        shadow_resolution: Side of the shadow maps.
        rest: ``(V, 3)`` unposed vertices that the fine relief sticks to; default: the posed ones.
        blur: Radius in pixels to which the lens spreads a far point when the people are in focus; a backdrop stays.

    Returns:
        ``(H, W, 3)`` float32 linear RGB and ``(H, W)`` float32 coverage by people and things, 0 to 1.
    """
    fine = camera.supersampled(samples)
    height, width = fine.size
    points = fine.to_camera(scene.vertices)
    depth, face_id, bary = rasterize(
        points, scene.faces, fine.intrinsics, fine.size, scene.uv, scene.material, scene.texels, scene.table
    )
    common = (lights.direction, lights.irradiance, *shadow_maps(scene, lights, shadow_resolution))
    out = np.zeros((height, width, 3), np.float32)
    covered = face_id >= 0
    if backdrop is None:  # smooth enough to need no supersampling
        hidden = cv2.erode(covered.astype(np.uint8), np.ones((3, 3), np.uint8))
        hidden = hidden.reshape(camera.size[0], samples, camera.size[1], samples).min((1, 3)) > 0
        focus = float(np.median(depth[covered])) if covered.any() else 1e3
        backdrop = _background(camera, hidden, environment, ground, common, scene, focus, blur)
    behind = cv2.resize(backdrop, (width, height), interpolation=cv2.INTER_LINEAR)
    out[~covered] = behind[~covered]
    eye = fine.position.astype(np.float32)
    rest = scene.vertices if rest is None else rest
    _shade(face_id, bary, scene.faces, scene.vertices, scene.normals, rest, scene.uv, scene.material, scene.texels,
           scene.table, scene.looks, SRGB_TO_LINEAR, eye, np.float32(1 / fine.intrinsics[0, 0]), *common,
           out)  # fmt: skip
    size = camera.size[::-1]
    coverage = cv2.resize(covered.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return cv2.resize(out, size, interpolation=cv2.INTER_AREA), coverage


def _background(
    camera: Camera, covered: np.ndarray, environment: Environment, ground: Ground, common: tuple,
    scene: Scene, focus: float, blur: float,
) -> np.ndarray:  # fmt: skip
    rays = camera.rays()
    sky = environment.along(rays)
    if ground.texture is None:
        return defocus(sky, ~covered, np.full(covered.shape, blur, np.float32), blur)
    drop = camera.position[1] - ground.height
    down = (rays[..., 1] < -1e-3) & ~covered & (drop > 0)
    with np.errstate(divide='ignore'):
        distance = np.where(down, -drop / rays[..., 1], 0)
    down &= distance < FAR
    points = (camera.position + rays * distance[..., None]).astype(np.float32)
    # Between the short and the long side of a slanting pixel: all of the long one would blur.
    footprint = distance / camera.intrinsics[0, 0] / np.sqrt(np.maximum(-rays[..., 1], 0.02))
    albedo = ground.albedo(points, footprint.astype(np.float32), down)
    light = np.zeros_like(sky)
    _shadow_of_ground(down, points, *common, light)
    haze = np.clip(distance / FAR, 0, 1)[..., None] ** 2
    light *= contact_shade(points, scene.vertices, scene.faces, ground.height, common[3].shape[1])[..., None]
    floor = albedo * light / np.pi * (1 - haze) + sky * haze
    picture = np.where(down[..., None], floor, sky).astype(np.float32)
    return defocus(picture, ~covered, spread(np.where(down, distance, 0), focus, blur), blur)


def expose(radiance: np.ndarray, coverage: np.ndarray, brightness: float, contrast: float = 1.0) -> np.ndarray:
    """Develop linear radiance into an 8-bit sRGB picture.

    Args:
        radiance: ``(H, W, 3)`` linear.
        coverage: ``(H, W)``; the people decide the exposure.
        brightness: Linear value, 0 to 1, that the people's median shall have.
        contrast: Exponent around the middle.
    """
    luma = radiance @ LUMA
    on = coverage > 0.5
    people = luma[on] if on.any() else luma
    # People decide, but neither a face above dark clothes nor a white world behind may burn out altogether.
    level = max(
        float(np.median(people)), 0.35 * float(np.quantile(people, 0.95)), 0.12 * float(np.quantile(luma, 0.85))
    )
    x = np.maximum(radiance, 0) * (brightness / max(level, 1e-4))
    x = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)  # Narkowicz' fit of the ACES film curve
    return (np.clip(x, 0, 1) ** (contrast / 2.2) * 255 + 0.5).astype(np.uint8)
