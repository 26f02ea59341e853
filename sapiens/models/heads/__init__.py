# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Heads of the four tasks."""

from .base import DeconvHead, DenseHead
from .depth import DepthHead
from .normal import NormalHead
from .part import PartHead
from .person import PersonHead
from .pose import PoseHead

__all__ = ['DeconvHead', 'DenseHead', 'DepthHead', 'NormalHead', 'PartHead', 'PersonHead', 'PoseHead']
