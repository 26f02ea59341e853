# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Share of correct keypoints, normalised mean error and area under the curve, with a table by keypoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..registry import METRICS
from ..structures.geometry import to_original
from ..utils.on_device import to_numpy
from ..vocabularies import KeypointVocabulary
from .base import box_of
from .persons import KeypointMetric, extent
from .report import EvaluationReport
from .tables import Table


@METRICS.register_module()
class PCK(KeypointMetric):
    r"""PCK, NME and AUC over labelled keypoints, in pixels of the original image.

    With :math:`e_{ni} = |p_{ni} - g_{ni}| / s_n` for labelled point i of person n and the person's size s_n:

    * ``PCK@t`` = mean over keypoints i of the share of persons with ``e_ni <= t`` (as mmpose averages);
    * ``AUC`` = mean over keypoints of the area under their PCK curve from 0 to T, divided by T, which is exactly
      the mean of ``max(0, 1 - e_ni / T)``;
    * ``NME`` = mean of ``e_ni`` over all labelled points; ``EPE`` the same in pixels.

    Args:
        vocabulary, gt_vocabulary: See `KeypointMetric`.
        thresholds: The t of ``PCK@t``; the first is also called ``PCK``.
        norm: ``'bbox'`` = the longer side of the box; ``'diagonal'`` = its diagonal; or two keypoint names, whose
            labelled distance is the size (e.g. ``('left_shoulder', 'right_hip')``, or the outer eye corners).
        auc_limit: T.
        min_side: Persons whose box is not wider and higher than this are left out, in pixels of the original image.
        min_points: Persons with fewer labelled points are left out.
    """

    def __init__(
        self,
        vocabulary: str | KeypointVocabulary = 'coco17',
        gt_vocabulary: str | KeypointVocabulary | None = None,
        thresholds: Sequence[float] = (0.05, 0.1, 0.2),
        norm: str | Sequence[str] = 'bbox',
        auc_limit: float = 0.5,
        min_side: float = 0,
        min_points: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocabulary, gt_vocabulary, **kwargs)
        self.min_side, self.min_points = min_side, min_points
        self.thresholds = tuple(thresholds)
        self.auc_limit = auc_limit
        self.norm = norm
        if not self.thresholds:
            raise UserError('PCK: thresholds are empty; give at least one')
        self.norm_points: list[int] | None = None
        if norm not in ('bbox', 'diagonal'):
            names = self.gt_vocabulary.names
            if isinstance(norm, str) or len(norm) != 2 or any(name not in names for name in norm):
                raise UserError(
                    f"PCK: norm {norm!r} is neither 'bbox', 'diagonal' nor two keypoint names of "
                    f"'{self.gt_vocabulary.name}'"
                )
            self.norm_points = [names.index(name) for name in norm]

    def measure(self, sample: dict) -> dict:
        """Distances of one person: ``(K,)`` pixels, NaN where unlabelled, and the person's size."""
        labels, visible = self.labelled(sample)
        visible = visible > 0
        points = self.convert(self.predicted(sample))[0]
        visible[np.setdiff1d(np.arange(len(visible)), self.convert.scored)] = False
        distance = np.linalg.norm(points - labels, axis=1)
        distance[np.isnan(distance)] = np.inf
        distance[~visible] = np.nan
        box = box_of(sample)
        sides = extent(labels[visible])[2:] if box is None else box[2:] - box[:2]
        small = int(visible.sum()) < self.min_points or (self.min_side > 0 and not (sides > self.min_side).all())
        size = float(sides.max() if self.norm == 'bbox' else np.hypot(*sides))
        if self.norm_points is not None:
            ends = labels[self.norm_points]
            size = float(np.linalg.norm(ends[0] - ends[1])) if visible[self.norm_points].all() else 0.0
        error = distance / size if size > 0 and not small else np.full(len(visible), np.nan)
        badness = float(np.nanmean(np.minimum(error, 1.0))) if (visible & ~np.isnan(error)).any() else np.nan
        return dict(distance=distance, error=error, badness=badness, small=small)

    def summarize(self, records: list[dict]) -> EvaluationReport:
        """Figures over all persons."""
        self._pair_worst()
        errors = np.stack([record['error'] for record in records])
        distances = np.stack([record['distance'] for record in records])
        images = {name: i for i, name in enumerate(dict.fromkeys(record['image'] for record in records))}
        image = np.array([images[record['image']] for record in records])
        usable = ~np.isnan(errors)
        if not usable.any():
            raise UserError('PCK: no person has a labelled keypoint and a size; nothing can be evaluated')
        metrics = self._figures(errors, distances, np.ones(len(records)))
        small = np.array([record['small'] for record in records])
        unsized = int((~usable & ~np.isnan(distances)).any(1)[~small].sum())
        missed = sum(record['missing'] for record in records)
        absent = [name for name, seen in zip(self.gt_vocabulary.names, usable.any(0), strict=True) if not seen]
        shown = ', '.join(absent[:5]) + (', ...' if len(absent) > 5 else '')
        cases = [
            (small.any(), f'{small.sum()} persons with a side up to {self.min_side:g} pixels or fewer than '
             f'{self.min_points} labelled points are left out'),
            (unsized, f'{unsized} persons have no size ({self._norm_text()}) and are left out'),
            (missed, f'{missed} of {len(records)} persons have no prediction; their points count as wrong and are '
             'left out of NME and EPE, which are distances'),
            (absent, f'{len(absent)} keypoints are nowhere labelled and in no mean: {shown}'),
        ]  # fmt: skip
        intervals = self.intervals(len(images), lambda w: self._figures(errors, distances, w[image]))
        columns = list(metrics)
        main = Table(
            'Keypoint accuracy',
            ['Points', *columns],
            [['all', *metrics.values()]],
            kind={name: 'fraction' if name.startswith(('PCK', 'AUC')) else 'number' for name in columns},
        )
        protocol = {
            'labels': f'{len(records) - small.sum()} persons in {len(images)} images, {int(usable.sum())} labelled '
            f'keypoints ({self.convert})',
            'size of a person': self._norm_text(),
            'figures': f'PCK@t: mean over keypoints; AUC: of the PCK curve up to {self.auc_limit}; NME: mean over all '
            'points; EPE: the same in pixels of the original image',
        }
        per_image = [{'image': r['image'], 'file': r['path'], 'error': r['badness']} for r in records]
        return self.make_report(metrics, protocol, [main, self._by_keypoint(errors)], cases, intervals, per_image)

    def _pair_worst(self) -> None:
        """Give the kept samples what their picture is drawn of: labels beside predictions, original pixels."""
        for _, sample in self.worst:
            points = to_original(sample['gt_keypoints'], sample.get('warp_mat')).reshape(-1, 2)
            label = np.concatenate([points, to_numpy(sample['gt_keypoints_visible']).reshape(-1, 1)], 1)
            found = sample.get('pred_keypoints')
            found = None if found is None else self.convert(to_numpy(found).astype(np.float64).reshape(-1, 2))[0]
            sample['pairs'] = [(label, found)]

    def _figures(self, errors: np.ndarray, distances: np.ndarray, weights: np.ndarray) -> dict[str, float]:
        weight = weights[:, None] * ~np.isnan(errors)
        count = weight.sum(0)
        seen = count > 0
        if not seen.any():
            return {}
        known = np.where(np.isnan(errors), np.inf, errors)
        result = {}
        for threshold in self.thresholds:
            share = (weight * (known <= threshold)).sum(0)[seen] / count[seen]
            result[f'PCK@{threshold:g}'] = float(share.mean())
        area = (weight * np.clip(1 - known / self.auc_limit, 0, 1)).sum(0)[seen] / count[seen]
        reached = weight * np.isfinite(known)
        total = max(reached.sum(), 1e-12)
        finite = np.where(np.isfinite(known), known, 0)
        pixels = np.where(np.isfinite(distances), distances, 0)
        return {
            'PCK': result[f'PCK@{self.thresholds[0]:g}'],
            **result,
            'AUC': float(area.mean()),
            'NME': float((reached * finite).sum() / total) if reached.any() else float('nan'),
            'EPE': float((reached * pixels).sum() / total) if reached.any() else float('nan'),
        }

    def _by_keypoint(self, errors: np.ndarray) -> Table:
        rows = []
        for i, name in enumerate(self.gt_vocabulary.names):
            known = errors[~np.isnan(errors[:, i]), i]
            finite = known[np.isfinite(known)]
            shares = [float((known <= t).mean()) if len(known) else None for t in self.thresholds]
            rows.append([name, len(known), *shares, float(finite.mean()) if len(finite) else None])
        names = [f'PCK@{t:g}' for t in self.thresholds]
        return Table('Keypoints', ['Keypoint', 'labelled', *names, 'NME'], rows, kind=dict.fromkeys(names, 'fraction'))

    def _norm_text(self) -> str:
        if self.norm_points is not None:
            return f'distance of {self.norm[0]} and {self.norm[1]}'
        return 'longer side of the box' if self.norm == 'bbox' else 'diagonal of the box'
