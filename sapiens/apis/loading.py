# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From a model's name and a weights file to a network that is ready to run."""

from __future__ import annotations

import copy
import difflib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn
from torch.overrides import TorchFunctionMode

from ..deploy.runner import is_exported, open_exported
from ..engine.checkpoint import CoverageReport, fit_state_dict, read_checkpoint
from ..engine.complete import complete_config, heads_of
from ..engine.config import load_config
from ..engine.hub import SHIPPED, SUFFIXES, parse_reference, resolve_weights, weight_folders, weights_at_hand
from ..engine.layouts import Layout, noted_size, recognise
from ..errors import UserError
from ..models.backbones import ARCHS
from ..registry import MODELS
from ..utils.shipped import find_config_file, shipped_configs, shipped_root
from ..utils.surroundings import out_of_surroundings

CONFIGS = shipped_root() / 'configs'
# Short names of models: what they predict -> (folder, suffix) of their configs.
MODEL_NAMES = {
    'pose_17': ('pose', '17kpt'),
    'pose_133': ('pose', '133kpt'),
    'pose_308': ('pose', '308kpt'),
    'seg_20': ('seg', '20cls'),
    'seg_28': ('seg', '28cls'),
    'depth': ('depth', 'depth'),
    'normal': ('normal', 'normal'),
    'mae': ('pretrain', 'mae'),
    'all': ('multitask', '4tasks'),
}
ALL_HEADS = {'pose': 308, 'seg': 28, 'depth': 1, 'normal': 3}
"""Outputs of each head of ``'all'``."""


@dataclass(eq=False)
class LoadedModel:
    """A network with what it was made from.

    Attributes:
        network: On the CPU, in the precision of the weights.
        layout: What the weights were recognised as.
        source: File of the weights.
        origin: Of published weights: ``repository``, ``file``, ``licence``, ``licence_url``, ``revision``; else empty.
    """

    network: Any
    config: Config
    layout: Layout
    report: CoverageReport
    source: str
    origin: dict[str, str] = field(default_factory=dict)


