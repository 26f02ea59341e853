# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a run starts from: weights that are named, or the last whole checkpoint, though it may be damaged or gone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError
from .containers import CheckpointError
from .files import load_plain
from .hub import resolve_weights
from .sharded_checkpoint import read_plain


def choose_start(config: Any) -> str | None:
    """Find the weights of ``load_from``, or make sure that training without them is meant; changes the config.

    A pretrained encoder moves little: with layer-wise decay its first layers learn thousands of times slower than the
    heads. On random weights, nothing would be learnt there, so a config that decays needs weights, or
    ``from_scratch = True``, which turns the decay off.

    Args:
        config: Of a training run; testing and resuming are left alone.

    Returns:
        What to write into the log.

    Raises:
        UserError: No weights are named, or they cannot be had; the message says how to give some.
    """
    wrapper = config.get('optim_wrapper')
    if config.get('train_cfg') is None or config.get('train_dataloader') is None or not isinstance(wrapper, dict):
        return None
    if config.get('resume') and (config.get('load_from') or checkpoints_of(config.work_dir)):
        return None
    options = wrapper.get('paramwise_cfg') or {}
    decays = (
        str(wrapper.get('constructor')).endswith('LayerDecayOptimWrapperConstructor')
        and options.get('layer_decay_rate', 0.85) < 1
    )
    if config.get('from_scratch'):
        config.load_from = None
        if decays:
            wrapper.setdefault('paramwise_cfg', {})['layer_decay_rate'] = 1.0
        return 'from_scratch: random weights, no layer-wise decay of the learning rate'
    how = (
        'give an encoder: --cfg-options load_from=FILE_OR_NAME (e.g. a run of configs/pretrain), put the published '
        'file into checkpoints/, or train without one: --cfg-options from_scratch=True'
    )
    backbone = (config.get('model') or {}).get('backbone') or {}
    if not config.get('load_from'):
        if decays and not (backbone.get('init_cfg') or {}).get('checkpoint'):
            raise UserError(f'load_from names no weights, but the learning rate decays towards the first layers: {how}')
        return None
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0:  # the one that will read it
        try:
            if not Path(config.load_from).is_dir():
                config.load_from = str(resolve_weights(config.load_from))
        except UserError as error:
            raise UserError(f'load_from: {error}; {how}') from None
        if not Path(config.load_from).exists():
            raise CheckpointError(f'load_from: {config.load_from}: no such checkpoint; {how}')
    return None


def checkpoints_of(work_dir: str | Path) -> list[Path]:
    """Training checkpoints of a work directory, the one that ``last_checkpoint`` points to first, then by age."""
    work_dir = Path(work_dir)
    pointer = work_dir / 'last_checkpoint'
    folders, named = {work_dir}, []
    if pointer.is_file():
        target = Path(pointer.read_text(encoding='utf-8').strip())
        folders.add(target.parent)
        named = [target, work_dir / target.name]  # the second when the folder was moved
    # Names of `SafeCheckpointHook`; the best ones hold no optimiser.
    names = re.compile(r'(iter|epoch)_\d+\.(pth|dcp)')
    others = [p for f in folders if f.is_dir() for p in f.iterdir() if names.fullmatch(p.name)]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [path for path in dict.fromkeys([*named, *others]) if path.exists()]


def _read(path: str | Path) -> dict:
    if Path(path).is_dir():
        return read_plain(Path(path))
    checkpoint = load_plain(path)
    if not isinstance(checkpoint, dict) or not {'state_dict', 'optimizer', 'meta'} <= set(checkpoint):
        raise CheckpointError(
            f'{path}: holds weights but no training state; use load_from to start from it, not resume'
        )
    return checkpoint


def read_training_state(
    filename: str | Path | None, work_dir: str | Path, warn: Callable[[str], None]
) -> tuple[Path, dict]:
    """Read a checkpoint to continue from.

    Args:
        filename: The one that was asked for; None takes the last one of the work directory that is whole.
        warn: Is told which damaged ones are passed over.

    Raises:
        CheckpointError: It is damaged, or none is whole.
    """
    if filename is not None:
        try:
            return Path(filename), _read(filename)
        except CheckpointError as error:
            older = [path for path in checkpoints_of(work_dir) if path.resolve() != Path(filename).resolve()]
            hint = f'; {older[0]} is there too' if older and Path(filename).exists() else ''
            raise CheckpointError(f'{error}{hint}') from None
    damaged = []
    for path in checkpoints_of(work_dir):
        try:
            checkpoint = _read(path)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        if damaged:
            warn(f'the last checkpoint cannot be read ({"; ".join(damaged)}): continuing from {path}, which is older')
        return path, checkpoint
    raise CheckpointError(f'{work_dir}: no whole checkpoint to resume: {"; ".join(damaged)}; train anew in another one')
