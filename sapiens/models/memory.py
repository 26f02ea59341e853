# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Live memory of tensors while code runs, for real tensors and for fake ones that have no memory."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, from their making until nothing holds them any more.

    What a kernel allocates for itself and gives back, and the gaps of a caching allocator, are not seen.

    Args:
        shares: Part -> factor on its bytes (parts of a sharded model); 1 for parts that are not named.

    Attributes:
        now, peak: Bytes.
        by_part: Part -> bytes that are alive now.
        at_peak: ``by_part`` when ``now`` was largest.
        part: Name that new storages are counted under.
    """

    def __init__(self, shares: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.shares = dict(shares or {})
        self.now = self.peak = 0.0
        self.by_part: dict[str, float] = {}
        self.at_peak: dict[str, float] = {}
        self.part = 'other'
        self._parts: dict[int, tuple[str, int]] = {}

    def add(self, tensors: Any, part: str | None = None) -> None:
        """Count storages under a part, also those that exist already or were counted under another."""
        for tensor in tree_leaves(tensors):
            if not isinstance(tensor, torch.Tensor) or not tensor.untyped_storage().nbytes():
                continue
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in self._parts:
                weakref.finalize(storage, self._forget, key)
            elif part is None:
                continue
            else:
                self._change(*self._parts[key], -1)
            self._parts[key] = part or self.part, size
            self._change(*self._parts[key], 1)

    def part_of(self, tensor: torch.Tensor) -> str | None:
        """The part that a tensor is counted under."""
        return self._parts.get(tensor.untyped_storage()._cdata, (None,))[0]

    def _forget(self, key: int) -> None:
        self._change(*self._parts.pop(key), -1)

    def _change(self, part: str, size: int, sign: int) -> None:
        size *= sign * self.shares.get(part, 1.0)
        self.now += size
        self.by_part[part] = self.by_part.get(part, 0.0) + size
        if self.now > self.peak:
            self.peak, self.at_peak = self.now, dict(self.by_part)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run the operation and count what it made."""
        result = func(*args, **(kwargs or {}))
        cast = func is torch.ops.aten._to_copy.default and self.part_of(args[0]) == 'parameters'
        self.add(result, 'weights in half precision' if cast and self.part_of(result) is None else None)
        return result

    def watch(self, model: nn.Module) -> ExitStack:
        """Count parameters, gradients and, while the result is open, what each of the modules with a name makes.

        Args:
            model: Its children are the parts, those of lists (layers, heads) one by one.
        """
        self.add([*model.parameters()], 'parameters')
        self.add([*model.buffers()], 'buffers')
        handles, outer = ExitStack(), list[str]()

        def enter(name: str, *_: Any) -> None:
            outer.append(self.part)
            self.part = name

        def leave(*_: Any) -> None:
            self.part = outer.pop()

        for name, module in model.named_modules():
            listed = isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.Sequential))
            if name and not listed and name.count('.') < 3:
                handles.callback(module.register_forward_pre_hook(partial(enter, name)).remove)
                handles.callback(module.register_forward_hook(leave, always_call=True).remove)
        for parameter in model.parameters():
            if parameter.requires_grad:
                hook = parameter.register_post_accumulate_grad_hook(lambda p: self.add(p.grad, 'gradients'))
                handles.callback(hook.remove)
        return handles
