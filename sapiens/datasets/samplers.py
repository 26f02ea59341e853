# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A sampler under which a resumed run draws what the uninterrupted run would have drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from ..registry import DATA_SAMPLERS


class SeededIndex(int):
    """An index that carries the seed of its augmentation; to everything else it is an int."""

    seed: int

    def __new__(cls, index: int, seed: int) -> SeededIndex:
        """Make an index with a seed."""
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __reduce__(self) -> tuple:
        return SeededIndex, (int(self), self.seed)


@DATA_SAMPLERS.register_module()
class SeededSampler(Sampler):
    """Endless or per-epoch sampling in which order *and* augmentation depend on nothing but the seed and the position.

    Epoch ``e`` is a permutation drawn from ``seed + e``; the sample at global position ``p`` is augmented from
    a seed made of ``seed`` and ``p``, whichever worker or process loads it. So the number of workers does not change
    a run, N processes see the same samples as one process with N times the batch, and `set_start` continues a
    killed run at the sample it had reached.

    Args:
        dataset: Anything with a length.
        shuffle: Whether to permute; else every epoch runs in order.
        seed: Drawn and shared between processes when None.
        infinite: Endless, for iteration-based loops; else one epoch at a time (`set_epoch`).
        round_up: With ``infinite=False``: repeat samples so that all processes get equally many.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        infinite: bool = False,
        round_up: bool = True,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size, self.shuffle = len(dataset), shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.infinite, self.round_up = infinite, round_up
        self.epoch, self.start = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass (mmengine's loops call this)."""
        self.epoch = epoch

    def set_start(self, position: int) -> None:
        """Skip samples: the next pass begins at this global position, counted over all processes from the very start.

        With epochs, ``position`` counts from the start of the epoch that `set_epoch` chose.
        """
        self.start = position

    def __iter__(self) -> Iterator[SeededIndex]:
        start, self.start = self.start, 0
        # Each process takes every world_size-th position.
        first = start + (self.rank - start) % self.world_size
        if self.infinite:
            return self._from(first, None)
        offset = self.epoch * self._epoch_length()
        return self._from(offset + first, offset + self._epoch_length())

    def __len__(self) -> int:
        """Samples of this process in an epoch."""
        if self.round_up:
            return -(-self.size // self.world_size)
        return len(range(self.rank, self.size, self.world_size))

    def _epoch_length(self) -> int:
        return len(self) * self.world_size if self.round_up and not self.infinite else self.size

    def _from(self, position: int, end: int | None) -> Iterator[SeededIndex]:
        length, epoch, order = self._epoch_length(), -1, []
        while end is None or position < end:
            if position // length != epoch:
                epoch = position // length
                order = self._order(epoch)
            seed = (self.seed * 0x9E3779B97F4A7C15 + position * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
            yield SeededIndex(order[position % length % self.size], (seed ^ seed >> 31) % 2**32)
            position += self.world_size

    def _order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed(self.seed + epoch)
        return torch.randperm(self.size, generator=generator).tolist()