def choose_device(device: str | torch.device = 'auto') -> torch.device:
    """Where models run, detectors and those of curation included: ``'auto'`` takes cuda, mps, cpu in that order.

    Raises:
        UserError: The device asked for is not there.
    """
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'mps' if torch.backends.mps.is_available() else 'cpu'
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise UserError(f"device '{device}' is none of 'auto', 'cpu', 'cuda', 'cuda:N', 'mps'") from None
    backend = {'cuda': torch.cuda, 'mps': torch.backends.mps}.get(chosen.type)
    here = backend is None or backend.is_available()
    if not here:
        raise UserError(f"device '{device}': PyTorch sees none here; leave it out ('auto') to use what there is")
    if chosen.type == 'cuda' and (chosen.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device '{device}': there are {torch.cuda.device_count()} GPUs, counted from 0")
    return chosen


def find_config(name: str | Path, layout: Layout | None = None) -> Path:
    """Config of a model by name.

    Args:
        name: Path of a config, its stem (``'sapiens_1b_308kpt'``), or a short name (`MODEL_NAMES`), with or without
            a size (``'pose_308_1b'``); ``'tiny'`` is the model that ships.
        layout: Of the weights; gives the size where the name does not.

    Raises:
        UserError: Unknown name (the nearest is named), or the size is nowhere said.
    """
    text = str(name)
    text = {**SHIPPED, 'small': 'all_small'}.get(text, text)
    path = find_config_file(text)
    if text.endswith('.py') or path.is_file():
        return path
    found = re.fullmatch(rf'({"|".join(MODEL_NAMES)})(?:_({"|".join(map(re.escape, ARCHS))}))?', text)
    if not found:
        near = difflib.get_close_matches(text, [*MODEL_NAMES, *shipped_configs()], n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'? " if near else ''
        raise UserError(f"unknown model '{text}': {hint}known are tiny, {', '.join(MODEL_NAMES)} (also with a size: "
                        "'pose_308_1b') and the configs in configs/")  # fmt: skip
    folder, suffix = MODEL_NAMES[found.group(1)]
    size = found.group(2) or (layout.arch if layout else None)
    if size is None:
        what = 'its weights have the widths of no shipped config' if layout else 'say its size too'
        raise UserError(f"model '{text}': {what}; give the config (config= or --config) or e.g. '{text}_1b'")
    return CONFIGS / folder / f'sapiens_{size}_{suffix}.py'


def name_of_layout(layout: Layout, source: str) -> str:
    """Short name of the model that weights are of.

    Raises:
        UserError: They are of none with a config.
    """
    heads = list(layout.heads.items())
    if not heads and layout.cls_token:
        return 'mae'
    if len(heads) == 1:
        task, count = heads[0]
        name = task if heads[0] in (('depth', 1), ('normal', 3)) else f'{task}_{count}'
        if name in MODEL_NAMES:
            return name
    if layout.heads == ALL_HEADS:
        return 'all'
    what = 'no head' if not heads else f'{len(heads)} heads ({layout})' if len(heads) > 1 else f'one head ({layout})'
    raise UserError(f'{source}: has {what}, of which no shipped config is made; give its config (config= or --config)')


def find_weights(name: str, config: Path) -> Path:
    """Weights of a model given by name alone.

    That is ``<config>.safetensors`` or ``.pth`` in a folder of weights (`sapiens.engine.hub.weight_folders`), else what
    is published of this model on the hub.

    Raises:
        UserError: There are none; nothing runs on random weights.
    """
    found = weights_at_hand(config.stem)
    if found:
        return found
    published = re.fullmatch(r'sapiens_([\d.]+b)_(\w+)', config.stem)
    kinds = {suffix: kind for kind, (_, suffix) in MODEL_NAMES.items()}
    kind = kinds.get(published[2]) if published else None
    reference = parse_reference(f'{kind}_{published[1]}') if published and kind else None
    problem = 'no weights of it are published'
    if reference:
        try:
            return resolve_weights(str(reference))
        except UserError as error:
            problem = str(error)
    raise UserError(
        f"model '{name}': there is no {config.stem}.safetensors or .pth in "
        f'{" or ".join(map(str, weight_folders()[:-2]))}, and {problem}; give weights= or --checkpoint FILE (published '
        f'Sapiens checkpoints load as they are) or train it: sapiens train {config.stem}'
    ) from None


class _EmptyOnMeta(TorchFunctionMode):
    """`torch.empty`, which parameters are made of, takes no memory, in this thread alone; buffers stay real."""

    def __torch_function__(self, function: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.empty and kwargs.get('device') is None:
            kwargs['device'] = 'meta'
        return function(*args, **kwargs)


# Reading a config changes the paths of imports, building from it the registries' scope: one thread at a time.
_BUILDING = threading.Lock()


def build_without_memory(config: Config) -> nn.Module:
    """The model of a config, to be filled by ``load_state_dict(..., assign=True)``."""
    with _BUILDING, _EmptyOnMeta():
        init_default_scope(config.get('default_scope', 'sapiens'))
        return MODELS.build(config.model)


@out_of_surroundings()
def load_model(
    model: str | Path | Config | None = None,
    weights: str | Path | None = None,
    config: str | Path | Config | None = None,
    task: str | None = None,
    allow_partial: bool = False,
) -> LoadedModel:
    """Build a model and fill it with weights, on the CPU, in the weights' own precision.

    Args:
        model: Name, see `find_config`, or config; None: what the weights are. A file of weights, exported (``.onnx``,
            ``.xml``) or not, is both.
        weights: Checkpoint of any known layout, an exported file, or its name on the hub (`sapiens.engine.hub`);
            None: `find_weights`.
        config: Config, instead of a name.
        task: Task of a published dense head, where neither layout nor file name tells.
        allow_partial: A head that the weights lack is left out of the model, instead of stopping.

    Raises:
        UserError: Unknown model, no weights, or weights of another model. Nothing runs on random weights.
    """
    if isinstance(model, Config):
        model, config = None, model
    if is_exported(model) and weights is not None:
        raise UserError(f'{model}: holds its weights; leave out those of {weights}')
    if is_exported(model) or (weights is None and Path(str(model)).suffix in SUFFIXES):
        model, weights = None, model
    if weights is None:
        if model is None and config is None:
            raise UserError("say which model: a name ('pose_308'), weights= or --checkpoint FILE, or both")
        if isinstance(config, Config):
            raise UserError('a Config object needs weights=FILE')
        path = Path(config) if config is not None else find_config(str(model), _size_of_weights(str(model)))
        weights = find_weights(str(model or config), path)
        config = path
    if is_exported(weights):
        exported, cfg = open_exported(weights)
        return LoadedModel(exported, cfg, Layout(), CoverageReport(), str(weights))
    weights = resolve_weights(weights)
    state, meta = read_checkpoint(weights)
    layout = recognise(state, str(weights), meta, task)
    guessed = config is None and model is None
    given = config is not None or str(model).endswith('.py')
    if config is None:
        config = find_config(model if model is not None else name_of_layout(layout, str(weights)), layout)
    with _BUILDING:
        cfg = complete_config(copy.deepcopy(config)) if isinstance(config, Config) else load_config(config)
    # A program has one size; other weights take that of a config which is given.
    size = noted_size(meta, layout) if not given or 'container' in meta else None
    if size and isinstance(cfg.model.get('backbone'), dict):
        _set_size(cfg, size)
    network: Any = build_without_memory(cfg)
    if allow_partial and hasattr(network, 'heads'):
        for name in [n for n in network.heads if n not in layout.heads]:
            del network.heads[name]
    if hasattr(network, 'neck') and not hasattr(network, 'heads') and not layout.decoder:
        del network.neck  # an encoder alone, for its features
    try:
        fitted, report = fit_state_dict(network, state, meta, source=str(weights))
    except UserError as error:
        if not guessed:
            raise
        raise UserError(f'{str(error).partition(";")[0]}; it is no {Path(str(config)).stem}, which it looks like: give '
                        "its config (config= or --config)") from None  # fmt: skip
    del state
    network.load_state_dict(fitted, strict=True, assign=True)
    empty = [name for name, t in chain(network.named_parameters(), network.named_buffers()) if t.is_meta]
    if empty:
        raise UserError(f'{weights}: fills all but {", ".join(empty[:3])}, which the model does not save; make it '
                        'with another function than torch.empty')  # fmt: skip
    network.requires_grad_(False).eval()
    origin = meta.get('origin')  # of a file that came from elsewhere it may be anything
    return LoadedModel(network, cfg, layout, report, str(weights), origin if isinstance(origin, dict) else {})


def _size_of_weights(name: str) -> Layout | None:
    """For a name without a size: the largest size whose weights are at hand, else 1b."""
    if name not in MODEL_NAMES:
        return None
    sizes = (size for size in reversed(ARCHS) if weights_at_hand(f'sapiens_{size}_{MODEL_NAMES[name][1]}'))
    return Layout(next(sizes, '1b'))


def test_dataset(config: Any) -> dict:
    """The data set's config of the tests, inside of what wraps it."""
    dataset = (config.get('test_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset and ('dataset' in dataset or dataset.get('datasets')):
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


def _set_size(config: Config, size: tuple[int, int]) -> None:
    config.model.backbone.img_size = test_dataset(config)['input_size'] = size
    for head in heads_of(config).values():
        (head.get('codec') or {}).pop('input_size', None)
