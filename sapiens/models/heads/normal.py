# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Surface normal head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ...registry import MODELS
from ...structures import HumanDataSample
from ..losses import NormalLoss
from .base import DenseHead
from .frames import map_to_original


@MODELS.register_module()
class NormalHead(DenseHead):
    """Three channels x right, y up, z towards the viewer (paper, section 3.6); raw output, normalised at inference.

    Args:
        in_channels: Width of the features.
        deconv_channels, conv_channels: Widths; the published models have three of 768 each.
        loss: Config of the loss.
        dropout: Channel dropout before the last layer.
    """

    fits = NormalLoss

    def __init__(
        self,
        in_channels: int,
        deconv_channels: Sequence[int] = (768, 768, 768),
        conv_channels: Sequence[int] = (768, 768, 768),
        loss: dict | None = None,
        dropout: float = 0.1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(in_channels, 3, deconv_channels, conv_channels, dropout, init_cfg)
        self.loss_module = self.build_loss(loss or dict(type='sapiens.NormalLoss'))

    def flip_back(self, output: torch.Tensor) -> torch.Tensor:
        """Mirror ``(B, 3, h, w)`` and negate x."""
        x, yz = output.flip(-1).split((1, 2), 1)
        return torch.cat([-x, yz], 1)

    def loss(self, output: torch.Tensor, samples: list[HumanDataSample]) -> dict[str, torch.Tensor]:
        """``loss_l1`` and ``loss_cosine`` over human pixels with a known normal."""
        chosen = self.labelled(samples, 'gt_normals')
        if not chosen:
            # The loss counts pixels over all processes: each has to ask it, also one without labels.
            nothing = torch.zeros_like(output)
            return self.by_name(self.loss_module(output, nothing, nothing[:, :1].bool()), 'loss_normal')
        pred, target = self.at_labels(output, samples, chosen, 'gt_normals')
        target = target.float()
        valid = torch.isfinite(target).all(1, keepdim=True) & (target.square().sum(1, keepdim=True) > 0.25)
        return self.by_name(self.loss_module(pred, target, self.keep_people(valid, samples, chosen)), 'loss_normal')

    def fields(self, values: torch.Tensor, *frame: Any) -> dict[str, torch.Tensor]:
        """``pred_normals`` (3, H, W), of length 1."""
        normals = map_to_original(values, *frame)
        F.normalize(normals, dim=0, out=normals)  # in place: photos may have 100 megapixels
        return {'pred_normals': normals}
