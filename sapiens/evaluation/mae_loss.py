# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Validation of masked-autoencoder pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from ..registry import METRICS


@METRICS.register_module()
class MAELoss(BaseMetric):
    """Mean reconstruction loss over the images, as ``mae/loss``; smaller is better.

    Reads the field ``mae_loss`` that `MAEPretrainer` writes in the mode ``'predict'``.
    """

    default_prefix = 'mae'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Note the losses of a batch."""
        self.results += [float(sample['mae_loss']) for sample in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Mean over all images."""
        return {'loss': sum(results) / len(results)}
