# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Position embeddings: the sin-cos initialisation and the change of grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def sincos_pos_embed(grid: tuple[int, int], channels: int, cls_token: bool = False) -> torch.Tensor:
    """Two-dimensional sin-cos position embedding; the first half of the channels encodes the row.

    Each half is ``[sin(p w), cos(p w)]`` with frequencies ``w_i = 10000 ** (-i / (channels / 4))`` and p the
    row or column number from 0. The row of the cls token, if asked for, is zero and comes first.

    Args:
        grid: ``(h, w)`` patches.
        channels: C, a multiple of 4.
        cls_token: Prepend the zero row.

    Returns:
        ``(1, h * w (+ 1), C)`` float32.

    Raises:
        ValueError: C is not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f'sin-cos embeddings need a multiple of 4 channels, not {channels}')
    frequency = 10000.0 ** (-torch.arange(channels // 4, dtype=torch.float64) / (channels / 4))

    def encode(length: int) -> torch.Tensor:
        angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    height, width = grid
    rows = encode(height)[:, None].expand(-1, width, -1)
    columns = encode(width)[None].expand(height, -1, -1)
    embedding = torch.cat([rows, columns], dim=2).reshape(1, height * width, channels)
    if cls_token:
        embedding = torch.cat([embedding.new_zeros(1, 1, channels), embedding], dim=1)
    return embedding.float()


def resize_grid(tokens: torch.Tensor, source: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
    """Resize a grid of tokens bicubically (``align_corners=False``).

    Args:
        tokens: ``(1, h * w, C)`` without cls row.
        source: ``(h, w)`` of the tokens; neither grid need be square.
        target: ``(h', w')``.

    Returns:
        ``(1, h' * w', C)`` of the same dtype; the same tensor when the grids are equal.
    """
    if tuple(source) == tuple(target):
        return tokens
    planes = tokens.float().reshape(1, *source, -1).permute(0, 3, 1, 2)
    planes = F.interpolate(planes, size=tuple(target), mode='bicubic', align_corners=False)
    return planes.flatten(2).transpose(1, 2).to(tokens.dtype)
