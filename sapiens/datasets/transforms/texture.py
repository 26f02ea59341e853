# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Dress rendered people in the textures of photographs."""

from __future__ import annotations

import re

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS
from ...vocabularies import load_vocabulary
from .background import photos_of, random_window
from .fields import Sample

_CLOTHES = re.compile(r'cloth|shoe|sock|apparel', re.IGNORECASE)


@TRANSFORMS.register_module()
class RandomTexture(BaseTransform):
    """Give clothes, and now and then skin and hair, the texture of a random photo; light and shadow stay.

    Renders in front of photographs teach that whatever looks like a photograph is background. People who wear parts of
    photographs unlearn that, and their clothes are more varied than any wardrobe. Needs ``part_map``.

    Args:
        prob: Probability.
        clothes_prob: Probability that a class of clothes changes.
        body_prob: Probability that another class changes.
        strength: Range of the texture's share.
    """

    def __init__(
        self,
        prob: float = 0.5,
        clothes_prob: float = 0.7,
        body_prob: float = 0.15,
        strength: tuple[float, float] = (0.4, 1.0),
    ) -> None:
        self.prob, self.strength = prob, tuple(strength)
        self.clothes_prob, self.body_prob = clothes_prob, body_prob

    def transform(self, results: Sample) -> Sample:
        """Change ``img`` with the given probability, where the data set has a ``background`` to take photos from."""
        folder = results.get('background')
        if folder is None or np.random.rand() >= self.prob:
            return results
        image, parts = results['img'], results['part_map']
        changed = image.astype(np.float32)
        for label, name in enumerate(load_vocabulary(results['part_vocabulary']).names):
            clothes = bool(_CLOTHES.search(name))
            if label == 0 or np.random.rand() >= (self.clothes_prob if clothes else self.body_prob):
                continue
            region = parts == label
            if region.sum() < 40:
                continue
            share = np.random.uniform(*self.strength) * (1.0 if clothes else 0.6)
            changed[region] += share * (dressed(image, region, photos_of(folder)) - changed[region])
        results['img'] = np.clip(changed + 0.5, 0, 255).astype(np.uint8)
        return results


def dressed(image: np.ndarray, region: np.ndarray, photos: tuple[str, ...]) -> np.ndarray:
    """Colours ``(N, 3)`` of a region with a photo's texture, as bright as the region on average and shaded like it."""
    texture = random_window(photos, image.shape[:2])[region].astype(np.float32)
    light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[region].astype(np.float32)
    shading = np.clip(light / max(light.mean(), 8.0), 0.3, 2.0)[:, None]
    if np.random.rand() < 0.5:  # keep the colour of the cloth, take the pattern alone
        pattern = np.clip(texture.mean(1, keepdims=True) / max(texture.mean(), 8.0), 0.3, 2.5)
        return image[region] * pattern
    return texture * shading
