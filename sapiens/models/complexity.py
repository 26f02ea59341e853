# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Parameters and floating-point operations of a model, counted on the meta device."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .pretrain import MAEPretrainer

_PATHS = {'decoder': 'neck'}


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, frozen ones included."""
    return sum(p.numel() for p in module.parameters())


def _paper_flops(module: nn.Module, output: torch.Tensor) -> int:
    """One operation per multiply-add of linear and convolution layers, 5 per LayerNorm element (Table 2)."""
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    if isinstance(module, nn.ConvTranspose2d):
        # Every input pixel meets the whole kernel: count by the input's size, the output being stride times larger.
        pixels = output[:, 0].numel() // math.prod(module.stride)
        return pixels * module.in_channels * module.out_channels * math.prod(module.kernel_size)
    if isinstance(module, nn.Conv2d):
        return output.numel() * module.in_channels // module.groups * math.prod(module.kernel_size)
    if isinstance(module, nn.LayerNorm):
        return 5 * output.numel()
    return 0


def count_flops(model: nn.Module, shape: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Count the operations of one image's forward pass.

    Args:
        model: An estimator or MAE model whose parameters are on the meta device.
        shape: ``(H, W)`` of the input.

    Returns:
        Module name (``'whole'``, ``'backbone'``, ``'heads.pose'``, ``'neck'`` or ``'decoder'``) -> (operations by
        the paper's convention, true operations: two per multiply-add, attention included).
    """
    names = {'backbone': model.backbone}
    names |= {f'heads.{task}': head for task, head in getattr(model, 'heads', {}).items()}
    if getattr(model, 'neck', None) is not None:
        names['decoder' if isinstance(model, MAEPretrainer) else 'neck'] = model.neck
    paper = dict.fromkeys([*names, 'whole'], 0)
    handles = []

    def watch(module: nn.Module, keys: list[str]) -> None:
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            for key in keys:
                paper[key] += _paper_flops(module, output)

        handles.append(module.register_forward_hook(hook))

    for path, module in model.named_modules():
        if not list(module.children()):
            inside = [key for key in names if path.startswith(_PATHS.get(key, key) + '.')]
            watch(module, ['whole', *inside])
    training = model.training
    model.eval()
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, *shape, device='meta'))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    counts = {key: sum(ops.values()) for key, ops in counter.get_flop_counts().items()}
    root, total = type(model).__name__, counter.get_total_flops()
    true = {key: counts.get(f'{root}.{_PATHS.get(key, key)}', 0) for key in names} | {'whole': total}
    return {key: (paper[key], true[key]) for key in paper}
