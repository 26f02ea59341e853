# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Losses of the four tasks; each states its formula and is finite on empty masks and perfect fits."""

from .accuracy import pixel_accuracy, pose_accuracy
from .cross_entropy import WeightedCrossEntropy
from .depth import SiLogLoss
from .keypoint import KeypointDivergenceLoss, KeypointLoss, KeypointMSELoss, KeypointOHKMLoss
from .normal import NormalLoss

__all__ = [
    'KeypointDivergenceLoss',
    'KeypointLoss',
    'KeypointMSELoss',
    'KeypointOHKMLoss',
    'NormalLoss',
    'SiLogLoss',
    'WeightedCrossEntropy',
    'pixel_accuracy',
    'pose_accuracy',
]
