# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Colours and patterns of cloth, shoes, hair and eyes as they are seen in a street."""

from __future__ import annotations

import cv2
import numpy as np

# sRGB and how often; mostly muted, seldom bright.
_CLOTH = {
    'black': ((26, 26, 28), 1.6), 'charcoal': ((52, 54, 58), 1.4), 'grey': ((112, 114, 118), 1.1),
    'light grey': ((172, 172, 170), 0.9), 'white': ((226, 224, 220), 1.4), 'cream': ((216, 206, 186), 0.8),
    'navy': ((34, 42, 68), 1.5), 'blue': ((52, 78, 128), 0.6), 'dusty blue': ((112, 134, 158), 0.8),
    'beige': ((186, 166, 136), 0.8), 'khaki': ((140, 126, 96), 0.6), 'olive': ((84, 84, 56), 0.7),
    'brown': ((88, 66, 50), 0.7), 'burgundy': ((96, 34, 44), 0.6), 'green': ((44, 76, 58), 0.5),
    'teal': ((46, 90, 96), 0.4), 'rose': ((192, 148, 144), 0.4), 'lavender': ((148, 140, 168), 0.3),
    'mint': ((160, 184, 168), 0.3), 'rust': ((144, 82, 54), 0.4), 'mustard': ((172, 136, 66), 0.35),
    'red': ((158, 40, 42), 0.4), 'royal blue': ((40, 70, 150), 0.25), 'orange': ((204, 112, 50), 0.12),
    'turquoise': ((44, 144, 150), 0.12), 'pink': ((206, 96, 132), 0.12),
}  # fmt: skip
_DENIM = {'denim': ((64, 82, 112), 2.2), 'light denim': ((116, 136, 164), 1.2), 'dark denim': ((40, 50, 72), 1.8)}
_SHOES = {
    'black': ((28, 27, 27), 3), 'brown': ((84, 58, 40), 1.6), 'tan': ((152, 116, 80), 0.8),
    'white': ((214, 212, 208), 2), 'grey': ((112, 112, 114), 1.2), 'navy': ((38, 46, 70), 0.8),
    'burgundy': ((92, 36, 42), 0.3),
    'red': ((158, 44, 44), 0.2), 'green': ((60, 88, 66), 0.2),
}  # fmt: skip
_SOCKS = {k: _CLOTH[k] for k in ('black', 'charcoal', 'grey', 'light grey', 'white', 'navy', 'burgundy')}
_TROUSERS = {k: v for k, v in _CLOTH.items() if k not in ('rose', 'lavender', 'mint', 'orange', 'turquoise', 'pink')}
PALETTES = {'upper': _CLOTH, 'lower': {**_TROUSERS, **_DENIM}, 'shoe': _SHOES, 'sock': _SOCKS}

# Melanin-brown to blond to red, then grey and white.
_HAIR = ((24, 20, 19), (40, 30, 25), (66, 46, 33), (94, 66, 44), (138, 104, 68), (172, 138, 94), (118, 62, 38),
         (132, 130, 127), (176, 173, 168))  # fmt: skip
_EYES = ((66, 44, 30), (86, 58, 36), (106, 80, 50), (80, 86, 60), (72, 98, 120), (104, 120, 132), (46, 32, 24))


def cloth_color(rng: np.random.Generator, kind: str = 'upper') -> np.ndarray:
    """A colour of a palette, a little changed: ``(3,)`` float32 sRGB, 0 to 255; ``kind`` is a key of `PALETTES`."""
    colors, weights = zip(*PALETTES[kind].values(), strict=True)
    chosen = np.array(colors[rng.choice(len(colors), p=np.array(weights) / sum(weights))], np.float32)
    return np.clip(chosen * rng.uniform(0.8, 1.15) + rng.normal(0, 5, 3), 8, 236).astype(np.float32)


