# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Depth errors on human pixels, after aligning scale and shift, scale only, or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UserError
from ..registry import METRICS
from ..structures.geometry import align_scale_shift
from .base import Case, HumanMetric
from .dense import count_cases, dense_pair, extent_text
from .report import EvaluationReport
from .tables import Table

FIGURES = ('RMSE', 'AbsRel', 'SqRel', 'log10', 'delta_1', 'delta_2', 'delta_3')
_ALIGNMENTS = {
    'scale_shift': 'scale and shift per image by least squares on human pixels (MiDaS protocol)',
    'median': 'scale per image by the ratio of medians on human pixels',
    'none': 'none: the prediction is metric',
}


def align_median(prediction: np.ndarray, label: np.ndarray) -> float:
    """The scale ``median(label) / median(prediction)``; NaN when the prediction's median is not positive."""
    middle = float(np.median(prediction))
    return float(np.median(label)) / middle if middle > 0 else float('nan')


def depth_errors(prediction: np.ndarray, label: np.ndarray, floor: float = 1e-3) -> dict[str, float]:
    r"""Errors of aligned depth p against labels g > 0 over N pixels.

    * RMSE :math:`= \sqrt{\frac1N \sum (p-g)^2}` (unit of the labels)
    * AbsRel :math:`= \frac1N \sum |p-g| / g`
    * SqRel :math:`= \frac1N \sum (p-g)^2 / g`
    * log10 :math:`= \frac1N \sum |\log_{10} p - \log_{10} g|`
    * delta_k :math:`= \frac1N |\{ \max(p/g, g/p) < 1.25^k \}|`, in [0, 1]

    Ratios and logarithms need p > 0: there p is raised to ``floor``.

    Args:
        prediction: ``(N,)`` finite.
        label: ``(N,)`` positive.
        floor: Smallest p in ratios and logarithms, in the unit of the labels.
    """
    p, g = np.asarray(prediction, np.float64), np.asarray(label, np.float64)
    difference = p - g
    positive = np.maximum(p, floor)
    ratio = np.maximum(positive / g, g / positive)
    return {
        'RMSE': float(np.sqrt((difference**2).mean())),
        'AbsRel': float((np.abs(difference) / g).mean()),
        'SqRel': float((difference**2 / g).mean()),
        'log10': float(np.abs(np.log10(positive) - np.log10(g)).mean()),
        **{f'delta_{k}': float((ratio < 1.25**k).mean()) for k in (1, 2, 3)},
    }


