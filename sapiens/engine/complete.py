# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a config says once and several of its parts need; and a check that the parts agree."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import get_object_from_string
from torch import nn

from ..datasets.base import leaves_of
from ..datasets.transforms.base import Transform
from ..errors import UserError, arguments_of
from ..registry import DATASETS, METRICS, MODELS, Registry
from ..vocabularies import describe, load_vocabulary, vocabulary_difference

_KINDS = {'keypoints': 'keypoint_vocabulary', 'parts': 'part_vocabulary'}
# What a runner understands, by the kind of its values, with what is in it where we look into it.
_VALUES: dict[str, tuple[tuple[type, ...], str]] = {
    'a dict': ((dict,), 'model model.backbone model.heads train_dataloader val_dataloader test_dataloader '
               'train_dataloader.dataset val_dataloader.dataset test_dataloader.dataset train_cfg val_cfg test_cfg '
               'optim_wrapper optim_wrapper.optimizer optim_wrapper.paramwise_cfg env_cfg default_hooks '
               'env_cfg.dist_cfg log_processor visualizer randomness auto_scale_lr model_wrapper_cfg custom_imports '
               'data_preprocessor'),
    'a dict or a list of dicts': ((dict, list, tuple), 'param_scheduler val_evaluator test_evaluator'),
    'a list of dicts': ((list, tuple), 'custom_hooks'),
    'True, or a dict of options': ((bool, dict), 'compile fsdp'),
    'True or False': ((bool,), 'find_unused_parameters from_scratch'),
    'True or False (load_from names the file)': ((bool,), 'resume'),
    'the path or the name of weights': ((str, PurePath), 'load_from'),
    'the path of a folder': ((str, PurePath), 'work_dir'),
    'text': ((str,), 'launcher default_scope experiment_name precision'),
    'text or a number': ((str, int), 'log_level'),
    'a whole number': ((int,), 'default_hooks.checkpoint.interval default_hooks.logger.interval randomness.seed '
                       'log_processor.window_size auto_scale_lr.base_batch_size env_cfg.dist_cfg.timeout '
                       'optim_wrapper.accumulative_counts train_dataloader.batch_size val_dataloader.batch_size '
                       'test_dataloader.batch_size train_dataloader.num_workers val_dataloader.num_workers '
                       'test_dataloader.num_workers'),
    'a name or a list of names': ((str, PurePath, list, tuple), 'load_skip vocabulary'),
}  # fmt: skip
RUNNER_KEYS = {'input_size', *(key for _, keys in _VALUES.values() for key in keys.split() if '.' not in key)}
"""What a runner understands beside the keys that a config already has."""


def complete_config(config: Config) -> Config:
    """Fill in, where a config does not say it itself, what follows from the rest; in place, any number of times.

    * ``input_size = (H, W)`` is the model's ``backbone.img_size`` and every data set's ``input_size``.
    * ``vocabulary = 'name or file'`` (or a list: keypoints and parts) is that of data, heads and metrics.
    * ``test_dataloader``, ``test_cfg`` and ``test_evaluator`` are those of validation, changed by what they say.
    * ``KeypointAP.ann_file`` is the file that the data of the same phase read.
    * ``model.heads.TASK = None`` leaves a task out, with its metrics.

    Raises:
        UserError: An unknown vocabulary, a value of another kind, or one that cannot be written into a checkpoint.
    """
    _tidy(config._cfg_dict)
    _check_kinds(config)
    _copy_validation(config)
    _leave_out_tasks(config)
    loaders = [config.get(f'{phase}_dataloader') for phase in ('train', 'val', 'test')]
    datasets = [leaf for loader in loaders if loader for leaf in _leaves(loader.get('dataset'))]
    backbone = (config.get('model') or {}).get('backbone')
    size = config.get('input_size')
    takers = [(dataset, 'input_size') for dataset in datasets if _takes(DATASETS, dataset, 'input_size')]
    if isinstance(backbone, dict) and _takes(MODELS, backbone, 'img_size'):
        takers.append((backbone, 'img_size'))
    if size is not None and takers:
        sides = size if isinstance(size, (list, tuple)) else ()
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise UserError(f'input_size = {size!r}: give (H, W), two whole numbers of pixels')
        for part, name in takers:
            part.setdefault(name, tuple(size))
    _fill_vocabularies(config, datasets)
    for phase in ('val', 'test'):
        _fill_annotations(config.get(f'{phase}_evaluator'), config.get(f'{phase}_dataloader'))
    return config


def _tidy(part: Any, where: str = '') -> None:
    """Bring a config into what can be written down, as it is beside the log and in checkpoints.

    ``_delete_`` is taken out where a base is merged; where it has no such part, nothing is left to delete. A class as
    ``type`` becomes its name; classes and modules that the file has imported are no part of the config.
    """
    if isinstance(part, dict):
        part.pop('_delete_', None)
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, (list, tuple)) else ()
    for key, value in list(items):
        name = f'{getattr(value, "__module__", "")}.{getattr(value, "__qualname__", "")}'
        if isinstance(value, (dict, list, tuple)):
            _tidy(value, f'{where}{key}.')
        elif key == 'type' and hasattr(value, '__qualname__') and get_object_from_string(name) is value:
            part[key] = name
        elif not _is_plain(value):
            if where:
                raise UserError(f'{where}{key} = {value!r}: a config holds plain values; register a class of a module '
                                "of yours, and give its name as a 'type'")  # fmt: skip
            del part[key]


