# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Light from all directions: equirectangular HDR pictures, or a procedural sky where there are none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import UserError

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass
class Environment:
    """Radiance around the scene.

    Attributes:
        radiance: ``(h, 2 h, 3)`` float32 linear RGB; row 0 is straight up, columns go once around.
        name: Where it comes from.
    """

    radiance: np.ndarray
    name: str = 'sky'

    def along(self, rays: np.ndarray) -> np.ndarray:
        """Radiance ``(H, W, 3)`` float32 that comes from unit directions ``(H, W, 3)``."""
        height, width = self.radiance.shape[:2]
        v = np.arccos(np.clip(rays[..., 1], -1, 1)) / np.pi * height - 0.5
        u = (np.arctan2(rays[..., 0], rays[..., 2]) / (2 * np.pi)) % 1 * width - 0.5
        padded = np.concatenate([self.radiance, self.radiance[:, :1]], 1)
        return cv2.remap(padded, (u % width).astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR,
                         borderMode=cv2.BORDER_REPLICATE)  # fmt: skip


@dataclass
class Lights:
    """Parallel lights that stand for an environment.

    Attributes:
        direction: ``(L, 3)`` float32 unit vectors towards the lights.
        irradiance: ``(L, 3)`` float32 linear RGB that each gives to a surface facing it.
    """

    direction: np.ndarray
    irradiance: np.ndarray


def directions(height: int) -> np.ndarray:
    """``(height, 2 * height, 3)`` unit vectors of the pixel centres of an equirectangular picture (y up)."""
    polar = (np.arange(height) + 0.5) / height * np.pi
    around = (np.arange(2 * height) + 0.5) / height * np.pi
    sine = np.sin(polar)[:, None]
    x, z = sine * np.sin(around), sine * np.cos(around)
    return np.stack([x, np.broadcast_to(np.cos(polar)[:, None], x.shape), z], -1).astype(np.float32)


def procedural_sky(rng: np.random.Generator, height: int = 32) -> Environment:
    """A sky, a ground and one to three lamps of random colours and strengths."""
    d = directions(height)
    warm = rng.uniform(-0.25, 0.25)
    zenith = np.array([0.5 + warm, 0.6, 0.8 - warm]) * rng.uniform(0.3, 1.2)
    horizon = np.array([0.9 + warm, 0.9, 0.95 - warm]) * rng.uniform(0.3, 1.2)
    ground = rng.uniform(0.05, 0.4) * (1 + rng.uniform(-0.2, 0.2, 3))
    up = np.clip(d[..., 1:2], 0, 1) ** 0.5
    radiance = np.where(d[..., 1:2] > 0, horizon * (1 - up) + zenith * up, ground)
    for _ in range(rng.integers(1, 4)):
        axis = rng.normal(size=3)
        axis[1] = abs(axis[1]) + 0.2
        axis /= np.linalg.norm(axis)
        spread = rng.uniform(8, 200)
        lobe = np.exp(spread * (d @ axis - 1))[..., None]
        radiance = radiance + lobe * rng.uniform(0.3, 2.0) * spread**0.8 * (1 + rng.uniform(-0.15, 0.15, 3))
    return Environment(np.maximum(radiance, 0).astype(np.float32))


def read_environment(path: str, height: int = 512) -> Environment:
    """Read an equirectangular HDR picture, reduced to at most a number of rows.

    Args:
        path: ``.hdr`` file of twice its height's width.
        height: Most rows.

    Raises:
        UserError: Unreadable, not twice as wide as high, or without light.
    """
    picture = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.float32 or picture.ndim != 3:
        raise UserError(f'{path}: not a readable .hdr picture; remove it from the folder of HDRIs')
    if picture.shape[1] != 2 * picture.shape[0]:
        raise UserError(f'{path}: is {picture.shape[1]} x {picture.shape[0]}; an equirectangular picture is twice as '
                        'wide as high')  # fmt: skip
    if picture.shape[0] > height:
        picture = cv2.resize(picture, (2 * height, height), interpolation=cv2.INTER_AREA)
    radiance = np.ascontiguousarray(np.nan_to_num(picture[..., 2::-1], posinf=0).clip(0))
    if not radiance.any():
        raise UserError(f'{path}: is black; remove it from the folder of HDRIs')
    return Environment(radiance, Path(path).stem)


def turn(environment: Environment, fraction: float) -> Environment:
    """Turn an environment about the vertical by a fraction of a full circle."""
    width = environment.radiance.shape[1]
    return Environment(np.roll(environment.radiance, round(fraction * width), axis=1), environment.name)


def washed(environment: Environment, saturation: float) -> Environment:
    """An environment with less colour: 1 = as it is, 0 = grey. Small panoramas exaggerate it."""
    grey = (environment.radiance @ LUMA)[..., None]
    return Environment(grey + np.float32(saturation) * (environment.radiance - grey), environment.name)


def sample_lights(environment: Environment, count: int, rng: np.random.Generator) -> Lights:
    """Draw parallel lights in proportion to the energy of each direction (systematic sampling, little noise).

    Args:
        environment: Where light comes from.
        count: Number of lights L.
        rng: Source of randomness.
    """
    radiance = environment.radiance
    height, width = radiance.shape[:2]
    polar = (np.arange(height) + 0.5) / height * np.pi
    solid = (np.sin(polar) * (np.pi / height) * (2 * np.pi / width)).astype(np.float64)[:, None]
    weight = ((radiance @ LUMA) + 1e-4 * float(radiance.mean() + 1e-6)) * solid
    # Along a serpentine through the rows neighbours stay neighbours, so that the strata are compact.
    order = np.arange(height * width).reshape(height, width)
    order[1::2] = order[1::2, ::-1]
    order = order.ravel()
    cumulative = np.cumsum(weight.ravel()[order])
    total = cumulative[-1]
    marks = (np.arange(count) + rng.random(count)) / count * total
    chosen = order[np.clip(np.searchsorted(cumulative, marks), 0, order.size - 1)]
    color = radiance.reshape(-1, 3)[chosen].astype(np.float64)
    probability = weight.ravel()[chosen] / total
    irradiance = color * np.broadcast_to(solid, (height, width)).ravel()[chosen, None] / probability[:, None] / count
    return Lights(directions(height).reshape(-1, 3)[chosen], irradiance.astype(np.float32))
