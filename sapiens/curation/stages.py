# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Filters that need no model of ours: size, quality, perceptual hashes, text."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ..registry import CURATION_STAGES
from .stage import Item, Stage, need, scaled


@CURATION_STAGES.register_module()
class ImageSize(Stage):
    """Size and shape; every config needs it, since duplicates keep their largest copy."""

    columns = {'height': 'int', 'width': 'int', 'bytes': 'int'}

    def score(self, items: list[Item]) -> list[dict[str, Any]]:
        """From the header."""
        return [dict(height=i.size[0], width=i.size[1], bytes=len(i.data)) for i in items]

    def reason(self, row: Any, min_side: int = 0, max_aspect: float = float('inf')) -> str | None:
        """Too small or too long.

        Args:
            min_side: Least shorter side in pixels.
            max_aspect: Most of longer over shorter side.
        """
        short, long = sorted((row['height'], row['width']))
        return 'too small' if short < min_side else 'too long and narrow' if long > max_aspect * short else None


@CURATION_STAGES.register_module()
class Quality(Stage):
    """Sharpness, contrast and clipped light, measured at one size so that large and small images compare.

    Sharpness is the standard deviation of the Laplacian, contrast that of the grey levels (0 to 255), clipped the
    share of pixels that are all black or all white.
    """

    columns = {'sharpness': 'float', 'contrast': 'float', 'clipped': 'float'}

    def __init__(self, name: str, side: int = 512, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.side = side

    def score(self, items: list[Item]) -> list[dict[str, Any]]:
        """Grey levels at ``side`` pixels."""
        return [self._one(i.image) for i in items]

    def _one(self, image: np.ndarray) -> dict[str, float]:
        scale = min(1.0, self.side / max(image.shape[:2]))
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        grey = scaled(grey, scale) if scale < 1 else grey
        return dict(
            sharpness=float(cv2.Laplacian(grey, cv2.CV_32F).std()),
            contrast=float(grey.std()),
            clipped=float(((grey < 3) | (grey > 252)).mean()),
        )

    def reason(self, row: Any, min_sharpness: float = 0, min_contrast: float = 0, max_clipped: float = 1) -> str | None:
        """Blurred, flat, or over- or underexposed."""
        if row['contrast'] < min_contrast:
            return 'no contrast'
        if row['sharpness'] < min_sharpness:
            return 'blurred'
        return 'badly exposed' if row['clipped'] > max_clipped else None


@CURATION_STAGES.register_module()
class PerceptualHash(Stage):
    """64-bit perceptual hashes of the image and of its mirror; the second job compares them over all images."""

    columns = {'phash': 'int', 'phash_mirror': 'int'}

    def load(self) -> None:
        """Import the library."""
        self.library = need('imagehash')

    def score(self, items: list[Item]) -> list[dict[str, Any]]:
        """Hashes of a grey picture of 32 x 32."""
        return [self._one(i.image) for i in items]

    def _one(self, image: np.ndarray) -> dict[str, int]:
        from PIL import Image

        # Averaged first: the library's resampling of the whole image takes ten times as long.
        small = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)
        return {
            column: int(np.packbits(self.library.phash(Image.fromarray(view)).hash.reshape(64)).view('>i8')[0])
            for column, view in (('phash', small), ('phash_mirror', small[:, ::-1]))
        }


@CURATION_STAGES.register_module()
class Text(Stage):
    """Words by RapidOCR (Apache-2.0), whose wheel ships its models.

    Detection alone fires on texture, so words count only with what recognition makes of them. It is the dearest of the
    usual filters and comes last. Words that shine through a photo are not found: they are a matter for `Labels`.

    Args:
        engine: Callable ``(image) -> (boxes (N, 4, 2), scores (N,), texts)``; None = RapidOCR.
        threads: Threads of its sessions.
    """

    columns = {'text': 'str', 'text_boxes': 'floats'}

    def __init__(self, name: str, engine: Any = None, threads: int = 1, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.engine, self.threads = engine, threads

    def load(self) -> None:
        """Load the models."""
        self.read = self.engine or _RapidOCR(self.threads)

    def score(self, items: list[Item]) -> list[dict[str, Any]]:
        """For each word: share of the image, score, number of letters; and the words."""
        rows = []
        for item in items:
            boxes, scores, texts = self.read(item.image)
            pixels = item.image.shape[0] * item.image.shape[1]
            shares = [cv2.contourArea(np.float32(box)) / pixels for box in boxes]
            found = [[*word, len(text)] for *word, text in zip(shares, scores, texts, strict=True)]
            rows.append({'text': ' '.join(texts), 'text_boxes': np.array(found, np.float32).reshape(-1).tolist()})
        return rows

    def reason(
        self, row: Any, min_score: float = 0.8, max_share: float = 0.005, max_letters: int = 12, min_word: int = 3
    ) -> str | None:
        """More text than allowed.

        Args:
            min_score: Words read less surely do not count.
            max_share: Most that all words may cover of the image.
            max_letters: Most letters and digits in all.
            min_word: Shorter words do not count: patterned cloth is read as a letter or two.
        """
        share, score, letters = np.asarray(row['text_boxes'], np.float32).reshape(-1, 3).T
        sure = (score >= min_score) & (letters >= min_word)
        return 'text' if share[sure].sum() > max_share or letters[sure].sum() > max_letters else None


class _RapidOCR:
    def __init__(self, threads: int) -> None:
        need('onnxruntime')
        library = need('rapidocr')
        keys = 'EngineConfig.onnxruntime.intra_op_num_threads', 'EngineConfig.onnxruntime.inter_op_num_threads'
        self.read = library.RapidOCR(params={**dict.fromkeys(keys, threads), 'Global.log_level': 'critical'})

    def __call__(self, image: np.ndarray) -> tuple:
        # The library remembers the three switches from call to call.
        found = self.read(np.ascontiguousarray(image[..., ::-1]), use_det=True, use_cls=False, use_rec=True)
        return ((), (), ()) if found.boxes is None else (found.boxes, found.scores, found.txts)
