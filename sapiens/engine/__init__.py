# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Training and testing: optimiser, loops, hooks, checkpoints, several processes."""

from .checkpoint import CheckpointError, CoverageReport, load_model_weights, read_checkpoint, resize_pos_embed
from .config import ConfigError, load_config
from .hooks import (
    BadSampleHook,
    MAEVisHook,
    NaNGuardHook,
    PredictionVisHook,
    PreemptionHook,
    ResultHook,
    SafeCheckpointHook,
    ThroughputHook,
)
from .loops import ExactEpochLoop, ExactIterLoop
from .optim import LayerDecayOptimWrapperConstructor
from .precision import MixedPrecisionOptimWrapper
from .pretrained import PretrainedInit
from .runner import SapiensRunner

__all__ = [
    'BadSampleHook',
    'CheckpointError',
    'ConfigError',
    'CoverageReport',
    'ExactEpochLoop',
    'ExactIterLoop',
    'LayerDecayOptimWrapperConstructor',
    'MAEVisHook',
    'MixedPrecisionOptimWrapper',
    'NaNGuardHook',
    'PredictionVisHook',
    'PreemptionHook',
    'PretrainedInit',
    'ResultHook',
    'SafeCheckpointHook',
    'SapiensRunner',
    'ThroughputHook',
    'load_config',
    'load_model_weights',
    'read_checkpoint',
    'resize_pos_embed',
]
