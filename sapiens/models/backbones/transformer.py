# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The pre-norm transformer block that the encoder and the MAE decoder share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..randomness import DropPath

FEW_TOKENS = 512
"""Up to this many tokens a CPU trains with attention written out; its maps then still fit the caches."""


class Attention(nn.Module):
    """Multi-head self-attention by ``scaled_dot_product_attention``.

    Args:
        channels: C, a multiple of ``num_heads``.
        num_heads: Number of heads.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f'{channels} channels cannot be split into {num_heads} heads')
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, N, C)`` -> ``(B, N, C)``."""
        batch, tokens, channels = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, channels // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if x.device.type == 'cpu' and torch.is_grad_enabled() and tokens <= FEW_TOKENS:
            # PyTorch's fused kernel takes 2 to 4 times as long on a CPU as three plain products, most of it backward.
            x = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1) @ value
        else:
            x = F.scaled_dot_product_attention(query, key, value)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, channels))


class FFN(nn.Module):
    """Linear, exact GELU, linear; the nesting keeps the published parameter names."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Sequential(nn.Linear(channels, hidden_channels), nn.GELU()), nn.Linear(hidden_channels, channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., C)`` -> ``(..., C)``."""
        return self.layers(x)


class TransformerLayer(nn.Module):
    """``x + attn(ln1(x))``, then ``x + ffn(ln2(x))``.

    Args:
        channels: C.
        num_heads: Number of attention heads.
        feedforward_channels: Width of the hidden layer of the FFN.
        drop_path_rate: Probability of dropping each residual branch.
    """

    def __init__(self, channels: int, num_heads: int, feedforward_channels: int, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = Attention(channels, num_heads)
        self.ln2 = nn.LayerNorm(channels, eps=1e-6)
        self.ffn = FFN(channels, feedforward_channels)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, N, C)`` -> ``(B, N, C)``."""
        x = x + self.drop_path(self.attn(self.ln1(x)))
        return x + self.drop_path(self.ffn(self.ln2(x)))


def run_layer(layer: nn.Module, tokens: torch.Tensor, index: int, with_cp: bool | int) -> torch.Tensor:
    """Tokens ``(B, N, C)`` behind a layer, which ``with_cp`` (n: every n-th) recomputes in the backward pass."""
    if with_cp and index % with_cp == 0 and tokens.requires_grad:
        return checkpoint(layer, tokens, use_reentrant=False)
    return layer(tokens)


def init_transformer_weights(module: nn.Module) -> None:
    """Initialise linear layers as MAE does: Xavier uniform weights, zero biases; norms at identity."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
