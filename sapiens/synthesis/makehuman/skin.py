# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Tones of skin, and where it is redder: lips, cheeks, nose and ears."""

from __future__ import annotations

import cv2
import numpy as np

from ..zones import ZONE
from . import colors, dressing
from .body import BaseBody

TONES = np.array([(230, 196, 175), (217, 178, 154), (202, 159, 133), (179, 138, 112), (148, 111, 89), (116, 85, 68),
                  (90, 66, 54), (68, 51, 44)], np.float64)  # fmt: skip
"""From very light to very dark, sRGB."""


def skin_color(dark: bool, rng: np.random.Generator) -> np.ndarray:
    """Colour that somebody's skin has for the most part, ``(3,)`` sRGB: a place on the line of `TONES`."""
    place = rng.uniform(3.4, 7) if dark else rng.choice([rng.uniform(0, 2.4), rng.uniform(1.5, 3.9)], p=[0.7, 0.3])
    tone = np.array([np.interp(place, np.arange(len(TONES)), channel) for channel in TONES.T])
    return tone * (1 + rng.normal(0, [0.012, 0.015, 0.03]))


def toned(
    texture: np.ndarray, tone: np.ndarray, red: tuple[np.ndarray, np.ndarray], female: bool, rng: np.random.Generator
) -> np.ndarray:
    """A skin texture moved to a tone, with lips and cheeks.

    Args:
        texture: ``(h, w, 4)`` uint8.
        tone: ``(3,)`` sRGB that its median takes.
        red: From `reddened`.
        female: Now and then with lipstick.
        rng: Source of randomness.
    """
    # Painted blotches show more on the darker skins than they do in life.
    light = float(np.clip(np.mean(tone) / 180, 0.3, 1))
    mix = colors.saturation_matrix(0.6 + 0.22 * light)
    middle = np.median(texture[::8, ::8].reshape(-1, 4) @ mix.T, axis=0)
    gain = np.append(tone / np.maximum(middle[:3], 1), 1.0)
    strength = rng.uniform(0.2, 0.9) + (1.0 if female and rng.random() < 0.25 else 0.0)
    less = cv2.addWeighted(red[0], light * rng.uniform(0.05, 0.65) / 2, red[1], strength / 2, 0)
    return cv2.multiply(cv2.transform(texture, gain[:, None] * mix), cv2.bitwise_not(less), scale=1 / 255)


def reddened(
    body: BaseBody, zone: np.ndarray, eyes: dict[str, np.ndarray], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Where skin is redder, in its texture.

    Args:
        body: The body.
        zone: ``(F,)`` zone of each of its faces.
        eyes: Centre of each eye of the standard body, metres.
        size: ``(h, w)`` of the texture.

    Returns:
        Cheeks, nose and ears; and lips, each ``(h, w, 4)`` uint8: 510 times the share of the light that is lost there.
    """
    faces, points = body.data['faces/body'], body.template * 0.1
    marks = np.zeros((len(points), 2))
    for name, column, share in (('ears', 0, 0.7), ('lips', 1, 1.0)):
        mine = (body.data[f'mask/{name}'] > 110) & (zone == ZONE['head'])
        marks[np.unique(faces[mine]), column] = share
    head = np.unique(faces[zone == ZONE['head']])
    spots = [(points[head[np.argmax(points[head, 2])]], 0.014, 0.6)]  # the tip of the nose
    spots += [(eye + [np.sign(eye[0]) * 0.012, -0.038, 0.0], 0.02, 1.0) for eye in eyes.values()]
    for spot, spread, share in spots:
        away = np.linalg.norm((points[head] - spot) * [1, 1, 0.3], axis=1)
        near = share * np.exp(-0.5 * (away / spread) ** 2)
        marks[head, 0] = np.maximum(marks[head, 0], np.where(near > 0.02, near, 0))
    triangles, uv, _ = body.triangles('body')
    where = cv2.GaussianBlur(dressing.texel_values(triangles, uv, marks, size), (0, 0), size[0] / 512)
    lost = 510 * np.array([0.04, 0.2, 0.17, 0], np.float32)
    return tuple((where[..., i : i + 1] * lost + 0.5).astype(np.uint8) for i in range(2))
