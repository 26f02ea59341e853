# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Live memory of tensors while code runs, for real tensors and for fake ones that have no memory."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, from their making until nothing holds them any more.

    What a kernel allocates for itself and gives back, and the gaps of a caching allocator, are not seen.

    Attributes:
        now, peak: Bytes.
        by_part: Part (see `part`) -> bytes that are alive now.
        at_peak: ``by_part`` when ``now`` was largest.
        part: Name that new storages are counted under.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.by_part: dict[str, int] = {}
        self.at_peak: dict[str, int] = {}
        self.part = 'other'
        self._known: set[int] = set()

    def add(self, tensors: Any, part: str | None = None) -> None:
        """Count the storages of tensors that exist already."""
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage(), part or self.part)

    def _count(self, storage: torch.UntypedStorage, part: str) -> None:
        key = storage._cdata
        if key in self._known or not storage.nbytes():
            return
        self._known.add(key)
        size = storage.nbytes()
        self._change(size, part)
        weakref.finalize(storage, self._forget, key, size, part)

    def _forget(self, key: int, size: int, part: str) -> None:
        self._known.discard(key)
        self._change(-size, part)

    def _change(self, size: int, part: str) -> None:
        self.now += size
        self.by_part[part] = self.by_part.get(part, 0) + size
        if self.now > self.peak:
            self.peak, self.at_peak = self.now, dict(self.by_part)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run the operation and count what it made."""
        result = func(*args, **(kwargs or {}))
        self.add(result)
        return result
