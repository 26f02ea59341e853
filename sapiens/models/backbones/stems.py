# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From pixels to tokens: the projection of patches, and a convolutional stem that small encoders learn faster with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


def whole_patches(x: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Images ``(B, 3, H, W)`` whose sides are padded, right and bottom, up to multiples of the patch."""
    bottom, right = (-n % patch_size for n in x.shape[-2:])
    return F.pad(x, (0, right, 0, bottom)) if bottom or right else x


class PatchEmbed(nn.Module):
    """Non-overlapping patches by one convolution.

    Args:
        channels: C.
        patch_size: Side of a patch in pixels, and the stride.
        padding: 0 pads right and bottom up to a multiple of the patch where needed; 2 pads every side by two
            pixels as some published models do. It is invisible in the weights, so it travels in the config.
    """

    sees_neighbours = False

    def __init__(self, channels: int, patch_size: int, padding: int) -> None:
        super().__init__()
        self.patch_size, self.padding = patch_size, padding
        self.projection = nn.Conv2d(3, channels, patch_size, stride=patch_size, padding=padding)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """``(h, w)`` patches of an image of ``(H, W)`` pixels."""
        if self.padding:
            return tuple((n + 2 * self.padding - self.patch_size) // self.patch_size + 1 for n in size)
        return tuple(-(-n // self.patch_size) for n in size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, 3, H, W)`` -> ``(B, h * w, C)``."""
        if not self.padding:
            x = whole_patches(x, self.patch_size)
        return self.projection(x).flatten(2).transpose(1, 2)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of ``(B, C, H, W)``; fast where channels lie last in memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise; the shape stays."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Four 3 x 3 convolutions of stride 2, each with `ChannelNorm` and SiLU, then a 1 x 1 projection (stride 16).

    Early convolutions instead of one large patch projection follow Xiao et al., NeurIPS 2021. Channels lie last in
    memory from here on: convolutions in bf16 then take half the time on a CPU, and tokens are a view of the maps.

    Args:
        channels: C of the tokens.
        widths: Channels of the four convolutions.
    """

    patch_size, padding = 16, 0
    sees_neighbours = True  # a token depends on pixels of other patches

    def __init__(self, channels: int, widths: Sequence[int] = (24, 48, 96, 192)) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                ChannelNorm(after, eps=1e-6),
                nn.SiLU(inplace=True),
            )
            for before, after in pairwise((3, *self.widths))
        )
        self.projection = nn.Conv2d(self.widths[-1], channels, 1)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """``(h, w)`` tokens of an image of ``(H, W)`` pixels."""
        return tuple(-(-n // self.patch_size) for n in size)

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Outputs of the stages, at strides 2, 4, 8 and 16; sides are padded up to a multiple of 16."""
        x = whole_patches(x, self.patch_size).contiguous(memory_format=torch.channels_last)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def tokens(self, last: torch.Tensor) -> torch.Tensor:
        """Output of the last stage -> tokens ``(B, h * w, C)``."""
        return self.projection(last).flatten(2).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, 3, H, W)`` -> ``(B, h * w, C)``."""
        return self.tokens(self.maps(x)[-1])
