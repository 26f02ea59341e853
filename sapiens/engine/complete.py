# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a config says once and several of its parts need; and a check that the parts agree."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from ..datasets.concat import leaves_of
from ..errors import UserError
from ..registry import DATASETS, METRICS, MODELS, Registry
from ..vocabularies import describe, load_vocabulary, vocabulary_difference

_KINDS = {'keypoints': 'keypoint_vocabulary', 'parts': 'part_vocabulary'}


def complete_config(config: Config) -> Config:
    """Fill in, where a config does not say it itself, what follows from the rest; in place, any number of times.

    * ``input_size = (H, W)`` is the model's ``backbone.img_size`` and every data set's ``input_size``.
    * ``vocabulary = 'name or file'`` (or a list: keypoints and parts) is that of data, heads and metrics.
    * ``test_dataloader``, ``test_cfg`` and ``test_evaluator`` are those of validation, changed by what they say.
    * ``KeypointAP.ann_file`` is the file that the data of the same phase read.
    * ``model.heads.TASK = None`` leaves a task out, with its metrics.

    Raises:
        UserError: An unknown vocabulary.
    """
    _drop_markers(config._cfg_dict)
    _copy_validation(config)
    _leave_out_tasks(config)
    loaders = [config.get(f'{phase}_dataloader') for phase in ('train', 'val', 'test')]
    datasets = [leaf for loader in loaders if loader for leaf in _leaves(loader.get('dataset'))]
    backbone = (config.get('model') or {}).get('backbone')
    if config.get('input_size') is not None:
        given: Any = config.input_size
        sides = list(given) if isinstance(given, (list, tuple)) else []
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise UserError(f'input_size = {given!r}: give (H, W), two whole numbers of pixels')
        size = tuple(sides)
        for dataset in datasets:
            if _takes(DATASETS, dataset, 'input_size'):
                dataset.setdefault('input_size', size)
        if isinstance(backbone, dict) and _takes(MODELS, backbone, 'img_size'):
            backbone.setdefault('img_size', size)
    _fill_vocabularies(config, datasets)
    for phase in ('val', 'test'):
        _fill_annotations(config.get(f'{phase}_evaluator'), config.get(f'{phase}_dataloader'))
    return config


def _drop_markers(part: Any) -> None:
    """``_delete_`` is taken out where a base is merged; where it has no such part, nothing is left to delete."""
    if isinstance(part, dict):
        part.pop('_delete_', None)
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, (list, tuple)) else ():
        _drop_markers(inner)


def _copy_validation(config: Config) -> None:
    loader, own = config.get('val_dataloader'), config.get('test_dataloader') or {}
    whole = 'type' in own.get('dataset', {})
    if loader and not (whole and {'sampler', 'batch_sampler'} & {*own}):
        merged = copy.deepcopy(loader)
        if whole:
            del merged['dataset']
        merged.merge(own)
        config.test_dataloader = merged
    for part in ('cfg', 'evaluator'):
        val, own = config.get(f'val_{part}'), config.get(f'test_{part}')
        if val is not None and own is None:
            config[f'test_{part}'] = copy.deepcopy(val)
        elif (
            part == 'evaluator'
            and isinstance(val, Mapping)
            and isinstance(own, Mapping)
            and not {'type', 'metrics'} & {*own}
        ):
            config.test_evaluator = copy.deepcopy(val)
            config.test_evaluator.merge(own)


def _leave_out_tasks(config: Config) -> None:
    heads = (config.get('model') or {}).get('heads') or {}
    unwanted = [task for task, head in heads.items() if head is None]
    if unwanted and len(unwanted) == len(heads):
        raise UserError('model.heads: every task is None; leave one in')
    for task in unwanted:
        del heads[task]
        for name in ('val_evaluator', 'test_evaluator'):
            if isinstance(config.get(name), list):
                config[name] = [m for m in config[name] if getattr(_class(METRICS, m), 'task', '') != task]


def _fill_annotations(evaluator: Any, loader: Any) -> None:
    for dataset in list(_leaves((loader or {}).get('dataset')))[:1]:
        for metric in _metrics(evaluator):
            if _takes(METRICS, metric, 'ann_file') and str(dataset.get('ann_file', '')).endswith('.json'):
                metric.setdefault('ann_file', str(Path(dataset.get('data_root') or '') / dataset['ann_file']))


