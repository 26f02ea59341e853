# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Hooks of training and testing."""

from .budget import TimeBudgetHook
from .checkpoint import SafeCheckpointHook
from .ema import EMAHook
from .pictures import MAEVisHook, PredictionVisHook, ResultHook
from .preemption import EXIT_REQUEUE, Preempted, PreemptionHook
from .stragglers import StragglerHook
from .watch import BadSampleHook, NaNGuardHook, ThroughputHook, TrainingDiverged

__all__ = [
    'EXIT_REQUEUE',
    'BadSampleHook',
    'EMAHook',
    'MAEVisHook',
    'NaNGuardHook',
    'Preempted',
    'PreemptionHook',
    'PredictionVisHook',
    'ResultHook',
    'SafeCheckpointHook',
    'StragglerHook',
    'ThroughputHook',
    'TimeBudgetHook',
    'TrainingDiverged',
]
