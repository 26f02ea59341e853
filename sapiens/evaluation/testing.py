# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a test run adds to the metrics of a config: tables, files, saved predictions, the worst images."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import UserError, arguments_of
from ..registry import METRICS, type_name
from .analysis.pictures import write_confusion, write_worst
from .base import HumanMetric
from .report import numbered, print_report, write_reports
from .saved import FIELDS, SavePredictions


def evaluator_for_test(
    evaluator: Any, out: str | Path | None = None, bootstrap: int = 0, keep_worst: int = 0
) -> list[Any]:
    """Metrics of a config with the options of a test run.

    Args:
        evaluator: ``test_evaluator`` of a config: one metric or several.
        out: Folder in which predictions are saved for ``tools/eval_results.py``: ``results_pose.json``,
            ``results_seg/``, ...; None saves none.
        bootstrap: Resamples for confidence intervals; 0 leaves the config's own number.
        keep_worst: Images to keep for pictures; 0 leaves the config's own number.

    Returns:
        Configs of metrics. Metrics of other toolkits stay as they are.
    """
    if isinstance(evaluator, Mapping) and type_name(evaluator, 'Evaluator') == 'Evaluator':
        evaluator = evaluator.get('metrics', evaluator)  # mmengine's own, in full
    metrics = [copy.deepcopy(m) for m in (evaluator if isinstance(evaluator, Sequence) else [evaluator])]
    savers: dict[str, dict] = {}
    for metric in metrics:
        if not isinstance(metric, dict):
            continue
        if metric.get('type') is None:
            raise UserError(f"config: a metric of test_evaluator needs a 'type', this has none: {dict(metric)}")
        kind = METRICS.get(metric['type']) if isinstance(metric['type'], str) else metric['type']
        if not (isinstance(kind, type) and issubclass(kind, HumanMetric)) or issubclass(kind, SavePredictions):
            continue
        if bootstrap:
            metric['bootstrap'] = bootstrap
        if keep_worst:
            metric['keep_worst'] = keep_worst
        if out is not None and kind.task in ('pose', *FIELDS) and kind.task not in savers:
            savers[kind.task] = _saver(kind, metric, Path(out))
    return metrics + list(savers.values())


def protocol_of_run(
    config: Any, config_file: str | Path, checkpoint: str | Path, precision: object = None
) -> dict[str, str]:
    """What the tables of a test run must say to be cited: model, input, precision, flip test, boxes."""
    dataset = config.test_dataloader.dataset
    flip = (config.model.get('test_cfg') or {}).get('flip_test', False)
    protocol = {'model': f'{config_file}, {checkpoint}', 'toolkit': f'sapiens {__version__}'}
    if dataset.get('input_size'):
        protocol['input'] = 'x'.join(str(side) for side in dataset['input_size']) + ' (H x W)'
    if precision is not None:
        protocol['precision'] = f'{precision}; metrics in float32 and finer'
    protocol['flip test'] = 'yes' if flip else 'no'
    if dataset.get('type') == 'CocoKeypointDataset':
        protocol['boxes'] = dataset.get('bbox_file') or 'annotated'
    return protocol


def finish_test(
    evaluator: Any,
    out: str | Path | None = None,
    worst_dir: str | Path | None = None,
    protocol: dict[str, str] | None = None,
) -> list[Path]:
    """Print the tables; write ``report.json``, ``report.csv``, ``report.md`` and pictures. Main process only.

    Args:
        evaluator: The `mmengine.evaluator.Evaluator` that has been evaluated.
        protocol: What the header says before the metric's own protocol (see `protocol_of_run`).
        out: Folder of the files; None writes none.
        worst_dir: Folder of the pictures of the worst images; None draws none.

    Returns:
        What was written.
    """
    ours = [metric for metric in evaluator.metrics if isinstance(metric, HumanMetric)]
    reports = [metric.report for metric in ours if metric.report is not None and metric.report.tables]
    for report in reports:
        report.protocol = {**(protocol or {}), **report.protocol}
        print_report(report)
    written = []
    if out is not None and reports:
        written += [write_reports(reports, Path(out) / f'report.{kind}') for kind in ('json', 'csv', 'md')]
        confused = [report for report in reports if 'confusion' in report.extra]
        for name, report in zip(numbered('confusion' for _ in confused), confused, strict=True):
            written.append(write_confusion(report, Path(out) / f'{name}.png'))
    for name, metric in zip(numbered(type(metric).__name__ for metric in ours), ours, strict=True):
        if worst_dir is not None and metric.worst:
            written += write_worst(metric, Path(worst_dir) / name)
    return written


def _saver(kind: type[HumanMetric], metric: dict, out: Path) -> dict:
    saver: dict[str, Any] = dict(type='SavePredictions', task=kind.task, prefix=f'saved_{kind.task}')
    saver['out'] = str(out / ('results_pose.json' if kind.task == 'pose' else f'results_{kind.task}'))
    saver['vocabulary'] = metric.get('vocabulary', getattr(arguments_of(kind).get('vocabulary'), 'default', None))
    for name in ('score_mode', 'keypoint_threshold', 'keypoint_score_thr'):
        if name in metric:
            saver[name.replace('score_thr', 'threshold')] = metric[name]
    return saver
