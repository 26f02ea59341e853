# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Optimiser construction with layer-wise learning-rate decay."""

from __future__ import annotations

import copy
import re
from typing import Any

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import nn

from ..errors import UserError
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from ..utils.numbers import check_number

# Parameters that are no weight matrices although they have more than one axis.
NO_DECAY_NAMES = ('pos_embed', 'cls_token', 'mask_token')


def find_encoders(model: nn.Module) -> dict[str, Any]:
    """Vision transformers in a model: name prefix (``'backbone.'``, or ``''`` when it is one itself) -> module."""
    found = ((name, m) for name, m in model.named_modules() if isinstance(getattr(m, 'layers', None), nn.ModuleList))
    return {f'{name}.' if name else '': module for name, module in found if hasattr(module, 'patch_embed')}


def layer_id(name: str, encoders: dict[str, Any]) -> tuple[int, int]:
    """Depth of a parameter: ``(layer id, last id)``.

    The patch embedding, the position embedding and the cls token are 0, layer i of the encoder is i + 1; the final
    norm, and everything outside the encoder, is the last id, number of layers + 1.
    """
    for prefix, encoder in encoders.items():
        if not name.startswith(prefix):
            continue
        last = len(encoder.layers) + 1
        inner = name[len(prefix) :]
        layer = re.match(r'layers\.(\d+)\.', inner)
        if layer:
            return int(layer.group(1)) + 1, last
        return (0 if inner.startswith(('patch_embed.', 'pos_embed', 'cls_token', 'mask_token')) else last), last
    return 0, 0


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor:
    """Learning rate ``lr * rate ** (num_layers + 1 - layer id)``: early layers of a pretrained encoder move less.

    The number of layers is read from the encoder (any module with ``patch_embed`` and a list ``layers``). The final
    norm and the heads have scale 1. Weight decay is 0 for vectors, biases, ``pos_embed``, ``cls_token`` and
    ``mask_token``. Frozen parameters are left out. Works on a bare encoder, inside `HumanEstimator`, inside the
    models of OpenMMLab toolkits and through DDP.

    Args:
        optim_wrapper_cfg: Config of the wrapper with its ``optimizer``.
        paramwise_cfg: ``dict(layer_decay_rate=0.85)``; 1.0 turns the decay off and keeps the weight-decay rules.
            ``custom_keys`` are mmengine's: a part of a parameter's name -> ``lr_mult``, ``decay_mult``, of which the
            longest that fits multiplies what the rules give.

    Raises:
        UserError: Unknown key in ``paramwise_cfg``, a rate outside (0, 1], or a model without an encoder.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        if not isinstance(optim_wrapper_cfg, dict) or 'optimizer' not in optim_wrapper_cfg:
            raise UserError('optim_wrapper: needs a dict with `optimizer`, e.g. optimizer=dict(type="AdamW", lr=5e-4)')
        self.optim_wrapper_cfg = copy.deepcopy(dict(optim_wrapper_cfg))
        options = dict(paramwise_cfg or {})
        self.rate = options.pop('layer_decay_rate', 0.85)
        self.num_layers = options.pop('num_layers', None)
        self.custom_keys = options.pop('custom_keys', None) or {}
        # What the rules do in any case.
        same = {'norm_decay_mult': 0, 'bias_decay_mult': 0, 'flat_decay_mult': 0, 'bypass_duplicate': True}
        for key, value in options.items():
            if key not in same or value != same[key]:
                raise UserError(
                    f"optim_wrapper.paramwise_cfg: unknown key '{key}'; known: layer_decay_rate, custom_keys "
                    "(constructor='DefaultOptimWrapperConstructor' takes all of mmengine's instead)"
                )
        for key, change in self.custom_keys.items():
            # "decay_multi" stands in configs that others copy.
            if not isinstance(change, dict) or not {*change} <= {'lr_mult', 'decay_mult', 'decay_multi'}:
                raise UserError(f"optim_wrapper.paramwise_cfg.custom_keys['{key}'] is {change!r}; give "
                                'dict(lr_mult=..., decay_mult=...)')  # fmt: skip
        check_number('optim_wrapper.paramwise_cfg.layer_decay_rate', self.rate, 0, 1, above=True)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser over the trainable parameters of a model."""
        wrapper_cfg = copy.deepcopy(self.optim_wrapper_cfg)
        optimizer_cfg = wrapper_cfg.pop('optimizer')
        groups = self.param_groups(model, optimizer_cfg['lr'], optimizer_cfg.get('weight_decay', 0.0))
        optimizer = OPTIMIZERS.build({**optimizer_cfg, 'params': groups})
        return OPTIM_WRAPPERS.build({'type': 'OptimWrapper', **wrapper_cfg}, default_args=dict(optimizer=optimizer))

    def param_groups(self, model: Any, lr: float, weight_decay: float) -> list[dict]:
        """Groups of equal learning rate and weight decay, the first layers first."""
        if is_model_wrapper(model):
            model = model.module
        encoders = find_encoders(model)
        if not encoders and self.rate < 1:
            raise UserError(
                f'layer-wise decay needs an encoder with `patch_embed` and `layers`; {type(model).__name__} has none: '
                'set paramwise_cfg.layer_decay_rate=1.0'
            )
        for prefix, encoder in encoders.items():
            if self.num_layers not in (None, len(encoder.layers)):
                raise UserError(
                    f"paramwise_cfg.num_layers is {self.num_layers}, but '{prefix}' has {len(encoder.layers)} layers; "
                    'leave it out, it is read from the encoder'
                )
        groups: dict[tuple[float, int, float], dict] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            index, last = layer_id(name, encoders)
            key = max((key for key in sorted(self.custom_keys) if key in name), key=len, default='')
            change = self.custom_keys.get(key, {})
            scale = self.rate ** (last - index) * change.get('lr_mult', 1.0)
            decays = float(parameter.ndim > 1 and not name.endswith(('.bias', *NO_DECAY_NAMES)))
            decays *= change.get('decay_mult', change.get('decay_multi', 1.0))
            new = dict(params=[], param_names=[], lr_scale=scale, lr=lr * scale, weight_decay=weight_decay * decays)
            group = groups.setdefault((scale, index, decays), new)
            group['params'].append(parameter)
            group['param_names'].append(name)
        ordered = [groups[key] for key in sorted(groups)]
        print_log(
            f'{type(model).__name__}: {len(ordered)} parameter groups, learning rate '
            f'{min(g["lr"] for g in ordered):.3g} to {max(g["lr"] for g in ordered):.3g}',
            logger='current',
        )
        return ordered