def _is_plain(value: Any) -> bool:
    try:
        return value is None or isinstance(value, (str, int, float)) or bool(ast.parse(repr(value)))
    except SyntaxError:
        return False


def _check_kinds(config: Config) -> None:
    for key in ('default_scope', 'env_cfg', 'randomness', 'log_level'):  # None is no value of these
        if config.get(key, key) is None:
            del config._cfg_dict[key]
    config.setdefault('default_scope', 'sapiens')
    model = config.get('model')
    ours = isinstance(model, dict) and getattr(_class(MODELS, model), '__module__', '').startswith('sapiens.')
    for wanted, (kinds, keys) in _VALUES.items():
        for key in keys.split():
            if key.startswith('model.') and not ours:  # another model may mean something else by them
                continue
            value: Any = config
            for name in key.split('.'):
                value = value.get(name) if isinstance(value, (Config, dict)) else None
            wrong = isinstance(value, bool) and bool not in kinds
            if value is not None and (wrong or not isinstance(value, kinds)):
                raise UserError(f'{key} = {value!r}: give {wanted}')


def _copy_validation(config: Config) -> None:
    loader, own = config.get('val_dataloader'), config.get('test_dataloader') or {}
    whole = 'type' in (own.get('dataset') or {})
    if loader and not (whole and {'sampler', 'batch_sampler'} & {*own}):
        merged = copy.deepcopy(loader)
        if whole:
            del merged['dataset']
        merged.merge(own)
        config.test_dataloader = merged
    for part in ('cfg', 'evaluator'):
        val, own = config.get(f'val_{part}'), config.get(f'test_{part}')
        changes = part == 'evaluator' and isinstance(val, Mapping) and isinstance(own, Mapping)
        if val is not None and own is None:
            config[f'test_{part}'] = copy.deepcopy(val)
        elif changes and not {'type', 'metrics'} & {*own}:
            config.test_evaluator = copy.deepcopy(val)
            config.test_evaluator.merge(own)


def _leave_out_tasks(config: Config) -> None:
    heads = heads_of(config)
    unwanted = [task for task, head in heads.items() if head is None]
    if unwanted and len(unwanted) == len(heads):
        raise UserError('model.heads: every task is None; leave one in')
    for task in unwanted:
        del heads[task]
        for name in ('val_evaluator', 'test_evaluator'):
            if isinstance(config.get(name), list):
                config[name] = [m for m in config[name] if getattr(_class(METRICS, m), 'task', '') != task]


def heads_of(config: Config) -> dict:
    """Task -> config of its head; empty for a model that has none by such names."""
    heads = (config.get('model') or {}).get('heads')
    return heads if isinstance(heads, dict) else {}


def _fill_annotations(evaluator: Any, loader: Any) -> None:
    for dataset in list(_leaves((loader or {}).get('dataset')))[:1]:
        for metric in _metrics(evaluator):
            if _takes(METRICS, metric, 'ann_file') and str(dataset.get('ann_file', '')).endswith('.json'):
                metric.setdefault('ann_file', str(Path(dataset.get('data_root') or '') / dataset['ann_file']))


def _fill_vocabularies(config: Config, datasets: list[dict]) -> None:
    names = config.get('vocabulary')
    if not names:
        return
    metrics = [m for phase in ('val', 'test') for m in _metrics(config.get(f'{phase}_evaluator'))]
    for name in [names] if isinstance(names, (str, Path)) else names:
        kind = load_vocabulary(name).kind
        for dataset in datasets:
            if _takes(DATASETS, dataset, _KINDS[kind]):
                dataset.setdefault(_KINDS[kind], name)
        for registry, parts in ((MODELS, heads_of(config).values()), (METRICS, metrics)):
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
    if scope in ('', 'sapiens'):
        return registry.get(bare) if bare in registry else None
    return get_object_from_string(kind) if scope.partition('.')[0] not in {*MODULE2PACKAGE} - {'sapiens'} else None


def _takes(registry: Registry, part: Mapping, name: str) -> inspect.Parameter | None:
    """The argument of that name of one of our classes, which a part of a config builds."""
    return arguments_of(_class(registry, part)).get(name)


# ---------------------------------------------------------------- the parts, when they are built


def check_agreement(model: nn.Module, dataset: Any, metrics: list | None = None) -> None:
    """Compare data, heads and metrics by what their numbers mean.

    Args:
        model: An estimator with ``heads``; others are left alone.
        metrics: Those that score the predictions; None while training.

    Raises:
        UserError: They differ; the message names both.
    """
    _check_sides(model, dataset)
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


def _check_sides(model: nn.Module, dataset: Any) -> None:
    """Raise a `UserError` where one of our transforms makes inputs whose width and height are the model's exchanged."""
    size = getattr(getattr(model, 'backbone', None), 'img_size', None)
    size = tuple(size) if isinstance(size, (tuple, list)) else ()
    pipelines = (getattr(leaf, 'pipeline', None) for leaf in leaves_of(dataset))
    for part in (part for pipeline in pipelines for part in getattr(pipeline, 'transforms', None) or ()):
        own = getattr(part, 'input_size', None) if isinstance(part, Transform) else None
        if own is not None and tuple(own) == size[::-1] != size:
            raise UserError(
                f'{type(part).__name__} gives inputs of {size[::-1]} (H, W), the model takes {size}: width and '
                'height are exchanged; input_size is (H, W), but for TopdownAffine(use_udp=True), or leave it out'
            )


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
