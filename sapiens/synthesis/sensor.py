# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a camera does to a picture: white balance, blur, noise, JPEG. Labels stay exact."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Sensor:
    """Strength of each effect; 0 switches it off, 1 is a phone in ordinary light, more is worse.

    Attributes:
        white_balance: Wrong colour temperature and tint.
        blur: Lens and motion blur.
        noise: Shot and read noise.
        jpeg: Compression.
    """

    white_balance: float = 0.5
    blur: float = 0.4
    noise: float = 0.5
    jpeg: float = 0.5


def apply_sensor(image: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
    """Apply random sensor effects.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        sensor: Strengths.
        rng: Source of randomness.
    """
    out = image.astype(np.float32)
    if sensor.white_balance:
        warm, tint = rng.normal(0, 0.07, 2) * sensor.white_balance
        out *= np.array([1 + warm, 1 + tint * 0.4, 1 - warm], np.float32)
    if sensor.blur and rng.random() < 0.5:
        size = max(image.shape[:2]) / 1024
        if rng.random() < 0.6:
            out = cv2.GaussianBlur(out, (0, 0), max(abs(rng.normal(0, 1.1)) * sensor.blur * size, 0.15))
        else:
            length = max(int(round(abs(rng.normal(0, 7)) * sensor.blur * size)), 1)
            kernel = np.zeros((length, length), np.float32)
            kernel[length // 2] = 1 / length
            turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), rng.uniform(0, 180), 1)
            kernel = cv2.warpAffine(kernel, turn, (length, length))
            out = cv2.filter2D(out, -1, kernel / max(kernel.sum(), 1e-6))
    if sensor.noise:
        level = abs(rng.normal(0, 2.2)) * sensor.noise
        out += rng.standard_normal(out.shape, dtype=np.float32) * level * np.sqrt(np.clip(out, 0, 255) / 128 + 0.15)
    out = np.clip(out + 0.5, 0, 255).astype(np.uint8)
    if sensor.jpeg and rng.random() < 0.6:
        quality = int(np.clip(97 - abs(rng.normal(0, 22)) * sensor.jpeg, 35, 97))
        data = cv2.imencode('.jpg', out[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        out = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    return np.ascontiguousarray(out)
