# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Which weights training starts from, decided before anything is built."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from .files import CheckpointError
from .hub import resolve_weights
from .last import checkpoints_of


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