@METRICS.register_module()
class DepthMetric(HumanMetric):
    """RMSE, AbsRel, SqRel, log10 and delta_1..3 per image on human pixels, then the mean over images.

    Pixels count where the human mask is set and the label is finite, positive and not farther than ``max_depth``.
    A predicted pixel that is not finite takes the median of the image's finite ones (and is counted in a note),
    so that it is neither dropped nor turns the figures into NaN.

    Args:
        alignment: ``'scale_shift'``, ``'median'`` or ``'none'``.
        max_depth: Farthest label that counts, in the labels' unit; None = any finite.
        min_depth: Nearest label that counts, and the floor of predictions in ratios and logarithms.
        min_pixels: Images with fewer counted pixels are left out (with a note).
    """

    default_prefix = 'depth'
    task = 'depth'

    def __init__(
        self,
        alignment: str = 'scale_shift',
        max_depth: float | None = None,
        min_depth: float = 1e-3,
        min_pixels: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if alignment not in _ALIGNMENTS:
            raise UserError(f"DepthMetric: alignment '{alignment}' is none of {', '.join(map(repr, _ALIGNMENTS))}")
        self.alignment = alignment
        self.max_depth = np.inf if max_depth is None else float(max_depth)
        self.min_depth = min_depth
        self.min_pixels = max(1, min_pixels)

    def aligned(self, sample: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
        """Aligned prediction and label of one image.

        Returns:
            ``(h, w)`` float64 aligned prediction, ``(h, w)`` label, ``(h, w)`` bool of counted pixels, of what the
            network was shown of the image; and the facts of the alignment (``scale``, ``shift``, ``broken`` pixels,
            ``outside`` pixels, ``masked``, ``cropped``).
        """
        pair = dense_pair(sample, 'pred_depth', 'gt_depth', 'DepthMetric')
        prediction, label = pair.prediction.astype(np.float64), pair.label.astype(np.float64)
        with np.errstate(invalid='ignore'):
            known = pair.counted & np.isfinite(label) & (label > 0)
            counted = known & (label >= self.min_depth) & (label <= self.max_depth)
        outside = int((known & ~counted).sum())
        facts = dict(scale=1.0, shift=0.0, broken=0, outside=outside, masked=pair.masked, cropped=pair.cropped)
        if not counted.any():
            return prediction, label, counted, facts
        finite = np.isfinite(prediction)
        usable = counted & finite
        facts['broken'] = int((counted & ~finite).sum())
        prediction = np.where(finite, prediction, np.median(prediction[usable]) if usable.any() else 0.0)
        if self.alignment == 'scale_shift':
            fit = usable if usable.any() else counted
            facts['scale'], facts['shift'] = align_scale_shift(prediction[fit], label[fit])
        elif self.alignment == 'median':
            scale = align_median(prediction[counted], label[counted])
            facts['scale'] = 0.0 if np.isnan(scale) else scale
        return prediction * facts['scale'] + facts['shift'], label, counted, facts

    def measure(self, sample: dict) -> dict:
        """Errors of one image."""
        prediction, label, counted, facts = self.aligned(sample)
        pixels = int(counted.sum())
        record = dict(pixels=pixels, errors=None, **facts)
        if pixels >= self.min_pixels:
            record['errors'] = depth_errors(prediction[counted], label[counted], self.min_depth)
            record['badness'] = record['errors']['AbsRel']
        return record

    def summarize(self, records: list[dict]) -> EvaluationReport:
        """Means over images."""
        scored = [record for record in records if record['errors'] is not None]
        if not scored:
            raise UserError(
                f'DepthMetric: none of the {len(records)} images has {self.min_pixels} human pixels with '
                'known depth; check masks and depth labels'
            )
        values = np.array([[record['errors'][name] for name in FIGURES] for record in scored])

        def means(weights: np.ndarray) -> dict[str, float]:
            return dict(zip(FIGURES, (weights @ values / weights.sum()).tolist(), strict=True))

        metrics, intervals = means(np.ones(len(scored))), self.intervals(len(scored), means)
        main = Table('Depth', ['Images', *FIGURES], [[str(len(scored)), *metrics.values()]])
        per_image = [{'image': r['image'], 'file': r['path'], **r['errors']} for r in scored]
        farthest = '' if np.isinf(self.max_depth) else f', labels up to {self.max_depth:g}'
        pixels = sum(record['pixels'] for record in scored)
        protocol = {
            'labels': f'{extent_text(scored, len(scored))}, {pixels} human pixels{farthest}',
            'alignment': _ALIGNMENTS[self.alignment],
            'figures': 'per image, then mean over images; RMSE and SqRel in the unit of the labels',
        }
        return self.make_report(metrics, protocol, [main], self._cases(records, scored), intervals, per_image)

    def _cases(self, records: list[dict], scored: list[dict]) -> list[Case]:
        few = len(records) - len(scored)
        broken = sum(record['broken'] for record in scored if not record['missing'])
        outside = sum(record['outside'] for record in records)
        reversed_ = sum(record['scale'] < 0 for record in scored)
        unscaled = sum(record['scale'] == 0 and not record['missing'] for record in scored)
        why = 'is constant' if self.alignment == 'scale_shift' else 'has a median that is not positive'
        return [
            (few, f'{few} of {len(records)} images have fewer than {self.min_pixels} human pixels with known depth and '
             'are left out'),
            *count_cases(records, 'they count as a constant depth', 'every pixel with known depth counts'),
            (broken, f'{broken} predicted human pixels are NaN or infinite; they count as the median of their image'),
            (outside, f'{outside} labelled pixels are nearer than {self.min_depth:g} or farther than '
             f'{self.max_depth:g} and not counted'),
            (reversed_, f'the fitted scale is negative in {reversed_} images: is the prediction reversed? Larger must '
             'be farther'),
            (unscaled, f'the prediction {why} in {unscaled} images: no scale can be fitted'),
        ]  # fmt: skip
