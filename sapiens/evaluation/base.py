# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What every metric shares: exact gathering over processes, who a sample is, a report and the worst samples."""

from __future__ import annotations

import contextlib
import os
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, collect_results, is_main_process
from mmengine.evaluator import BaseMetric

from ..errors import UserError
from ..utils.on_device import to_numpy
from .analysis.bootstrap import bootstrap_intervals
from .report import EvaluationReport
from .tables import Table

Case = tuple[Any, str]
"""How many there are (or which) of what a reader must know, and what to say of them."""


class HumanMetric(BaseMetric):
    """A metric that keeps one small record per sample and makes one `EvaluationReport` of all of them.

    Distributed evaluation gives exactly the figures of one process: records come back in the order of the data
    set and the copies that samplers add to even out the processes are taken away (and nothing else).

    Args:
        bootstrap: Resamples (over images) for 95 % confidence intervals; 0 computes none.
        keep_worst: Samples with the worst scores to keep whole, for pictures.
        **kwargs: Of `mmengine.evaluator.BaseMetric`: ``collect_device``, ``prefix``, ``collect_dir``.

    Attributes:
        report: The `EvaluationReport` of the last `evaluate`, on the main process; else None.
        worst: ``[(badness, sample dict), ...]``, worst first, after `evaluate` on the main process.
    """

    task = ''
    default_prefix: str | None = None

    def __init__(
        self,
        bootstrap: int = 0,
        keep_worst: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bootstrap = bootstrap
        self.keep_worst = keep_worst
        self.seed = seed
        self.report: EvaluationReport | None = None
        self.worst: list[tuple[float, dict]] = []
        self._kept: list[dict] = []

    @abstractmethod
    def measure(self, sample: dict) -> dict:
        """Reduce one sample to a small record; the key ``'badness'`` (larger = worse) orders the worst samples.

        Where it comes from (``image``, ``path``) and whether it is ``missing`` a prediction is added to it.
        """

    @abstractmethod
    def summarize(self, records: list[dict]) -> EvaluationReport:
        """Make the report of all records."""

    def intervals(self, images: int, statistic: Callable[[np.ndarray], dict[str, float]]) -> dict:
        """95 % intervals of figures by `bootstrap_intervals`; none unless asked for."""
        return bootstrap_intervals(images, statistic, self.bootstrap, self.seed) if self.bootstrap else {}

    def make_report(
        self,
        metrics: dict[str, float],
        protocol: dict[str, str],
        tables: list[Table],
        notes: list[Case],
        intervals: dict[str, tuple[float, float]],
        per_image: list[dict],
        **extra: Any,
    ) -> EvaluationReport:
        """The report, with the intervals in its protocol and, for figures of that name, in its main table.

        Args:
            notes: Those of cases that there are none of are left out.
        """
        if self.bootstrap:
            protocol['intervals'] = f'95 %, bootstrap over images, {self.bootstrap} resamples, seed {self.seed}'
        main = tables[0]
        if len(main.rows) == 1:
            main.intervals = {(main.rows[0][0], name): bounds for name, bounds in intervals.items()}
        # A metric under another toolkit's name is the one that it is of.
        name = next(kind.__name__ for kind in type(self).__mro__ if not kind.__module__.endswith('openmmlab_names'))
        texts = [text for count, text in notes if count]
        return EvaluationReport(name, self.task, metrics, protocol, tables, texts, intervals, per_image, extra)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Measure a batch (`mmengine.evaluator.Evaluator` calls this)."""
        for sample in data_samples:
            record = self.measure(sample)
            record.update(
                key=sample_key(sample),
                image=image_of(sample),
                path=sample.get('img_path'),
                missing=bool(sample.get('missing')),
            )
            self.results.append(record)
            if self.keep_worst and np.isfinite(record.get('badness', np.nan)):
                record['sample'] = _worth_keeping(sample)
                self._kept = sorted([*self._kept, record], key=lambda kept: -kept['badness'])
                for other in self._kept[self.keep_worst :]:
                    del other['sample']
                del self._kept[self.keep_worst :]

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Make the report; its figures are what the runner logs."""
        if not results:
            raise UserError(f'{type(self).__name__}: nothing was evaluated; the data set or the results are empty')
        self.report = self.summarize(results)
        return dict(self.report.metrics)

    def evaluate(self, size: int) -> dict[str, float]:
        """Figures over all processes, as one process would compute them.

        Args:
            size: Number of samples in the data set.

        Raises:
            UserError: On every process, when the main process finds the data wrong.
        """
        # As the default sampler dealt them, nothing cut.
        directory = {'tmpdir': self.collect_dir} if self.collect_device == 'cpu' else {}
        records = collect_results(self.results, sys.maxsize, self.collect_device, **directory) or []
        message: list[Any] = [None]
        if is_main_process():
            # mmengine leaves the folder of its messages in the working directory.
            with contextlib.suppress(OSError):
                os.rmdir('.dist_test')
            try:
                records = without_padding(records, size)
                worst = [(float(r['badness']), r.pop('sample')) for r in records if 'sample' in r]
                self.worst = sorted(worst, key=lambda item: -item[0])[: self.keep_worst]
                metrics = self.compute_metrics(records)
                if self.prefix:
                    metrics = {f'{self.prefix}/{name}': value for name, value in metrics.items()}
                message = [metrics]
            except (UserError, OSError) as error:
                # The other processes wait for a message: they must hear of the failure too (a full disk, say).
                message = [error]
        broadcast_object_list(message)
        self.results.clear()
        self._kept.clear()
        if isinstance(message[0], Exception):
            raise message[0]
        return message[0]


def without_padding(records: list[dict], size: int) -> list[dict]:
    """Drop the copies that a sampler appended, never samples that the data set really holds twice.

    Only as many records go as there are more than ``size``, from the end, and only those whose key came before.
    """
    surplus = len(records) - size
    if surplus <= 0:
        return records
    seen: set = set()
    copies = []
    for i, record in enumerate(records):
        if record['key'] in seen:
            copies.append(i)
        seen.add(record['key'])
    drop = set(copies[-surplus:])
    kept = [record for i, record in enumerate(records) if i not in drop]
    # Without identities (no ids in the samples) the order of the default sampler is all there is to go by.
    return kept[:size]


def sample_key(sample: dict) -> tuple:
    """What tells samples apart: index in the data set, or image and person."""
    if sample.get('sample_idx') is not None:
        return ('index', int(sample['sample_idx']))
    box = box_of(sample)
    corners = None if box is None else tuple(np.round(box, 3).tolist())
    return (sample.get('img_path'), sample.get('img_id'), sample.get('ann_id'), corners)


def box_of(sample: dict) -> np.ndarray | None:
    """``(4,)`` float64 x1, y1, x2, y2 of a person's sample; None for others."""
    return None if sample.get('bbox') is None else to_numpy(sample['bbox']).astype(np.float64).reshape(-1)[:4]


def image_of(sample: dict) -> Any:
    """What tells images apart: the data set's id, where it gives none the file."""
    return sample.get('img_path') if sample.get('img_id') is None else sample['img_id']


def sample_name(sample: dict) -> str:
    """How messages name the sample: its file, else its id."""
    if sample.get('img_path'):
        return str(sample['img_path'])
    return f'image {sample.get("img_id", "without id")}'


def field(sample: dict, name: str, metric: str, why: str = '') -> np.ndarray:
    """A field that must be there.

    Raises:
        UserError: The sample lacks it; the message names the image.
    """
    if sample.get(name) is None:
        raise UserError(f"{sample_name(sample)}: {metric} needs '{name}', which the sample lacks{why}")
    return to_numpy(sample[name])


def _worth_keeping(sample: dict) -> dict:
    """The parts of a sample that a picture of its errors needs, copied off the device."""
    names = ('img_path', 'img_id', 'ann_id', 'ori_shape', 'img_shape', 'bbox', 'warp_mat')
    kept = {name: sample[name] for name in names if sample.get(name) is not None}
    for name, value in sample.items():
        if name.startswith(('pred_', 'gt_')) and isinstance(value, (torch.Tensor, np.ndarray)):
            kept[name] = to_numpy(value).copy()
    return kept
