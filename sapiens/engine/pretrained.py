# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""``init_cfg=dict(type='Pretrained', checkpoint=...)`` with coverage checks and without unpickling."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.logging import print_log
from torch import nn

from ..registry import WEIGHT_INITIALIZERS
from .checkpoint import load_model_weights, read_checkpoint


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class PretrainedInit:
    """Initialise a module from a checkpoint; an encoder must be covered completely.

    It takes the place of mmengine's initialiser of this name where the default scope is ``sapiens``; write
    ``type='sapiens.Pretrained'`` in the config of another toolkit.

    Args:
        checkpoint: File, see `sapiens.engine.checkpoint.read_checkpoint`.
        prefix: Take only the parameters under this prefix, e.g. ``'backbone.'`` (which is found by itself).
        map_location: Not used; files are read on the CPU.
        skip: Prefix or prefixes of parameters to leave at their initial values.
    """

    def __init__(
        self, checkpoint: str, prefix: str | None = None, map_location: str = 'cpu', skip: str | Sequence[str] = ()
    ) -> None:
        self.checkpoint, self.prefix, self.skip = checkpoint, prefix, skip

    def __call__(self, module: nn.Module) -> None:
        """Load into a module."""
        state, meta = read_checkpoint(self.checkpoint)
        if self.prefix:
            prefix = self.prefix.rstrip('.') + '.'
            state = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        report = load_model_weights(
            module, state, allow_partial=True, skip=self.skip, meta=meta, source=str(self.checkpoint)
        )
        print_log(str(report), logger='current')
        if hasattr(module, '_params_init_info'):
            from mmengine.model import update_init_info

            update_init_info(module, init_info=f'{type(self).__name__}: {self.checkpoint}')
