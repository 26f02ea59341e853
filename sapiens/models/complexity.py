# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Parameters and floating-point operations of a model, counted on the meta device."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..structures import HumanDataSample
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


def count_training_flops(model: nn.Module, shape: tuple[int, int] | None = None) -> int:
    """True operations of one image's forward and backward pass, two per multiply-add, attention included.

    What frozen layers save is saved; what checkpointing computes again does not count.

    Args:
        model: An estimator or MAE model whose parameters are on the meta device; its gradients are lost.
        shape: ``(H, W)`` of the input; the backbone's by default.
    """
    again = {module: module.with_cp for module in model.modules() if getattr(module, 'with_cp', False)}
    for module in again:
        module.with_cp = False
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        data = model.to('meta').train().data_preprocessor(example_batch(model, 1, shape), True)
        model.parse_losses(model(**data, mode='loss'))[0].backward()
    for module, policy in again.items():
        module.with_cp = policy
    model.zero_grad()
    return counter.get_total_flops()


def example_batch(model: nn.Module, batch_size: int = 1, shape: tuple[int, int] | None = None) -> dict[str, Any]:
    """A collated batch of ones, with every label that the heads look at, on the device of the context.

    Args:
        model: An estimator or MAE model.
        batch_size: Images.
        shape: ``(H, W)``; the backbone's by default.
    """
    height, width = shape or model.backbone.img_size
    heads = getattr(model, 'heads', {})
    samples = []
    for _ in range(batch_size):
        sample = HumanDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(height, width)))
        if 'pose' in heads:
            count = heads['pose'].out_channels
            sample.gt_keypoints, sample.gt_keypoints_visible = torch.ones(count, 2), torch.ones(count)
        if 'seg' in heads:
            sample.gt_part_map = torch.ones(height, width, dtype=torch.uint8)
        if 'depth' in heads:
            sample.gt_depth = torch.ones(1, height, width)
        if 'normal' in heads:
            sample.gt_normals = torch.ones(3, height, width)
        if 'depth' in heads or 'normal' in heads:
            sample.gt_mask = torch.ones(1, height, width, dtype=torch.bool)
        if any(getattr(head, 'makes_boxes', False) for head in heads.values()):
            sample.gt_boxes = torch.ones(2, 4)
        samples.append(sample)
    return {'inputs': torch.ones(batch_size, 3, height, width, dtype=torch.uint8), 'data_samples': samples}
