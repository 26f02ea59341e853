# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""How much memory a config needs, found by running one step on tensors that have shapes but no memory."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from mmengine.config import Config
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..errors import UserError
from ..models.backbones import transformer
from ..models.complexity import example_batch
from ..models.memory import LiveMemory
from ..registry import MODELS, OPTIMIZERS
from .precision import NAMES, Precision
from .sharding import repeated_layers

CONTEXT = 0.6 * 2**30
"""What a CUDA context, its kernels and the libraries' workspaces take before the first tensor."""

_STATE = ('parameters', 'gradients', 'optimiser', 'weights in half precision')


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that one step needs on each device.

    Attributes:
        parts: ``'parameters'``, ``'gradients'``, ``'optimiser'``, ``'weights in half precision'`` (autocast's copies),
            ``'gathered'`` (whole layers of a sharded model), ``'activations'``: what is alive when most is.
        layers: Module -> bytes that its forward pass leaves for the backward pass.
        trainable, total: Numbers of parameters.
    """

    parts: dict[str, float]
    layers: dict[str, float]
    trainable: int
    total: int

    @property
    def peak(self) -> float:
        """Sum of the parts."""
        return sum(self.parts.values())


def estimate_memory(
    config: Mapping[str, Any] | Config,
    batch_size: int = 1,
    training: bool = True,
    dtype: str = 'bf16',
    fsdp: int = 1,
    shape: tuple[int, int] | None = None,
    device: str = 'cuda',
) -> MemoryEstimate:
    """Run a step of a config's model without memory or time, and count what is alive.

    The step is the real one: what autograd keeps, what checkpointing drops and what a loss makes are counted, not
    guessed. Workspaces inside kernels and the gaps of the allocator come on top (a tenth is usual); of inference, the
    network alone counts, not the maps in the size of the photo.

    Args:
        config: With ``model`` and, for training, ``optim_wrapper``.
        batch_size: Images on each device.
        training: A training step, else a forward pass for inference.
        dtype: ``'bf16'``, ``'fp16'`` or ``'fp32'``.
        fsdp: Devices that share parameters, gradients and optimiser.
        shape: ``(H, W)`` of the images; the config's by default.
        device: ``'cpu'`` counts what this toolkit does otherwise on CPUs.

    Raises:
        UserError: The config has no model.
    """
    if config.get('model') is None:
        raise UserError('this config has no model')
    precision = Precision(NAMES[dtype], 'cpu')
    few = transformer.FEW_TOKENS if device == 'cpu' else -1
    with torch.device('meta'):
        model = MODELS.build(config['model']).train(training)
        if not training:
            getattr(model, 'set_precision', model.to)(precision.dtype)
    total = sum(p.numel() for p in model.parameters())
    shares = dict.fromkeys(('parameters', 'gradients', 'optimiser'), 1 / fsdp)
    # Sharded parameters arrive in half precision; nothing else keeps a copy of them.
    memory = LiveMemory({**shares, **({'weights in half precision': 0.0} if fsdp > 1 else {})})
    gc.collect()
    with FakeTensorMode(allow_non_fake_inputs=True), patch.object(transformer, 'FEW_TOKENS', few):
        model.to_empty(device='cpu')
        data, layers = example_batch(model, batch_size, shape), {}
        with memory.watch(model), memory:
            if training:
                layers = _training_step(model, data, config.get('optim_wrapper'), memory, precision)
            else:
                with torch.no_grad():
                    model(model.data_preprocessor({'inputs': data['inputs']}, False)['inputs'].to(precision.dtype))
    parts = {name: memory.at_peak[name] for name in _STATE if memory.at_peak.get(name)}
    parts['activations'] = memory.peak - sum(parts.values())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad) if training else 0
    if fsdp > 1:
        parts['gathered'] = _gathered(model, precision, training)
    return MemoryEstimate(parts, layers, trainable, total)


def _training_step(
    model: Any, data: dict, wrapper: Mapping | None, memory: LiveMemory, precision: Precision
) -> dict[str, float]:
    """Run it; what each module left for the backward pass."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # The state exists from the second step on, when gradients and activations come on top of it.
    state = torch.empty(int(trainable * _state_bytes(wrapper)), dtype=torch.uint8)
    memory.add(state, 'optimiser')
    with precision.autocast():
        data = model.data_preprocessor(data, True)  # alive until the end, as in training
        total, _ = model.parse_losses(model(**data, mode='loss'))
    layers = {name: size for name, size in memory.by_part.items() if name not in _STATE and size > 0}
    memory.part = 'backward'
    total.backward()
    return layers


def _state_bytes(wrapper: Mapping | None) -> float:
    """Bytes an optimiser keeps for each parameter, from a step of it with a small one."""
    optimizer = (wrapper or {}).get('optimizer') or dict(type='AdamW', lr=1e-3)
    parameter = nn.Parameter(torch.ones(1024))
    parameter.grad = torch.ones(1024)
    built = OPTIMIZERS.build({**optimizer, 'params': [parameter]})
    built.step()
    kept = [v for v in built.state[parameter].values() if torch.is_tensor(v) and v.numel() >= parameter.numel()]
    return sum(v.numel() * v.element_size() for v in kept) / parameter.numel()


def _gathered(model: nn.Module, precision: Precision, training: bool) -> float:
    """Whole parameters that a sharded step holds: those outside the layers, and three layers, one of them with its
    gradients in float32: the one at work, the next one on its way, and the buffer that it travels in.
    """
    layers = [sum(p.numel() for p in layer.parameters()) for layer in repeated_layers(model)]
    rest = sum(p.numel() for p in model.parameters()) - sum(layers)
    width = precision.dtype.itemsize
    return 4.0 * rest + max(layers, default=0) * (3 * width + 4 * training)
