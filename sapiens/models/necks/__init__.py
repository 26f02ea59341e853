# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Between encoder and heads."""

from .upsampling import UpsamplingNeck

__all__ = ['UpsamplingNeck']
