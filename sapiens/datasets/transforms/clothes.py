# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Other clothes for rendered people: drawn fabrics and parts of photographs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ...errors import UserError
from ...registry import TRANSFORMS
from .background import photos_of, random_window
from .base import Transform
from .fields import Sample, vocabulary_of

_CLOTHES = re.compile(r'cloth|shoe|sock|apparel', re.IGNORECASE)


@TRANSFORMS.register_module()
@dataclass(eq=False)
class RandomTexture(Transform):
    """Give rendered clothes, and now and then skin and hair, a drawn fabric or the texture of a photo; shading stays.

    Renders in front of photographs teach that whatever looks like a photograph is background. People who wear parts of
    photographs unlearn that, and their clothes are more varied than any wardrobe. Needs ``part_map``; samples with a
    mask alone stay as they are, and so do those with neither where there are no photos.

    Args:
        clothes_prob: Probability that a class of clothes changes.
        body_prob: Probability that another class changes.
        strength: Range of the texture's share.
        fabric_prob: Share of `fabric` among the textures; without photos all are drawn.
        background: Folder of the photos; None takes the data set's.
    """

    prob: float = 0.5
    clothes_prob: float = 0.7
    body_prob: float = 0.15
    strength: tuple[float, float] = (0.4, 1.0)
    fabric_prob: float = 0.5
    background: str | None = None

    def transform(self, results: Sample) -> Sample:
        """Change ``img`` with the given probability."""
        if np.random.rand() >= self.prob:
            return results
        if 'part_map' not in results:
            if self.background is None or 'mask' in results:
                return results
            raise UserError(f"{results['img_path']}: RandomTexture needs parts; add 'parts' to the data set's labels, "
                            'or give it no background')  # fmt: skip
        image, parts = results['img'], results['part_map']
        changed = image.astype(np.float32)
        photos = photos_of(self.background)
        counts = np.bincount(parts.ravel(), minlength=256)
        for label, name in enumerate(vocabulary_of(results, 'part_vocabulary').names):
            clothes = bool(_CLOTHES.search(name))
            if label == 0 or np.random.rand() >= (self.clothes_prob if clothes else self.body_prob):
                continue
            if counts[label] < 40:
                continue
            region = parts == label
            share = np.random.uniform(*self.strength) * (1.0 if clothes else 0.6)
            drawn = not photos or np.random.rand() < self.fabric_prob
            new = sewn(image, region) if drawn else dressed(image, region, photos)
            changed[region] += share * (new - changed[region])
        results['img'] = np.clip(changed + 0.5, 0, 255).astype(np.uint8)
        return results


def dressed(image: np.ndarray, region: np.ndarray, photos: Sequence[str]) -> np.ndarray:
    """Colours ``(N, 3)`` of a region with a photo's texture, as bright as the region on average and shaded like it."""
    texture = random_window(photos, image.shape[:2])[region].astype(np.float32)
    if np.random.rand() < 0.5:  # keep the colour of the cloth, take the pattern alone
        pattern = np.clip(texture.mean(1, keepdims=True) / max(texture.mean(), 8.0), 0.3, 2.5)
        return image[region] * pattern
    return texture * _shading(image, region)


def sewn(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Colours ``(N, 3)`` of a region in a `fabric` of any brightness, shaded like the region."""
    x, y, width, height = cv2.boundingRect(region.view(np.uint8))
    inside = region[y : y + height, x : x + width]
    return fabric((height, width))[inside] * np.random.uniform(150, 270) * _shading(image, region)


def _shading(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """``(N, 1)`` light on a region, 1 on average."""
    light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[region].astype(np.float32)
    return np.clip(light / max(light.mean(), 8.0), 0.3, 2.0)[:, None]


def dye() -> np.ndarray:
    """The reflectance ``(3,)`` of a random cloth: white, black, grey, strong or pale."""
    kind = np.random.choice(5, p=[0.22, 0.15, 0.13, 0.3, 0.2])
    if kind == 0:
        return np.float32(np.random.uniform(0.78, 1.0)) + np.random.uniform(-0.05, 0.0, 3).astype(np.float32)
    if kind < 3:
        grey = np.random.uniform(0.02, 0.14) if kind == 1 else np.random.uniform(0.15, 0.75)
        return (grey * np.exp(np.random.normal(0, 0.04, 3))).astype(np.float32)
    low, high = ((0.55, 1.0), (0.3, 1.0)) if kind == 3 else ((0.1, 0.55), (0.2, 0.9))
    hsv = np.array([[[np.random.uniform(0, 360), np.random.uniform(*low), np.random.uniform(*high)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]


def fabric(size: tuple[int, int]) -> np.ndarray:
    """A random cloth ``(H, W, 3)`` in 0 to 1: plain, striped, checked, dotted or blotched, perhaps with a print."""
    height, width = size
    cloth = np.empty((height, width, 3), np.float32)
    cloth[:] = dye()
    kind = np.random.choice(5, p=[0.4, 0.22, 0.14, 0.1, 0.14])
    if kind:
        period = float(np.exp(np.random.uniform(np.log(3.0), np.log(max(6.0, 0.5 * max(size))))))
        angle = np.random.choice([0.0, np.pi / 2, np.random.uniform(0, np.pi)]) + np.random.normal(0, 0.1)
        y, x = np.mgrid[:height, :width].astype(np.float32) / period
        u, v = (np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi, (np.cos(angle) * y - np.sin(angle) * x) * 2 * np.pi
        u += np.random.uniform(0, 1.5) * np.sin(v * np.random.uniform(0.1, 0.4))  # folds bend the pattern
        share = np.random.uniform(-0.7, 0.7)
        if kind == 1:
            wave = np.sin(u)
        elif kind == 2:
            wave = np.sin(u) * np.sin(v) if np.random.rand() < 0.5 else np.maximum(np.sin(u), np.sin(v))
        elif kind == 3:
            wave, share = np.sin(u) + np.sin(v), np.random.uniform(0.8, 1.5)
        else:
            grid = np.random.normal(0, 1, tuple(max(2, int(side / period) + 2) for side in size)).astype(np.float32)
            wave = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        weight = np.clip(0.5 + (wave - share) * period / 6, 0, 1)[..., None]
        cloth += weight * (dye() - cloth)
    if np.random.rand() < 0.2:
        cv2.ellipse(
            cloth,
            (int(width * np.random.uniform(0.3, 0.7)), int(height * np.random.uniform(0.2, 0.7))),
            (int(width * np.random.uniform(0.05, 0.25)) + 1, int(height * np.random.uniform(0.03, 0.2)) + 1),
            np.random.uniform(0, 180),
            0,
            np.random.choice([360, 270, 180]),
            dye().tolist(),
            -1,
        )
    return cloth
