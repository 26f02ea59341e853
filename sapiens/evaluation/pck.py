# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Share of correct keypoints, normalised mean error and area under the curve, with a table by keypoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import UserError
from ..registry import METRICS
from ..structures.geometry import to_original
from ..vocabularies import KeypointVocabulary
from .base import HumanMetric, field, sample_name, to_numpy
from .persons import PointConversion
from .report import EvaluationReport
from .tables import Table


@METRICS.register_module()
class PCK(HumanMetric):
    r"""PCK, NME and AUC over labelled keypoints, in pixels of the original image.

    With :math:`e_{ni} = |p_{ni} - g_{ni}| / s_n` for labelled point i of person n and the person's size s_n:

    * ``PCK@t`` = mean over keypoints i of the share of persons with ``e_ni <= t`` (as mmpose averages);
    * ``AUC`` = mean over keypoints of the area under their PCK curve from 0 to T, divided by T, which is exactly
      the mean of ``max(0, 1 - e_ni / T)``;
    * ``NME`` = mean of ``e_ni`` over all labelled points; ``EPE`` the same in pixels.

    Args:
        vocabulary: Of the predictions.
        gt_vocabulary: Of the labels when it is another one: predictions are converted, and only points that both have
            are scored (a model of 308 points against labels of 17).
        thresholds: The t of ``PCK@t``; the first is also called ``PCK``.
        norm: ``'bbox'`` = the longer side of the box; ``'diagonal'`` = its diagonal; or two keypoint names, whose
            labelled distance is the size (e.g. ``('left_shoulder', 'right_hip')``, or the outer eye corners).
        auc_limit: T.
        min_side: Persons whose box is not wider and higher than this are left out, in pixels of the original image.
        min_points: Persons with fewer labelled points are left out.
        kwargs: See `HumanMetric`.
    """

    default_prefix = 'pose'
    task = 'pose'

    def __init__(
        self,
        vocabulary: str | KeypointVocabulary = 'coco17',
        gt_vocabulary: str | KeypointVocabulary | None = None,
        thresholds: Sequence[float] = (0.05, 0.1, 0.2),
        norm: str | Sequence[str] = 'bbox',
        auc_limit: float = 0.5,
        min_side: float = 0,
        min_points: int = 0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.convert = PointConversion(vocabulary, gt_vocabulary)
        self.vocabulary, self.gt_vocabulary = self.convert.source, self.convert.target
        self.min_side, self.min_points = min_side, min_points
        self.thresholds = tuple(thresholds)
        self.auc_limit = auc_limit
        self.norm = norm
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
        labels = to_original(field(sample, 'gt_keypoints', 'PCK'), sample.get('warp_mat')).reshape(-1, 2)
        visible = field(sample, 'gt_keypoints_visible', 'PCK').reshape(-1) > 0
        count, given = self.gt_vocabulary.num_keypoints, self.vocabulary.num_keypoints
        # A person without a prediction (scoring of saved results) is missed: every point is infinitely far.
        if sample.get('pred_keypoints') is None and sample.get('missing'):
            points = np.full((given, 2), np.inf)
        else:
            points = field(sample, 'pred_keypoints', 'PCK').astype(np.float64).reshape(-1, 2)
        if len(points) != given or not len(labels) == len(visible) == count:
            raise UserError(
                f'{sample_name(sample)}: {len(points)} keypoints predicted and {len(labels)} labelled, but '
                f"vocabulary '{self.vocabulary.name}' has {given}"
                + ('' if given == count else f" and '{self.gt_vocabulary.name}' {count}")
            )
        points = self.convert(points)[0]
        visible[np.setdiff1d(np.arange(count), self.convert.scored)] = False
        distance = np.linalg.norm(points - labels, axis=1)
        distance[np.isnan(distance)] = np.inf
        distance[~visible] = np.nan
        size = 0.0 if self._is_small(sample, labels, visible) else self._size(sample, labels, visible)
        error = distance / size if size > 0 else np.full(count, np.nan)
        finite = np.where(np.isinf(error), 1.0, np.minimum(error, 1.0))
        badness = float(np.nanmean(finite)) if (visible & ~np.isnan(error)).any() else np.nan
        return dict(distance=distance, error=error, badness=badness, small=self._is_small(sample, labels, visible))

    def _is_small(self, sample: dict, labels: np.ndarray, visible: np.ndarray) -> bool:
        """Whether the person is too small, or has too few labelled points, to be judged."""
        few = int(visible.sum()) < self.min_points
        return few or (self.min_side > 0 and not (self._sides(sample, labels, visible) > self.min_side).all())

    def _size(self, sample: dict, labels: np.ndarray, visible: np.ndarray) -> float:
        if self.norm_points is not None:
            a, b = self.norm_points
            return float(np.linalg.norm(labels[a] - labels[b])) if visible[a] and visible[b] else 0.0
        sides = self._sides(sample, labels, visible)
        return float(sides.max() if self.norm == 'bbox' else np.hypot(*sides))

    @staticmethod
    def _sides(sample: dict, labels: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Width and height of the box, else of the extent of the labelled points."""
        if sample.get('bbox') is not None:
            box = to_numpy(sample['bbox']).astype(np.float64).reshape(-1)[:4]
            return box[2:] - box[:2]
        return labels[visible].max(0) - labels[visible].min(0) if visible.any() else np.zeros(2)

    def summarize(self, records: list[dict]) -> EvaluationReport:
        """Figures over all persons."""
        self._pair_worst()
        errors = np.stack([record['error'] for record in records])
        distances = np.stack([record['distance'] for record in records])
        names = [record['path'] if record['image'] is None else record['image'] for record in records]
        images = {name: i for i, name in enumerate(dict.fromkeys(names))}
        image = np.array([images[name] for name in names])
        usable = ~np.isnan(errors)
        notes = []
        if not usable.any():
            raise UserError('PCK: no person has a labelled keypoint and a size; nothing can be evaluated')
        metrics = self._figures(errors, distances, np.ones(len(records)))
        small = np.array([record['small'] for record in records])
        if small.any():
            notes.append(
                f'{small.sum()} persons with a side up to {self.min_side:g} pixels or fewer than {self.min_points} '
                'labelled points are left out'
            )
        unsized = int((~usable & ~np.isnan(distances)).any(1)[~small].sum())
        if unsized:
            notes.append(f'{unsized} persons have no size ({self._norm_text()}) and are left out')
        missed = sum(record['missing'] for record in records)
        if missed:
            notes.append(
                f'{missed} of {len(records)} persons have no prediction; their points count as wrong and '
                'are left out of NME and EPE, which are distances'
            )
        absent = [name for name, seen in zip(self.gt_vocabulary.names, usable.any(0), strict=True) if not seen]
        if absent:
            shown = ', '.join(absent[:5]) + (', ...' if len(absent) > 5 else '')
            notes.append(f'{len(absent)} keypoints are nowhere labelled and in no mean: {shown}')
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
        return self.make_report(metrics, protocol, [main, self._by_keypoint(errors)], notes, intervals, per_image)

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
        return {'bbox': 'longer side of the box', 'diagonal': 'diagonal of the box'}[self.norm]
