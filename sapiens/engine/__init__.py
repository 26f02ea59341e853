# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Training and testing: optimiser, loops, hooks, checkpoints, several processes."""

from . import hooks as hooks
from .checkpoint import CheckpointError, CoverageReport, load_model_weights, read_checkpoint, resize_pos_embed
from .config import ConfigError, load_config
from .loops import ExactEpochLoop, ExactIterLoop
from .optim import LayerDecayOptimWrapperConstructor
from .precision import MixedPrecisionOptimWrapper
from .pretrained import PretrainedInit
from .runner import SapiensRunner

__all__ = [
    'CheckpointError',
    'ConfigError',
    'CoverageReport',
    'ExactEpochLoop',
    'ExactIterLoop',
    'LayerDecayOptimWrapperConstructor',
    'MixedPrecisionOptimWrapper',
    'PretrainedInit',
    'SapiensRunner',
    'load_config',
    'load_model_weights',
    'read_checkpoint',
    'resize_pos_embed',
]