def hair_color(dark: bool, age: float, rng: np.random.Generator) -> np.ndarray:
    """Hair of somebody; grey comes with age (0 to 1, 0.67 = young adult), dyed hair is rare. ``(3,)`` sRGB."""
    weights = np.array([4, 3, 1, 0.2, 0.05, 0.02, 0.05, 0, 0] if dark else [0.8, 1.5, 2.2, 2, 1.4, 0.8, 0.5, 0, 0])
    grey = np.clip((age - 0.78) / 0.2, 0, 1)
    weights = weights / weights.sum() * (1 - 0.8 * grey)
    weights[[7, 8]] = 0.45 * grey, 0.35 * grey
    color = np.array(_HAIR[rng.choice(len(_HAIR), p=weights / weights.sum())], np.float64)
    if rng.random() < 0.012:
        color = color * 0.4 + rng.uniform(20, 170, 3) * 0.6
    return color * rng.uniform(0.85, 1.15)


def strands(texture: np.ndarray) -> np.ndarray:
    """Hair ``(h, w, 4)`` uint8 in grey with its strands, but without the painted light, dark roots and patches."""
    luma = cv2.cvtColor(np.ascontiguousarray(texture[..., :3]), cv2.COLOR_RGB2GRAY).astype(np.float32) + 4
    weight = texture[..., 3].astype(np.float32) / 255 + 1e-3
    sigma = 0.025 * len(texture)
    wide = cv2.GaussianBlur(luma * weight, (0, 0), sigma) / cv2.GaussianBlur(weight, (0, 0), sigma)
    middle = float(np.median(wide[texture[..., 3] > 128])) if (texture[..., 3] > 128).any() else 1.0
    even = 100 * (luma / wide) * np.clip(wide / middle, 0.5, 2) ** 0.3
    out = texture.copy()
    out[..., :3] = np.clip(even, 0, 255).astype(np.uint8)[..., None]
    return out


def eye_color(dark: bool, rng: np.random.Generator) -> np.ndarray:
    """Colour of an iris, ``(3,)`` sRGB."""
    chosen = int(rng.choice([0, 1, 6])) if dark and rng.random() < 0.9 else int(rng.integers(len(_EYES)))
    return np.array(_EYES[chosen]) * rng.uniform(0.85, 1.2)


def recolour(
    texture: np.ndarray, kind: str, rng: np.random.Generator, used: np.ndarray | None = None,
    places: np.ndarray | None = None, keep: float = 0.45,
) -> np.ndarray:  # fmt: skip
    """A texture in other colours and, seldom, with a pattern; folds, seams and shade stay.

    Args:
        texture: ``(h, w, 4)`` uint8 RGBA.
        kind: Key of `PALETTES`.
        rng: Source of randomness.
        used: ``(N, 2)`` texture coordinates, v up, of the part that is recoloured; its median takes the new colour.
        places: ``(h, w, 2)`` where each texel is on the body, see `weave`; None = no pattern.
        keep: How often the texture keeps its own colours, a little changed.
    """
    rgb = np.ascontiguousarray(texture[..., :3])
    out = texture.copy()
    if rng.random() < keep:
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
        turn, gain, value = int(rng.normal(0, 6)), rng.uniform(0.5, 1.1), rng.uniform(0.7, 1.15)
        table = np.arange(256)[:, None]
        table = np.concatenate([(table + turn) % 180, table * gain, np.minimum(table * value, 245)], 1)
        hsv = cv2.LUT(hsv, np.clip(table, 0, 255).astype(np.uint8).reshape(256, 1, 3))
        out[..., :3] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        return out
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    middle = _median(luma, texture[..., 3]) if used is None else _median_at(luma, used)
    shade = np.clip(np.arange(256) / max(middle, 12.0), 0.3, 1.6)[:, None] ** 0.9
    color = cloth_color(rng, kind)
    out[..., :3] = _by_luma(luma, shade * color)
    if places is not None and rng.random() < (0.3 if kind == 'upper' else 0.1):
        mask = weave(places[..., 0], places[..., 1], rng)[..., None]
        other = _by_luma(luma, shade * second_color(color, rng))
        out[..., :3] = out[..., :3] * (1 - mask) + other * mask
    return out