def _fill_vocabularies(config: Config, datasets: list[dict]) -> None:
    names = config.get('vocabulary')
    if not names:
        return
    model = config.get('model') or {}
    metrics = [m for phase in ('val', 'test') for m in _metrics(config.get(f'{phase}_evaluator'))]
    for name in [names] if isinstance(names, (str, Path)) else names:
        kind = load_vocabulary(name).kind
        for dataset in datasets:
            if _takes(DATASETS, dataset, _KINDS[kind]):
                dataset.setdefault(_KINDS[kind], name)
        for registry, parts in ((MODELS, (model.get('heads') or {}).values()), (METRICS, metrics)):
            for part in parts:
                parameter = _takes(registry, part, 'vocabulary')
                # The annotation says which kind: `KeypointVocabulary` or `PartVocabulary`.
                if parameter and kind.removesuffix('s').capitalize() in str(parameter.annotation):
                    part.setdefault('vocabulary', name)


def _leaves(dataset: Any) -> Iterator[dict]:
    """The data sets that really read, inside concatenations and repetitions."""
    if not isinstance(dataset, dict):
        return
    inner = [*(dataset.get('datasets') or []), dataset.get('dataset')]
    if any(isinstance(item, dict) for item in inner):
        for item in inner:
            yield from _leaves(item)
    else:
        yield dataset


def _metrics(evaluator: Any) -> list[dict]:
    if isinstance(evaluator, Mapping):
        evaluator = evaluator.get('metrics', evaluator)
    items = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    return [item for item in items if isinstance(item, dict)]


def _class(registry: Registry, part: Mapping) -> Any:
    """The class that a part of a config builds; None for a name that is not ours."""
    kind = part.get('type')
    if not isinstance(kind, str):
        return kind
    scope, _, bare = kind.rpartition('.')
    return registry.get(bare) if scope in ('', 'sapiens') and bare in registry else None


def _takes(registry: Registry, part: Mapping, name: str) -> inspect.Parameter | None:
    """The argument of that name of one of our classes, which a part of a config builds."""
    for parent in getattr(_class(registry, part), '__mro__', ()):
        if '__init__' in vars(parent) and name in inspect.signature(parent.__init__).parameters:
            return inspect.signature(parent.__init__).parameters[name]
    return None


# ---------------------------------------------------------------- the parts, when they are built


def check_agreement(model: nn.Module, dataset: Any, metrics: list | None = None) -> None:
    """Compare data, heads and metrics by what their numbers mean.

    Args:
        model: An estimator with ``heads``; others are left alone.
        metrics: Those that score the predictions; None while training.

    Raises:
        UserError: They differ; the message names both.
    """
    heads = getattr(model, 'heads', {})
    for task, head in heads.items() if isinstance(heads, nn.ModuleDict) else ():
        own = getattr(head, 'vocabulary', None)
        codec = getattr(head, 'codec', None)
        for leaf in leaves_of(dataset):
            size = getattr(leaf, 'input_size', None)
            if codec is not None and size is not None and tuple(size) != tuple(codec.input_size):
                raise UserError(
                    f'{type(leaf).__name__} gives inputs of {tuple(size)} (H, W), the head {task} reads keypoints for '
                    f'{tuple(codec.input_size)}; one line input_size = (H, W) in the config sets both'
                )
            if own is None:
                continue
            scored = [m.gt_vocabulary for m in metrics or () if hasattr(m, 'gt_vocabulary')]
            for vocabulary in _vocabularies(leaf, own.kind):
                if not any(vocabulary_difference(vocabulary, load_vocabulary(v)) is None for v in (own, *scored)):
                    _disagree(f'{type(leaf).__name__} has', vocabulary, f'the head {task}', own)
        for metric in metrics or ():
            other: Any = getattr(metric, 'vocabulary', None)
            if own is not None and getattr(other, 'kind', None) == own.kind and vocabulary_difference(other, own):
                _disagree(f'{type(metric).__name__} scores', other, f'the head {task}', own)


def _disagree(who: str, vocabulary: Any, whom: str, other: Any) -> None:
    raise UserError(
        f'{who} {vocabulary.kind} {describe(vocabulary)}, {whom} {describe(other)}: '
        f"{vocabulary_difference(vocabulary, other)}; one line vocabulary = '...' (name or file) in the config sets "
        'data, head and metric'
    )


def _vocabularies(dataset: Any, kind: str) -> list:
    """What the samples of a data set are in: a transform that converts them has the last word."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', None) or ()
    named = [getattr(part, _KINDS[kind], None) for part in (dataset, *transforms)]
    return [load_vocabulary(name) for name in named if name is not None][-1:]
