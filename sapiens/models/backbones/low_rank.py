# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Low-rank adapters: finetune a large encoder with a hundredth of its parameters (LoRA, Hu et al., ICLR 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

_A, _B = '.lora_a', '.lora_b'


class LowRankLinear(nn.Linear):
    """``x W^T + b + x A^T B^T``: W and b stay as they are and keep their names, A and B learn.

    B begins at 0, so the layer begins as it was.

    Args:
        linear: The layer to adapt; its parameters are taken over.
        rank: Rows of A and columns of B.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device='meta')
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_a = nn.Parameter(linear.weight.new_empty(rank, self.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(self.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., in_features)`` -> ``(..., out_features)``."""
        return super().forward(x) + F.linear(F.linear(x, self.lora_a), self.lora_b)


def add_adapters(module: nn.Module, rank: int) -> None:
    """Adapt every linear layer in a module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, LowRankLinear(child, rank))


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name is A or B."""
    return name.endswith((_A, _B))


def merge_adapters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of plain layers that compute the same, without adapters; what has none stays as it is."""
    merged = {name: tensor for name, tensor in state.items() if not is_adapter(name)}
    for name in state:
        weight = name.removesuffix(_A) + '.weight'
        if name.endswith(_A) and weight in merged:
            a, b, w = state[name], state[name.removesuffix(_A) + _B], merged[weight]
            merged[weight] = (w.float() + b.float() @ a.float()).to(w.dtype)
    return merged
