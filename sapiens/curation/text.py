# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Filter by text that can be read in the image."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import CURATION_STAGES
from .stage import Item, Stage, need


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
            found = [[_area(b) / pixels, s, len(t)] for b, s, t in zip(boxes, scores, texts, strict=True)]
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


def _area(corners: Any) -> float:
    """Area of a quadrangle ``(4, 2)``."""
    x, y = np.asarray(corners, np.float64).T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


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
