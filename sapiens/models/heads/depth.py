# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Relative depth head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...registry import MODELS
from ...structures import HumanDataSample
from ..losses import SiLogLoss
from ..losses.depth import normalise_depth
from .base import DenseHead
from .frames import map_to_original


@MODELS.register_module()
class DepthHead(DenseHead):
    """One channel, larger = farther, known up to scale and shift (paper, section 3.5).

    Args:
        in_channels: Width of the features.
        deconv_channels, conv_channels: Widths; the published models have four and two of 384.
        loss: Config of the loss.
        dropout: Channel dropout before the last layer.
    """

    fits = SiLogLoss

    def __init__(
        self,
        in_channels: int,
        deconv_channels: Sequence[int] = (384, 384, 384, 384),
        conv_channels: Sequence[int] = (384, 384),
        loss: dict | None = None,
        dropout: float = 0.1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(in_channels, 1, deconv_channels, conv_channels, dropout, init_cfg)
        # The loss takes logarithms: from 0, half the outputs would start where it is cut off and the others where its
        # gradient is extreme. Targets lie in [0, 1].
        torch.nn.init.constant_(self.final_layer.bias, 0.1)
        self.loss_module = self.build_loss(loss or dict(type='sapiens.SiLogLoss'))

    def loss(self, output: torch.Tensor, samples: list[HumanDataSample]) -> dict[str, torch.Tensor]:
        """``loss_silog`` against each image's human depth normalised to [0, 1]."""
        chosen = self.labelled(samples, 'gt_depth')
        if not chosen:
            return self.by_name(self.no_loss(output), 'loss_silog')
        pred, depth = self.at_labels(output, samples, chosen, 'gt_depth')
        valid = self.keep_people(torch.isfinite(depth) & (depth > 0), samples, chosen)
        target = normalise_depth(torch.nan_to_num(depth), valid)
        return self.by_name(self.loss_module(pred, target), 'loss_silog', len(chosen) / len(samples))

    def fields(self, values: torch.Tensor, *frame: Any) -> dict[str, torch.Tensor]:
        """``pred_depth`` (1, H, W)."""
        return {'pred_depth': map_to_original(values, *frame)}
