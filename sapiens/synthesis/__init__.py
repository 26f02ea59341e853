# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Render synthetic people with exact labels; see docs/synthesis.md."""
