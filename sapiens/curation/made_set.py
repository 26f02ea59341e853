# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A set of images with known answers, made from renders of people and photos without any."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..datasets.image_files import decode_image, find_files, list_images
from ..datasets.label_files import encode_image
from ..datasets.manifest import Manifest
from ..datasets.storage import read_bytes
from ..errors import UserError
from ..utils.files import write_atomic
from .stage import need

SHARES = dict(
    good=0.4, text=0.08, watermark=0.1, drawing=0.1, nobody=0.08, small=0.07, copy=0.12, broken=0.03, poor=0.02
)
"""Kinds of images and their shares."""
COPIES = ('recompressed', 'shrunk', 'mirrored', 'cropped', 'lit')
WORDS = (
    'SALE', 'open today', 'breaking news', 'new arrivals', 'subscribe', 'when you see it', 'only 9.99', 'follow me',
    'BEST OF 2024', 'good morning', 'example.com', 'free shipping', 'limited offer', 'read more', 'team event',
)  # fmt: skip


def make_set(people: str, backgrounds: str, out: Path, count: int, seed: int = 0) -> Iterator[str]:
    """Write ``OUT/images/KIND/NUMBER.jpg`` and ``OUT/truth.json`` (file name -> kind, and for copies the original).

    Args:
        people: Manifest folder of renders, see `sapiens render`.
        backgrounds: Folder of photos without people, and of panoramas (``.hdr``), of which views are taken.
        out: Folder to fill; it must not hold a set already.
        count: Number of images.
        seed: Same seed and inputs = same set.

    Yields:
        The name of each image once it is written.

    Raises:
        UserError: Too few images or renders, or no background.
    """
    rng = np.random.default_rng(seed)
    numbers = {kind: max(1, round(share * count)) for kind, share in SHARES.items()}
    numbers['good'] += count - sum(numbers.values())
    if numbers['good'] < 1:
        raise UserError(f'{count} images are too few for {len(SHARES)} kinds; make at least {len(SHARES)}')
    renders = _large_people(people)
    needed = sum(numbers[kind] for kind in ('good', 'text', 'watermark', 'drawing', 'small', 'broken', 'poor'))
    if len(renders) < needed:
        raise UserError(f'{people}: {len(renders)} renders show somebody large, {needed} are needed: render more')
    order = iter(rng.permutation(len(renders))[:needed])
    scenes = _Backgrounds(backgrounds)
    truth: dict[str, dict[str, Any]] = {}
    if (out / 'truth.json').exists():
        raise UserError(f'{out}: holds a set already; give another folder')
    originals: list[np.ndarray] = []  # good images, of which copies are made; the first files of the set

    def render() -> np.ndarray:
        return _enlarge(_open(renders[next(order)]), rng)

    def good(number: int) -> bytes:
        image = render()
        if number < numbers['copy']:
            originals.append(image)
        return _jpeg(image, rng)

    def poor(number: int) -> bytes:
        image = render()
        small = cv2.resize(image, (150, 200), interpolation=cv2.INTER_AREA)
        return _jpeg(small if number % 2 else cv2.GaussianBlur(image, (0, 0), 12), rng)

    makers: dict[str, Callable[[int], bytes]] = {
        'good': good,
        'text': lambda _: _jpeg(_write_words(render(), rng), rng),
        'watermark': lambda _: _jpeg(_watermark(render(), rng), rng),
        'drawing': lambda _: _jpeg(_draw(render(), rng), rng),
        'nobody': lambda _: _jpeg(scenes.draw(rng), rng),
        'small': lambda _: _jpeg(_paste(renders[next(order)], scenes.draw(rng), rng), rng),
        'copy': lambda number: _copy(originals[number % len(originals)], COPIES[number % len(COPIES)], rng),
        'broken': lambda number: _break(_jpeg(render(), rng), number),
        'poor': poor,
    }
    for kind, make in makers.items():
        for number in range(numbers[kind]):
            name = f'{len(truth):06d}.jpg'
            write_atomic(out / 'images' / kind / name, make(number))
            truth[name] = dict(kind=kind)
            if kind == 'copy':
                truth[name].update(of=f'{number % len(originals):06d}.jpg', how=COPIES[number % len(COPIES)])
            yield name
    write_atomic(out / 'truth.json', json.dumps(truth, indent=0))


def _large_people(folder: str) -> list[dict[str, Any]]:
    """Entries whose largest person fills most of the height and a third of the width at least."""
    found = []
    for entry in Manifest(folder).entries():
        fields = entry['fields']
        boxes = np.array([p['bbox'] for p in fields['persons']], np.float64).reshape(-1, 4)
        sides = boxes[:, 2:] / [fields['width'], fields['height']]
        if len(boxes) and ((sides[:, 1] > 0.5) & (sides[:, 0] > 0.3)).any():
            found.append(entry)
    return found


