# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From a heap of images to shards for pretraining: score on Ray Data, find duplicates, decide and pack."""

from . import embedding, labels, persons, stages  # noqa: F401  what configs name is registered
