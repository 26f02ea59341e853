# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""mIoU, mAcc and aAcc of body parts, per class and in the mean, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..datasets.base import lookup_table
from ..errors import UserError
from ..registry import METRICS
from ..vocabularies import PartVocabulary, load_parts
from .analysis.outlines import boundary_counts, boundary_f
from .base import Case, HumanMetric, sample_name
from .dense import count_cases, dense_pair, extent_text
from .report import EvaluationReport
from .tables import Table

IGNORE = 255
# Pixels that are counted at once: they stay in the processor's cache.
_BLOCK = 2**18


@METRICS.register_module()
class PartIoU(HumanMetric):
    r"""Figures from the confusion matrix ``n_ij`` = pixels of label i predicted as j, summed over all images.

    * ``IoU_i = n_ii / (sum_j n_ij + sum_j n_ji - n_ii)``, ``Acc_i = n_ii / sum_j n_ij``;
    * ``mIoU`` is their mean over the classes that occur in labels or predictions, ``mAcc`` over those in labels;
    * ``aAcc = sum_i n_ii / sum_ij n_ij``.

    Each image is read once, and only its counts are kept, never maps or logits. Of a person's crop only the pixels
    that the network saw count.

    Args:
        vocabulary: Names of the classes, of the predictions.
        label_map: Look-up table for the labels' ids: a list (``table[old] = new``) or a dict (ids not named stay);
            new ids are classes or 255 = ignore.
        pred_map: The same for the predictions' ids.
        ignore: Further classes (names or ids) whose labelled pixels are left out.
        boundary: Compute ``mBF`` too, the mean outline F-score (see `boundary_counts`). It is no figure of the paper
            and takes twenty times as long as the others.
        boundary_tolerance: Share of the image's diagonal, at least one pixel.
    """

    default_prefix: str | None = 'seg'
    task = 'seg'

    def __init__(
        self,
        vocabulary: str | PartVocabulary = 'parts28',
        label_map: Sequence[int] | Mapping[int, int] | None = None,
        pred_map: Sequence[int] | Mapping[int, int] | None = None,
        ignore: Sequence[str | int] = (),
        boundary: bool = False,
        boundary_tolerance: float = 0.0075,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary = load_parts(vocabulary)
        count = self.vocabulary.num_classes
        self.label_table = _class_table(label_map, count, 'label_map')
        self.pred_table = _class_table(pred_map, count, 'pred_map')
        classes: dict[str | int, int] = {key: i for i, name in enumerate(self.vocabulary.names) for key in (name, i)}
        ignore = [ignore] if isinstance(ignore, str) else ignore
        if unknown := [entry for entry in ignore if entry not in classes]:
            raise UserError(f"PartIoU: ignore names {unknown[0]!r}, which is not a class of '{self.vocabulary.name}'")
        self.ignored = [classes[entry] for entry in ignore]
        self.remapped = label_map is not None or pred_map is not None
        self.label_table[np.isin(self.label_table, self.ignored)] = IGNORE
        self.boundary = boundary
        self.boundary_tolerance = boundary_tolerance

    def measure(self, sample: dict) -> dict:
        """Counts of one image, as short as they can be."""
        pair = dense_pair(sample, 'pred_part_map', 'gt_part_map', 'PartIoU', people=False)
        count = self.vocabulary.num_classes
        counts = count_pairs(self._ids(pair.label, sample, 'labels'), self._ids(pair.prediction, sample, 'prediction'),
                             pair.counted)  # fmt: skip
        self._check(self.label_table, counts.sum(1), sample, 'labels')
        self._check(self.pred_table, counts.sum(0), sample, 'prediction')
        # A prediction of 255 is wrong whatever the label: it gets a column of its own. Labels of 255 go.
        confusion = np.zeros((count + 1, count + 1), np.int64)
        rows, columns = np.minimum(self.label_table, count), np.minimum(self.pred_table, count)
        np.add.at(confusion, (rows[:, None], columns[None]), counts)
        confusion = confusion[:count]
        where = np.flatnonzero(confusion)
        total = int(confusion.sum())
        right = int(np.trace(confusion))
        present = confusion.sum(1) > 0
        union = confusion.sum(1) + confusion.sum(0)[:count] - np.diag(confusion)
        iou = float((np.diag(confusion)[present] / union[present]).mean()) if present.any() else np.nan
        record = dict(
            where=where.astype(np.int32),
            pixels=confusion.reshape(-1)[where],
            accuracy=right / total if total else np.nan,
            iou=iou,
            badness=1 - iou,
            cropped=pair.cropped,
        )
        if self.boundary:
            label, prediction = self.label_table[pair.label], self.pred_table[pair.prediction]
            label = np.where(pair.counted, label, IGNORE).astype(np.uint8)
            tolerance = max(1, round(self.boundary_tolerance * float(np.linalg.norm(label.shape))))
            outlines = boundary_counts(prediction.astype(np.uint8), label, count, tolerance, label == IGNORE)
            record['outlines'] = outlines.astype(np.int32)
        return record

    def _ids(self, ids: np.ndarray, sample: dict, what: str) -> np.ndarray:
        """Ids as bytes."""
        if ids.dtype == np.uint8:
            return ids
        if ids.dtype.kind == 'f':
            raise UserError(f'{sample_name(sample)}: part ids ({what}) are {ids.dtype}; they must be integers')
        outside = ids[(ids < 0) | (ids > 255)]
        if outside.size:
            self._refuse(int(outside[0]), sample, what)
        return ids.astype(np.uint8)

    def _check(self, table: np.ndarray, pixels: np.ndarray, sample: dict, what: str) -> None:
        wrong = np.flatnonzero((table < 0) & (pixels > 0))
        if len(wrong):
            self._refuse(int(wrong[0]), sample, what)

    def _refuse(self, bad: int, sample: dict, what: str) -> None:
        raise UserError(
            f"{sample_name(sample)}: id {bad} in the {what} is not a class of '{self.vocabulary.name}' "
            f'(0 to {self.vocabulary.num_classes - 1}, 255 = ignore); remap it with '
            f'{"label_map" if what == "labels" else "pred_map"}'
        )

    def summarize(self, records: list[dict]) -> EvaluationReport:
        """Figures over all images."""
        count = self.vocabulary.num_classes
        per_image = np.zeros((len(records), count, 3), np.int64)
        confusion: np.ndarray = np.zeros(count * (count + 1), np.int64)
        for i, record in enumerate(records):
            one = np.zeros_like(confusion)
            one[record['where']] = record['pixels']
            confusion += one
            square = one.reshape(count, count + 1)
            per_image[i] = np.stack([np.diag(square), square.sum(1), square.sum(0)[:count]], 1)
        confusion = confusion.reshape(count, count + 1)
        if not confusion.sum():
            raise UserError('PartIoU: every labelled pixel is ignored (255); nothing can be evaluated')
        outlines = np.stack([r['outlines'] for r in records]).astype(np.int64) if self.boundary else None
        metrics, classes = self._figures(per_image, outlines, np.ones(len(records), np.int64))
        intervals = self.intervals(len(records), lambda w: self._figures(per_image, outlines, w)[0])
        row = [f'{count} ({self.vocabulary.name})', *metrics.values()]
        main = Table('Body parts', ['Classes', *metrics], [row], kind='fraction')
        names = list(classes)
        pixels, figures = confusion.sum(1).tolist(), np.stack([*classes.values()], 1).tolist()
        rows = [
            [name, *(None if np.isnan(value) else value for value in values), labelled]
            for name, values, labelled in zip(self.vocabulary.names, figures, pixels, strict=True)
        ]
        by_class = Table('Classes', ['Class', *names, 'pixels'], rows, kind=dict.fromkeys(names, 'fraction'))
        images = [{'image': r['image'], 'file': r['path'], 'mIoU': r['iou'], 'aAcc': r['accuracy']} for r in records]
        return self.make_report(
            metrics,
            self._protocol(records),
            [main, by_class],
            self._cases(records, confusion),
            intervals,
            images,
            confusion=confusion,
            names=self.vocabulary.names,
        )

    def _figures(
        self, per_image: np.ndarray, outlines: np.ndarray | None, weights: np.ndarray
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        hits, labelled, predicted = np.tensordot(weights, per_image, 1).astype(np.float64).T
        with np.errstate(invalid='ignore', divide='ignore'):
            classes = {
                'IoU': hits / (labelled + predicted - hits),
                'Acc': hits / labelled,
                'Precision': hits / predicted,
            }
        metrics = {
            'mIoU': _mean(classes['IoU']),
            'mAcc': _mean(classes['Acc']),
            'aAcc': float(hits.sum() / labelled.sum()) if labelled.sum() else float('nan'),
        }
        if outlines is not None:
            classes['BF'] = boundary_f(np.tensordot(weights, outlines, 1))
            metrics['mBF'] = _mean(classes['BF'])
        return metrics, classes

    def _cases(self, records: list[dict], confusion: np.ndarray) -> list[Case]:
        labelled, predicted = confusion.sum(1) > 0, confusion.sum(0)[:-1] > 0

        def names(classes: np.ndarray) -> str:
            return ', '.join(self.vocabulary.names[c] for c in np.flatnonzero(classes))

        ignored = np.isin(np.arange(len(labelled)), self.ignored)
        absent, only = names(~labelled & ~predicted & ~ignored), names(~labelled & predicted)
        empty = sum(np.isnan(record['iou']) for record in records)
        return [
            *count_cases(records, 'they count as background everywhere'),
            (names(ignored), f'ignored classes: {names(ignored)}'),
            (absent, f'neither labelled nor predicted, in no mean: {absent}'),
            (only, f'predicted but nowhere labelled (IoU 0, in mIoU but not in mAcc): {only}'),
            (empty, f'{empty} images have no labelled pixel (all 255) and add nothing'),
        ]

    def _protocol(self, records: list[dict]) -> dict[str, str]:
        protocol = {
            'labels': f'{extent_text(records, len(records))}, {self.vocabulary.name}; 255 ignored'
            + ('; ids remapped by a look-up table' if self.remapped else ''),
            'figures': 'from the confusion matrix of all pixels of the set; mIoU over classes labelled or predicted, '
            'mAcc over classes labelled',
        }
        if self.boundary:
            protocol['mBF'] = f'outline F-score within {self.boundary_tolerance:g} of the diagonal, mean over classes'
        return protocol


def count_pairs(label: np.ndarray, prediction: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """How often each pair of ids occurs, in one pass.

    Args:
        label, prediction: ``(H, W)`` uint8.
        counted: ``(H, W)`` bool; None = all.

    Returns:
        ``(256, 256)`` int64, labels in rows.
    """
    counts = np.zeros(256 * 256, np.int64)
    step = max(1, _BLOCK // max(1, label.shape[1]))
    for start in range(0, label.shape[0], step):
        rows = slice(start, start + step)
        pairs = label[rows].astype(np.uint16) * np.uint16(256) + prediction[rows]
        counts += np.bincount((pairs if counted is None else pairs[counted[rows]]).reshape(-1), minlength=counts.size)
    return counts.reshape(256, 256)


def _class_table(given: Sequence[int] | Mapping[int, int] | None, classes: int, name: str) -> np.ndarray:
    """``(256,)`` int16 table of ids: class, 255 = ignore, -1 = not allowed."""
    table = lookup_table({} if given is None else given, classes, f'PartIoU: {name}').astype(np.int16)
    table[(table >= classes) & (table != IGNORE)] = -1
    return table


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float('nan')
