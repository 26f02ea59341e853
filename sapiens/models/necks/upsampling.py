# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One upsampling path that all heads share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from mmengine.model import BaseModule
from torch import nn

from ...registry import MODELS
from ..backbones.stems import ChannelNorm


@MODELS.register_module()
class UpsamplingNeck(BaseModule):
    """Features at stride 16 -> features at stride 4, by two deconvolutions with additions from a `ConvStem`.

    Four heads of their own deconvolutions cost more than a small encoder; with this neck a head is one or two 1 x 1
    convolutions. The stem's maps bring back edges that the tokens have lost.

    Args:
        in_channels: Width of the last features; the estimator fills it in.
        skip_channels: Widths of the stem's maps at strides 4 and 8; the estimator fills them in.
        channels: Widths after the first and the second deconvolution.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: Sequence[int],
        channels: Sequence[int] = (128, 128),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.out_channels, self.upsampling = channels[-1], 2 ** len(channels)
        self.deconv_layers = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
            for before, after in pairwise((in_channels, *channels))
        )
        self.skip_layers = nn.ModuleList(
            nn.Conv2d(skip, after, 1, bias=False) for skip, after in zip(skip_channels[::-1], channels, strict=True)
        )
        self.activations = nn.ModuleList(
            nn.Sequential(ChannelNorm(width, eps=1e-6), nn.SiLU(inplace=True)) for width in channels
        )

    def forward(self, feats: Sequence[torch.Tensor]) -> tuple[torch.Tensor]:
        """Maps at strides 4, 8 and 16 -> one map ``(B, out_channels, H / 4, W / 4)``."""
        *skips, x = feats
        for deconv, skip, activation, early in zip(
            self.deconv_layers, self.skip_layers, self.activations, skips[::-1], strict=True
        ):
            x = activation(deconv(x) + skip(early))
        return (x,)
