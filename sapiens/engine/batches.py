# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Batches, and their way from the processes that read to the one that trains."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

_ALIGNED = 64
"""Bytes at multiples of which a tensor begins."""


class Batch(dict):
    """A collated batch; ``skipped`` are the index and the fault of each sample that was replaced to make it.

    It goes to another process as one piece of shared memory: torch opens a file and a connection for each tensor, and
    a batch of samples has thousands of them. What arrives lies in pinned memory if ``pinned``.
    """

    skipped: Sequence[tuple[int, str]] = ()
    pinned = False

    def __copy__(self) -> Batch:
        return _filled(self, self.__dict__)

    def __reduce__(self) -> tuple:
        buffers: list[pickle.PickleBuffer] = []
        stream = io.BytesIO()
        _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump((dict(self), self.__dict__))
        arrays = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
        sizes = [len(array) for array in arrays]
        storage = torch.UntypedStorage._new_shared(max(sum(map(_space, sizes)), 1))
        memory = torch.empty(0, dtype=torch.uint8).set_(storage)
        for place, array in zip(_places(memory, sizes), arrays, strict=True):
            place[:] = array
        return _arrive, (memory, sizes, self.pinned, stream.getvalue())


def _space(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _places(memory: torch.Tensor, sizes: Sequence[int]) -> list[np.ndarray]:
    """Where things of so many bytes lie."""
    whole, start, places = memory.numpy(), 0, []
    for size in sizes:
        places.append(whole[start : start + size])
        start += _space(size)
    return places


def _arrive(memory: torch.Tensor, sizes: Sequence[int], pinned: bool, data: bytes) -> Batch:
    if pinned and torch.cuda.is_available():
        memory = memory.pin_memory()
    return _filled(*pickle.loads(data, buffers=_places(memory, sizes)))


def _filled(content: dict, attributes: dict) -> Batch:
    batch = Batch(content)
    batch.__dict__.update(attributes)
    return batch


class _Pickler(pickle.Pickler):
    """Tensors as arrays of numpy, whose memory stays beside the pickle."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is torch.Tensor and value.layout == torch.strided and not value.requires_grad:
            try:
                return torch.from_numpy, (value.contiguous().numpy(),)
            except TypeError:  # numpy has no such numbers: bfloat16
                pass
        return NotImplemented


class Collate:
    """Makes a `Batch` of samples; it works where the data set reads, in a worker process say.

    Args:
        dataset: Whose ``skipped`` samples are told, if it has them.
        function: Makes the batch; of one that is no dict, skipped samples are logged at once instead.
        pinned: See `Batch`.
    """

    def __init__(self, dataset: Any, function: Callable[[list], Any], pinned: bool = False) -> None:
        self.dataset, self.function, self.pinned = dataset, function, pinned

    def __call__(self, samples: list) -> Any:
        """Collate."""
        batch, skipped = self.function(samples), getattr(self.dataset, 'skipped', ())
        if skipped:
            self.dataset.skipped = []
        if isinstance(batch, dict):
            batch = Batch(batch)
            batch.skipped, batch.pinned = tuple(skipped), self.pinned
        else:
            for index, reason in skipped:
                print_log(f'Sample {index} skipped: {reason}', logger='current', level=logging.WARNING)
        return batch
