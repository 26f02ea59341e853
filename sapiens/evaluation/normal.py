# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Angles between predicted and labelled surface normals over all human pixels of a set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..registry import METRICS
from .analysis.axes import axis_evidence, describe_axes
from .base import Case, HumanMetric
from .dense import count_cases, dense_pair, extent_text
from .report import EvaluationReport
from .tables import Table

# Edges of the histogram in degrees: 0.01 wide up to 30, 0.1 above.
EDGES = np.concatenate([np.arange(3000) / 100, np.arange(300, 1801) / 10])
# Pixels that are measured at once: their intermediate results stay in the processor's cache.
_BLOCK = 2**14


def angular_error(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    r"""Angle in degrees: :math:`\mathrm{atan2}(|\hat n \times n|, \hat n \cdot n)`, exact also near 0 and 180.

    Vectors need not have unit length. A prediction that is zero or not finite has the error 90.

    Args:
        prediction: ``(3, N)``.
        label: ``(3, N)``, not zero.

    Returns:
        ``(N,)`` float64 in [0, 180].
    """
    return _angles(np.asarray(prediction, np.float64), np.asarray(label, np.float64))[0]


def _angles(p: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angles, and which predictions are useless."""
    with np.errstate(invalid='ignore', over='ignore'):
        x, y, z = p[1] * n[2] - p[2] * n[1], p[2] * n[0] - p[0] * n[2], p[0] * n[1] - p[1] * n[0]
        angle = np.degrees(np.arctan2(np.sqrt(x * x + y * y + z * z), p[0] * n[0] + p[1] * n[1] + p[2] * n[2]))
    useless = ~np.isfinite(p).all(0) | ~p.any(0)
    angle[useless] = 90.0
    return angle, useless


@METRICS.register_module()
class NormalMetric(HumanMetric):
    """Mean, median and RMS of the angular error, and the share of pixels within angles, over all human pixels.

    Each image is read once; sums and shares are exact. The median comes from a histogram of all pixels with bins of
    0.01 degrees up to 30 and of 0.1 above, so it is off by at most half a bin (stated in the output). Labels of length
    zero are unknown. When the labels' axes do not look like x right, y up, z towards the viewer, a note says so.
    """

    default_prefix = 'normal'
    task = 'normal'

    def __init__(self, angles: Sequence[float] = (5, 7.5, 11.25, 22.5, 30), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.angles = tuple(angles)

    def measure(self, sample: dict) -> dict:
        """Sums and histogram of one image."""
        pair = dense_pair(sample, 'pred_normals', 'gt_normals', 'NormalMetric')
        sums = np.zeros(2 + len(self.angles))
        histogram = np.zeros(len(EDGES) - 1, np.int64)
        pixels = useless = 0
        step = max(1, _BLOCK // max(1, pair.label.shape[2]))
        for start in range(0, pair.label.shape[1], step):
            rows = slice(start, start + step)
            counted = pair.counted[rows]
            if not counted.any():
                continue
            label = pair.label[:, rows][:, counted].astype(np.float64)
            with np.errstate(invalid='ignore', over='ignore'):
                length = (label * label).sum(0)
            known = (length > 1e-12) & np.isfinite(length)
            found = pair.prediction[:, rows][:, counted][:, known].astype(np.float64)
            error, broken = _angles(found, label[:, known])
            sums += [error.sum(), error @ error, *(np.count_nonzero(error <= a) for a in self.angles)]
            bins = np.where(error < 30, error * 100, 2700 + error * 10).astype(np.int64)
            histogram += np.bincount(np.minimum(bins, len(histogram) - 1), minlength=len(histogram))
            pixels += len(error)
            useless += int(broken.sum())
        where = np.flatnonzero(histogram)
        return dict(
            pixels=pixels,
            sums=sums,
            where=where.astype(np.int16),
            histogram=histogram[where],
            masked=pair.masked,
            cropped=pair.cropped,
            useless=useless,
            badness=sums[0] / pixels if pixels else np.nan,
            axes=axis_evidence(pair.label, pair.counted if pair.masked else None),
        )

    def summarize(self, records: list[dict]) -> EvaluationReport:
        """Figures over all pixels."""
        pixels = np.array([record['pixels'] for record in records], np.float64)
        if not pixels.sum():
            raise UserError(
                f'NormalMetric: none of the {len(records)} images has a human pixel with a known normal; '
                'check masks and labels'
            )
        sums = np.stack([record['sums'] for record in records])
        metrics = self._figures(records, pixels, sums, np.ones(len(records)))
        intervals = self.intervals(len(records), lambda w: self._figures(records, pixels, sums, w))
        kind = {name: 'fraction' for name in metrics if name.startswith('within')}
        row = [str(int((pixels > 0).sum())), *metrics.values()]
        main = Table('Normals (angles in degrees)', ['Images', *metrics], [row], kind)
        per_image = [
            {'image': r['image'], 'file': r['path'], **self._figures([r], pixels[[i]], sums[[i]], np.ones(1))}
            for i, r in enumerate(records)
            if r['pixels']
        ]
        protocol = {
            'labels': f'{extent_text(records, int((pixels > 0).sum()))}, {int(pixels.sum())} human pixels; '
            'x right, y up, z towards the viewer',
            'figures': 'over all human pixels of the set',
            'median': f'from a histogram, within {0.005 if metrics["median"] < 30 else 0.05} degrees of the exact one',
        }
        return self.make_report(metrics, protocol, [main], self._cases(records), intervals, per_image)

    def _figures(
        self, records: list[dict], pixels: np.ndarray, sums: np.ndarray, weights: np.ndarray
    ) -> dict[str, float]:
        total = float(weights @ pixels)
        if not total:
            return {}
        histogram = np.zeros(len(EDGES) - 1)
        for record, weight in zip(records, weights, strict=True):
            if weight:
                histogram[record['where']] += weight * record['histogram']
        mean = weights @ sums / total
        return {
            'mean': float(mean[0]),
            'median': _median(histogram),
            'RMSE': float(np.sqrt(mean[1])),
            **{f'within_{a:g}': float(share) for a, share in zip(self.angles, mean[2:], strict=True)},
        }

    def _cases(self, records: list[dict]) -> list[Case]:
        empty = sum(record['pixels'] == 0 for record in records)
        useless = sum(record['useless'] for record in records if not record['missing'])
        wrong = describe_axes(np.sum([record['axes'] for record in records], axis=0))
        return [
            (empty, f'{empty} of {len(records)} images have no human pixel with a known normal and add nothing'),
            *count_cases(records, 'their pixels count as 90 degrees off', 'every pixel with a known normal counts'),
            (useless, f'{useless} predicted human pixels are zero or not finite; they count as 90 degrees off'),
            (wrong, f'labels: {wrong}'),
        ]


def _median(histogram: np.ndarray) -> float:
    """Middle of the bin that holds the median pixel."""
    cumulative = np.cumsum(histogram)
    middle = int(np.searchsorted(cumulative, cumulative[-1] / 2, 'left'))
    return float((EDGES[middle] + EDGES[middle + 1]) / 2)
