# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Samples that cannot be read: data sets raise, training (`engine.loaders.SeededDataset`) skips and notes them."""

from __future__ import annotations

from ..errors import UserError

BAD_SAMPLE = (UserError, OSError)
"""What a sample raises when it, and not the program, is wrong; readers of files turn all else into it."""


class TooManyBadSamplesError(UserError):
    """More samples than allowed cannot be read; the message names the files."""
