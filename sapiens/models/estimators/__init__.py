# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One backbone, named heads."""

from .human_estimator import HumanEstimator

__all__ = ['HumanEstimator']
