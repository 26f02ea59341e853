# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Backbone, heads, losses, pretraining and the estimator."""

from .backbones import SapiensViT
from .estimators import HumanEstimator
from .heads import DepthHead, NormalHead, PartHead, PersonHead, PoseHead
from .losses import (
    KeypointDivergenceLoss,
    KeypointMSELoss,
    KeypointOHKMLoss,
    NormalLoss,
    SiLogLoss,
    WeightedCrossEntropy,
)
from .necks import UpsamplingNeck
from .preprocessor import HumanDataPreprocessor
from .pretrain import MAEDecoder, MAEPretrainer

__all__ = [
    'DepthHead',
    'HumanDataPreprocessor',
    'HumanEstimator',
    'KeypointDivergenceLoss',
    'KeypointMSELoss',
    'KeypointOHKMLoss',
    'MAEDecoder',
    'MAEPretrainer',
    'NormalHead',
    'NormalLoss',
    'PartHead',
    'PersonHead',
    'PoseHead',
    'SapiensViT',
    'SiLogLoss',
    'UpsamplingNeck',
    'WeightedCrossEntropy',
]
