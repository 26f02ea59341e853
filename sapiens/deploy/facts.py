# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What an exported file says about itself: written into it, checked where it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .. import TOOLKIT, __version__
from .. import codecs as codecs  # fills the registries that names in a file are looked up in
from ..datasets import transforms as transforms
from ..engine.state import describe_model, describe_vocabulary
from ..engine.unpickle import to_plain
from ..errors import CONFIG_ERRORS, UserError
from ..models.heads import PartHead, PoseHead
from ..registry import CODECS, TRANSFORMS
from ..vocabularies import parse_vocabulary
from .graph import DECODED, RAW, DeployGraph

KEY = 'sapiens'
"""Name of the entry in a file's metadata; its value is JSON."""
KINDS = {kind.__name__: kind for kind in RAW}
PART_RULES = ('least_region', 'with_person')
"""Arguments of a `PartHead` that say what becomes of its output."""
# What reads labels is for tests with a data set; an image has none.
_OF_LABELS = ('LoadLabels', 'LoadAnnotations', 'FromOpenMMLab')


def describe(graph: DeployGraph, dataset: Mapping, dtype: str, licence: str) -> dict[str, Any]:
    """The facts of a graph, as plain data.

    Args:
        graph: What is exported.
        dataset: Config of the data of tests, whose ``pipeline`` and ``input_size`` inputs are made with.
        dtype: Of the weights in the file.
        licence: Of the weights, for people.
    """
    model, preprocessor = graph.model, graph.model.data_preprocessor
    tasks = {}
    for task, kind in graph.kinds.items():
        head = model.heads[task]
        facts = tasks[task] = dict(head=kind.__name__, outputs=[RAW[kind], *graph.decoded[kind]])
        if getattr(head, 'vocabulary', None) is not None:
            facts['vocabulary'] = describe_vocabulary(head.vocabulary)
        if kind is PoseHead:
            codec = head.codec
            names = ('input_size', 'heatmap_size', 'sigma', 'blur_kernel_size')
            facts['codec'] = dict(type=type(codec).__name__, **{name: getattr(codec, name) for name in names})
        if kind is PartHead:
            facts['rules'] = {name: getattr(head, name) for name in PART_RULES}
    pipeline = [dict(step) for step in dataset.get('pipeline') or ()]
    return to_plain(
        dict(
            toolkit=f'{TOOLKIT} {__version__}',
            input=dict(name='images', size=graph.input_size, layout='N3HW uint8 RGB, not normalised'),
            normalised_inside=dict(mean=preprocessor.mean.flatten(), std=preprocessor.std.flatten()),
            **{name: fact for name, fact in describe_model(model).items() if name != 'vocabularies'},
            tasks=tasks,
            flip_test=bool(model.test_cfg.get('flip_test', False)),
            closer_look=model.test_cfg.get('closer_look'),
            pipeline=[step for step in pipeline if not str(step.get('type')).endswith(_OF_LABELS)],
            dtype=dtype,
            licence=licence,
        )
    )


def dumps(facts: Mapping[str, Any]) -> str:
    """As text for a file."""
    plain = {torch.Tensor: torch.Tensor.tolist, np.ndarray: np.ndarray.tolist}
    return json.dumps(facts, default=lambda value: plain.get(type(value), str)(value))


def loads(text: str | None, source: str) -> dict[str, Any]:
    """Read and check what `dumps` wrote.

    Args:
        text: Of the file; None = it has none.
        source: The file, for messages.

    Raises:
        UserError: It has none, or it is not ours.
    """
    if text is None:
        raise UserError(f'{source}: does not say what it is (no metadata "{KEY}"); write it with sapiens export')
    with damage(source):
        facts = json.loads(text)
        _check(facts, source)
        return facts


@contextmanager
def damage(source: str) -> Iterator[None]:
    """Whatever does not fit in the metadata of a file, as one line."""
    try:
        yield
    except (*CONFIG_ERRORS, RecursionError) as error:
        if isinstance(error, UserError) and source in str(error):
            raise
        what = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise UserError(f'{source}: its metadata "{KEY}" are damaged ({what[0]}); export it again') from None


def _check(facts: dict, source: str) -> None:
    """Raise unless everything that is used later is there and of its kind."""
    height, width = facts['input']['size']
    if not all(type(n) is int and 0 < n < 2**16 for n in (height, width)):
        raise ValueError(f'size {height} x {width}')
    for values in facts['normalised_inside'].values():
        if len(values) != 3 or not all(isinstance(v, (int, float)) and np.isfinite(v) for v in values):
            raise ValueError(f'{values} are not three numbers')
    for name in ('mean', 'std'):
        facts['normalised_inside'][name]
    if not facts['tasks']:
        raise ValueError('no tasks')
    for task, entry in facts['tasks'].items():
        kind = KINDS[entry['head']]
        if list(entry['outputs']) != [RAW[kind], *DECODED[kind]]:
            raise ValueError(f'outputs of {task}')
        if 'vocabulary' in entry:
            parse_vocabulary(entry['vocabulary'], source)
        if 'codec' in entry and CODECS.module_dict.get(entry['codec']['type']) is None:
            raise ValueError(f'codec of {task}')
        rules = entry.get('rules', {})
        if not set(rules) <= {*PART_RULES} or not all(isinstance(value, (int, float)) for value in rules.values()):
            raise ValueError(f'rules of {task}')
    for step in facts['pipeline']:
        # By their plain names alone: a name with a dot would be imported.
        if TRANSFORMS.module_dict.get(step['type']) is None:
            raise UserError(f"{source}: needs the transform '{step['type']}', which is not registered here; import the "
                            'module that registers it first')  # fmt: skip