def second_color(color: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A colour that a pattern may put beside ``color``: white, black, or darker or lighter of the same kind."""
    light = color.mean() > 110
    kind = rng.random()
    if kind < 0.45:
        return np.full(3, rng.uniform(20, 60) if light else rng.uniform(170, 228), np.float32) + rng.normal(0, 4, 3)
    if kind < 0.8:
        return color * (rng.uniform(0.45, 0.75) if light else rng.uniform(1.5, 2.2))
    return cloth_color(rng)


def weave(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pattern in [0, 1], float32: rows, pinstripes, checks or dots.

    Args:
        x: Metres around the body.
        y: Metres upwards, of the same shape.
        rng: Source of randomness.
    """
    kind = rng.choice(['rows', 'pinstripes', 'checks', 'dots'], p=[0.4, 0.15, 0.3, 0.15])
    if kind == 'rows':
        mask = _stripe(y, rng.uniform(0.015, 0.07), rng.uniform(0.2, 0.5))
    elif kind == 'pinstripes':
        mask = _stripe(x, rng.uniform(0.015, 0.03), rng.uniform(0.12, 0.25))
    elif kind == 'checks':
        period, share = rng.uniform(0.02, 0.07), rng.uniform(0.2, 0.5)
        mask = 0.5 * _stripe(x, period, share) + 0.5 * _stripe(y, period, share)
    else:
        period = rng.uniform(0.02, 0.05)
        radius = np.hypot((x / period + 0.5 * (np.floor(y / period) % 2)) % 1 - 0.5, y / period % 1 - 0.5)
        mask = np.clip((rng.uniform(0.16, 0.28) - radius) * 12 + 0.5, 0, 1)
    return (mask * rng.uniform(0.6, 1.0)).astype(np.float32)


def _stripe(x: np.ndarray, period: float, share: float) -> np.ndarray:
    """Stripes whose edges are soft over a twelfth of the period."""
    return np.clip((share / 2 - np.abs(x / period % 1 - 0.5)) * 12 + 0.5, 0, 1)


def tint(texture: np.ndarray, color: np.ndarray, strength: float, contrast: float = 1.0) -> np.ndarray:
    """Move a texture's colour towards ``color`` (sRGB); ``contrast`` below 1 evens out its light and dark."""
    luma, alpha = cv2.cvtColor(texture, cv2.COLOR_RGBA2GRAY), cv2.extractChannel(texture, 3)
    shade = np.clip(np.arange(256) / max(_median(luma, alpha), 8.0), 0.2, 1.9) ** contrast
    table = np.minimum(shade[:, None] * np.asarray(color, np.float64) + 0.5, 245)
    table = np.column_stack([np.maximum(table, 0), np.arange(256)]).astype(np.uint8).reshape(256, 1, 4)
    goal = cv2.LUT(cv2.merge([luma, luma, luma, alpha]), table)
    return goal if strength == 1 else cv2.addWeighted(texture, 1 - strength, goal, strength, 0)


def saturation_matrix(saturation: float) -> np.ndarray:
    """``(4, 4)`` that brings RGBA colours nearer to grey; 1 = as they are."""
    matrix = np.zeros((4, 4))
    matrix[:3, :3] = saturation * np.eye(3) + (1 - saturation) * np.array([0.299, 0.587, 0.114])
    matrix[3, 3] = 1
    return matrix


def _median(luma: np.ndarray, alpha: np.ndarray) -> float:
    """Median of an 8-bit picture where it is opaque; 128 where nothing is."""
    counts = cv2.calcHist([luma], [0], (alpha > 128).astype(np.uint8), [256], [0, 256]).ravel().cumsum()
    return float(np.searchsorted(counts, counts[-1] / 2)) if counts[-1] else 128.0


def _median_at(luma: np.ndarray, uv: np.ndarray) -> float:
    """Median of an 8-bit picture at texture coordinates ``(N, 2)``, v up."""
    height, width = luma.shape
    column = np.clip((uv[:, 0] % 1) * width, 0, width - 1).astype(int)
    row = np.clip((1 - uv[:, 1] % 1) * height, 0, height - 1).astype(int)
    return float(np.median(luma[row, column])) if len(uv) else 128.0


def _by_luma(luma: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Look colours ``(256, 3)`` up by brightness: ``(h, w, 3)`` uint8."""
    table = np.clip(colors + 0.5, 0, 245).astype(np.uint8).reshape(256, 1, 3)
    return cv2.LUT(cv2.merge([luma, luma, luma]), table)
