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

aten = torch.ops.aten
# What the paper counts beside LayerNorm: one operation per multiply-add, of which the counter sees two.
_PRODUCTS = (aten.mm, aten.addmm, aten.convolution)


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, frozen ones included."""
    return sum(p.numel() for p in module.parameters())


def count_flops(model: nn.Module, shape: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Count the operations of one image's forward pass.

    Args:
        model: An estimator or MAE model whose parameters are on the meta device.
        shape: ``(H, W)`` of the input.

    Returns:
        Module name (``'whole'``, ``'backbone'``, ``'heads.pose'``, ``'neck'`` or ``'decoder'``) -> (operations by
        the paper's convention, true operations: two per multiply-add, attention included).
    """
    names = ['backbone', *(f'heads.{task}' for task in getattr(model, 'heads', {}))]
    paths = {name: f'{type(model).__name__}.{name}' for name in names}
    if getattr(model, 'neck', None) is not None:
        paths['decoder' if isinstance(model, MAEPretrainer) else 'neck'] = f'{type(model).__name__}.neck'
    training = model.training
    model.eval()
    try:
        # 5 operations per element (Table 2).
        norms = {aten.native_layer_norm: lambda shape, *_, **__: 5 * math.prod(shape)}
        with FlopCounterMode(display=False, custom_mapping=norms) as counter, torch.no_grad():
            model(torch.empty(1, 3, *shape, device='meta'))
    finally:
        model.train(training)
    found = {}
    for name, path in {**paths, 'whole': 'Global'}.items():
        operations = counter.get_flop_counts().get(path, {})
        extra = operations.pop(aten.native_layer_norm, 0)
        products = sum(operations.get(kind, 0) for kind in _PRODUCTS)
        found[name] = products // 2 + extra, sum(operations.values())
    return found


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
