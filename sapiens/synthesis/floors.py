# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Floors by code: concrete, asphalt, planks, tiles, carpet; seats; and photographs of floors made seamless."""

from __future__ import annotations

import cv2
import numpy as np

from .ground import Ground

SIDE = 512


def procedural_floor(rng: np.random.Generator) -> Ground:
    """A random tileable floor."""
    kind = rng.choice(['concrete', 'asphalt', 'planks', 'tiles', 'carpet'], p=[0.25, 0.2, 0.25, 0.2, 0.1])
    scale = float(rng.uniform(1.6, 2.6))
    if kind == 'concrete':
        base = _shade(rng, 95, 175, 4)
        relief = _noise(rng, range(2, 9), 0.75) * rng.uniform(6, 15)
    elif kind == 'asphalt':
        base = _shade(rng, 48, 100, 3)
        relief = _noise(rng, range(6, 10), 1.1) * rng.uniform(12, 22)
    elif kind == 'planks':
        return Ground(_planks(rng), scale)
    elif kind == 'tiles':
        base, relief = _shade(rng, 70, 205, 10), _tiles(rng)
    else:
        base = _shade(rng, 50, 150, 22)
        relief = _noise(rng, range(7, 10), 1.2) * rng.uniform(8, 16)
    return Ground(np.clip(base + relief[..., None], 0, 240).astype(np.uint8), scale)


def seat_surface(rng: np.random.Generator) -> Ground:
    """Wood, stone or cloth of a seat, as a texture and its scale."""
    kind = rng.choice(['wood', 'stone', 'cloth'], p=[0.45, 0.2, 0.35])
    if kind == 'wood':
        return Ground(_planks(rng), float(rng.uniform(0.9, 1.6)))
    base, octaves, growth = (_shade(rng, 70, 180, 5), range(2, 9), 0.75)
    if kind == 'cloth':
        base, octaves, growth = _shade(rng, 35, 150, 16), range(7, 10), 1.2
    relief = _noise(rng, octaves, growth) * rng.uniform(5, 11)
    return Ground(np.clip(base + relief[..., None], 8, 235).astype(np.uint8), float(rng.uniform(0.4, 0.9)))


def photo_floor(photo: np.ndarray, colors: tuple[tuple[int, int, int], ...], rng: np.random.Generator) -> Ground:
    """A grey photograph of a floor ``(h, w)`` uint8, coloured around one of ``colors`` (sRGB)."""
    color = np.array(colors[int(rng.integers(len(colors)))]) * rng.uniform(0.8, 1.2) + rng.normal(0, 4, 3)
    texture = photo.astype(np.float32)[..., None] / max(float(photo.mean()), 1.0) * color.astype(np.float32)
    return Ground(
        np.clip(np.rot90(texture, int(rng.integers(4))), 0, 245).astype(np.uint8), float(rng.uniform(1.2, 2.0))
    )


def seamless(photo: np.ndarray, border: int = 64) -> np.ndarray:
    """A photograph ``(h, w)`` that can be tiled: its borders fade into the opposite ones.

    Args:
        photo: ``(h, w)`` uint8.
        border: Width of the fade in pixels; the result is smaller by that.
    """
    for _ in range(2):
        ramp = np.linspace(0, 1, border, dtype=np.float32)
        # Weights whose squares add up to 1 keep the contrast of what is blended.
        mean = photo.mean()
        a, b = (photo[:border] - mean) * np.sqrt(ramp)[:, None], (photo[-border:] - mean) * np.sqrt(1 - ramp)[:, None]
        photo = np.concatenate([a + b + mean, photo[border:-border]]).T
    return np.clip(photo, 0, 255).astype(np.uint8)


def _shade(rng: np.random.Generator, low: float, high: float, tint: float) -> np.ndarray:
    return rng.uniform(low, high) + rng.normal(0, 1, 3) * tint + np.array([3, 0, -4]) * rng.uniform(0, 2)


def _noise(rng: np.random.Generator, octaves: range, growth: float) -> np.ndarray:
    """Tileable noise ``(SIDE, SIDE)`` of unit deviation; ``growth`` > 1 makes fine detail stronger."""
    total = np.zeros((SIDE, SIDE), np.float32)
    for n, octave in enumerate(octaves):
        cells = 2**octave
        grid = np.pad(rng.normal(0, 1, (cells, cells)).astype(np.float32), 2, mode='wrap')
        size = SIDE * (cells + 4) // cells
        edge = (size - SIDE) // 2
        big = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        total += big[edge : edge + SIDE, edge : edge + SIDE] * growth**n
    return total / total.std()


def _tiles(rng: np.random.Generator) -> np.ndarray:
    n = int(rng.integers(2, 7))
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE * n
    joint = np.minimum(np.abs(y % 1 - 0.5), 0.5) > 0.5 - 0.004 * n
    joint |= np.minimum(np.abs(x % 1 - 0.5), 0.5) > 0.5 - 0.004 * n
    each = rng.normal(0, rng.uniform(0, 9), (n, n))[y.astype(int), x.astype(int)]
    relief = each + _noise(rng, range(2, 8), 0.8) * rng.uniform(2, 7)
    return np.where(joint, rng.uniform(-60, -15), relief)


def _planks(rng: np.random.Generator) -> np.ndarray:
    n = int(rng.integers(8, 20))
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    row = (y * n).astype(int)
    shift = rng.random(n)[row]
    end = (x + shift) % 0.5
    board = row * 2 + ((x + shift) % 1 >= 0.5)
    tone = np.append(rng.normal(0, 12, 2 * n), 0)[board]
    # Grain is noise drawn out along the boards, another piece of it for each.
    grain = cv2.resize(_noise(rng, range(5, 9), 0.9)[:, : SIDE // 16], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    moved = grain[(y * SIDE).astype(int), ((x * SIDE).astype(int) + board * 97) % SIDE]
    gap = (y * n % 1 < 0.012 * n / 8) | (end < 0.003)
    wood = np.array(
        [(152, 112, 74), (118, 80, 52), (178, 146, 106), (96, 74, 60), (140, 132, 122)][int(rng.integers(5))]
    )
    light = 1 + (tone + moved * rng.uniform(5, 11)) / 130
    return np.clip(wood * rng.uniform(0.8, 1.15) * np.where(gap, 0.45, light)[..., None], 0, 240).astype(np.uint8)
