# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Data sets, one class per format, and one family of transforms for all tasks."""
