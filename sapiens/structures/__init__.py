# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a sample may carry."""

from .human_data_sample import HumanDataSample

__all__ = ['HumanDataSample']