def _open(entry: Mapping[str, Any]) -> np.ndarray:
    return decode_image(read_bytes(entry['files']['image']), entry['id'])


def _enlarge(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photo-sized, with grain, which small renders lack."""
    scale = rng.uniform(800, 1100) / max(image.shape[:2])
    if scale > 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    grain = cv2.randn(np.empty(image.shape, np.int8), 0, float(rng.uniform(2, 5)))
    return cv2.add(image, grain, dtype=cv2.CV_8U)


def _jpeg(image: np.ndarray, rng: np.random.Generator) -> bytes:
    return encode_image(image, '.jpg', int(rng.integers(80, 96)))


def _words(rng: np.random.Generator, size: int) -> np.ndarray:
    """A line of text as a mask ``(h, w)`` of 0 to 255."""
    image_of, fonts, draw_on = need('PIL.Image'), need('PIL.ImageFont'), need('PIL.ImageDraw')
    text, font = str(rng.choice(WORDS)), fonts.load_default(size)
    left, top, right, bottom = (int(v) for v in font.getbbox(text))
    canvas = image_of.new('L', (right - left + 4, bottom - top + 4))
    draw_on.Draw(canvas).text((2 - left, 2 - top), text, 255, font)
    return np.asarray(canvas)


def _blend(image: np.ndarray, mask: np.ndarray, x: int, y: int, color: Any, opacity: float) -> None:
    height, width = (min(m, s - o) for m, s, o in zip(mask.shape, image.shape[:2], (y, x), strict=True))
    if height <= 0 or width <= 0:
        return
    share = mask[:height, :width, None].astype(np.float32) / 255 * opacity
    area = image[y : y + height, x : x + width]
    area[:] = (area * (1 - share) + np.asarray(color, np.float32) * share).astype(np.uint8)


def _write_words(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Captions as on posters, memes and shops: one to four opaque lines, some on a bar."""
    image = image.copy()
    for _ in range(int(rng.integers(2, 5))):
        mask = _words(rng, int(rng.integers(32, 80)))
        y = int(rng.integers(0, max(1, image.shape[0] - mask.shape[0])))
        x = int(rng.integers(0, max(1, image.shape[1] - mask.shape[1])))
        dark = bool(rng.integers(2))
        if rng.random() < 0.5:
            image[max(0, y - 8) : y + mask.shape[0] + 8] = 255 if dark else 0
        _blend(image, mask, x, y, (0, 0, 0) if dark else (255, 255, 255), 1)
    return image


def _watermark(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Words that shine through: in rows over the whole image, turned, or one large one in the middle."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    line = _words(rng, int(rng.integers(28, 56)))
    if rng.random() < 0.3:
        zoom = 0.8 * width / line.shape[1]
        line = cv2.resize(line, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)[:height]
        y = int(rng.integers(height // 4, max(height // 4 + 1, height * 3 // 4 - line.shape[0])))
        left = width // 10
        mask[y : y + line.shape[0], left : left + line.shape[1]] = line[: height - y, : width - left]
    else:
        step = (line.shape[0] + int(rng.integers(50, 120)), line.shape[1] + int(rng.integers(30, 90)))
        for row, y in enumerate(range(0, height - line.shape[0], step[0])):
            for x in range(row % 2 * step[1] // 2, width - line.shape[1], step[1]):
                mask[y : y + line.shape[0], x : x + line.shape[1]] = line
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.uniform(-35, 35)), 1.15)
    mask = cv2.warpAffine(mask, turn, (width, height))
    image = image.copy()
    _blend(image, mask, 0, 0, (255, 255, 255), float(rng.uniform(0.2, 0.45)))
    return image


def _draw(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture in the manner of a cartoon, a pencil sketch or a painting."""
    way = int(rng.integers(3))
    smooth = cv2.bilateralFilter(cv2.pyrDown(cv2.medianBlur(image, 5)), 9, 60, 9)
    smooth = cv2.resize(smooth, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    grey = cv2.medianBlur(cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY), 5)
    lines = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 3)
    if way == 0:
        levels = int(rng.integers(4, 8))
        flat = (smooth.astype(np.float32) / 256 * levels).astype(np.uint8) * (256 // levels) + 128 // levels
        return cv2.bitwise_and(flat, flat, mask=lines)
    if way == 1:
        paper = cv2.divide(grey, 255 - cv2.GaussianBlur(255 - grey, (0, 0), 12), scale=256)
        return np.repeat(cv2.min(paper, lines)[..., None], 3, 2)
    colours = np.clip(smooth.astype(np.float32) * 1.5 - 60, 0, 255).astype(np.uint8)
    return cv2.medianBlur(colours, 15)


class _Backgrounds:
    """Photos without people: views of panoramas, and photos as they are, each once before they come again."""

    def __init__(self, folder: str) -> None:
        self.panoramas = list(map(str, find_files(folder, ('.hdr',))))
        try:
            self.photos = list(list_images(folder))
        except UserError:
            self.photos = []
        if not self.panoramas and not self.photos:
            raise UserError(f'{folder}: holds no photo and no .hdr')
        self.left, self.read = list(self.photos), (None, None)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One, ``(H, W, 3)`` uint8 RGB of photo size."""
        if self.left and (not self.panoramas or rng.random() < 0.3):
            path = self.left.pop(int(rng.integers(len(self.left))))
            self.left = self.left or ([] if self.panoramas else list(self.photos))
            return _enlarge(decode_image(read_bytes(path), path), rng)
        return self._view(self.panoramas[int(rng.integers(len(self.panoramas)))], rng)

    def _view(self, path: str, rng: np.random.Generator) -> np.ndarray:
        if self.read[0] != path:
            panorama = cv2.imread(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
            if panorama is None:
                raise UserError(f'{path}: not a readable panorama; take it out of the folder')
            self.read = path, panorama[..., ::-1]
        panorama = self.read[1]
        height, width = (int(v) for v in rng.choice([[1024, 768], [768, 1024], [900, 900]]))
        y, x = np.mgrid[:height, :width]
        half = np.tan(np.radians(rng.uniform(25, 40)))
        rays = np.stack([(x / width * 2 - 1) * half, (1 - y / height * 2) * half * height / width, np.ones_like(x)], -1)
        pitch, yaw = np.radians(rng.uniform(-25, 20)), rng.uniform(0, 2 * np.pi)
        up = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
        rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True) @ up.T
        columns = ((np.arctan2(rays[..., 0], rays[..., 2]) + yaw) / (2 * np.pi) % 1) * (panorama.shape[1] - 1)
        rows = (0.5 - np.arcsin(np.clip(rays[..., 1], -1, 1)) / np.pi) * (panorama.shape[0] - 1)
        view = cv2.remap(panorama, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_CUBIC)
        view = np.clip(view / max(np.percentile(view, 85), 1e-6) * 0.7, 0, 1) ** (1 / 2.2)
        return _enlarge((view * 255).astype(np.uint8), rng)


def _paste(entry: Mapping[str, Any], scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The people of a render, small, in a photo without people; no side of their box is above 220 pixels."""
    image = _open(entry)
    mask = (decode_image(read_bytes(entry['files']['mask']), 'mask').max(2) > 0).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(mask)
    scale = rng.uniform(90, 220) / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image[y : y + height, x : x + width], size, interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(mask[y : y + height, x : x + width].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    left = int(rng.integers(0, scene.shape[1] - size[0]))
    top = int(rng.integers(scene.shape[0] // 3, scene.shape[0] - size[1]))
    scene = scene.copy()
    area = scene[top : top + size[1], left : left + size[0]]
    area[:] = (area * (1 - alpha[..., None]) + small * alpha[..., None]).astype(np.uint8)
    return scene


def _copy(image: np.ndarray, how: str, rng: np.random.Generator) -> bytes:
    """A file of the same picture, changed as copies on the web are; never larger than the original."""
    quality = int(rng.integers(80, 96))
    if how == 'recompressed':
        quality = int(rng.integers(25, 60))
    elif how == 'shrunk':
        scale = float(rng.uniform(0.5, 0.8))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    elif how == 'mirrored':
        image = image[:, ::-1]
    elif how == 'cropped':
        cut = [int(side * rng.uniform(0.02, 0.08)) for side in (*image.shape[:2], *image.shape[:2])]
        image = image[cut[0] : -cut[2], cut[1] : -cut[3]]
    else:
        image = cv2.convertScaleAbs(image, alpha=float(rng.uniform(0.8, 1.2)), beta=float(rng.uniform(-15, 15)))
    return encode_image(image, '.jpg', quality)


def _break(data: bytes, number: int) -> bytes:
    """Files as crawls bring them: cut off, empty, a page of HTML, a header without an image, another format."""
    return [
        data[: len(data) // 3], b'', b'<!DOCTYPE html><html><body>404 Not Found</body></html>', data[:2] + data[300:],
        b'GIF89a' + data[6:],
    ][number % 5]  # fmt: skip
