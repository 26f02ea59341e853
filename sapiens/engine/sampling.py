# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Training data as a function of (seed, draw number), so that a run can stop anywhere and continue the same.

The sampler numbers its draws over all processes: draw n is the same sample with the same augmentation whether one
process or eight make the global batch, and whether the run was interrupted before it. Samplers yield `Draw`, an int
that carries its number; `loaders.SeededDataset` seeds Python, numpy and torch with it while the sample is made.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from ..errors import UserError

# Draws of different epochs get different numbers, whatever the size of the data set.
_EPOCH_STRIDE = 1 << 40


class Draw(int):
    """Index of a sample that knows which draw of the training run it is."""

    number: int

    def __new__(cls, index: int, number: int) -> Draw:
        """Make the index ``index`` drawn as number ``number``."""
        draw = super().__new__(cls, index)
        draw.number = number
        return draw

    def __reduce__(self) -> tuple:
        return Draw, (int(self), self.number)


def seed_of(*keys: int) -> int:
    """A 32-bit seed that differs for different keys."""
    return int(np.random.SeedSequence([k & 0xFFFFFFFFFFFFFFFF for k in keys]).generate_state(1)[0])


def seed_all(seed: int) -> None:
    """Seed Python, numpy and torch (with every GPU)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python, numpy and torch's CPU generator, and put their states back afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class PlainOrder:
    """Which sample draw number n of a run is: a new permutation in each epoch, or the order of the data set.

    Args:
        shuffle: Permute.
    """

    def __init__(self, size: int, seed: int, shuffle: bool) -> None:
        self.size, self.seed, self.shuffle = size, seed, shuffle
        self._epoch: tuple = ()

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Index of the sample of each draw."""
        epochs, places = np.divmod(numbers, self.size)
        if not self.shuffle:
            return places
        found = np.empty_like(places)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            found[chosen] = self._permutation(int(epoch))[places[chosen]]
        return found

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._epoch[:2] != (self.seed, epoch):
            rng = np.random.default_rng([self.seed & 0xFFFFFFFFFFFFFFFF, epoch])
            self._epoch = self.seed, epoch, rng.permutation(self.size)
        return self._epoch[2]


class SeededSampler(Sampler):
    """Indices of one process, in an order that depends on seed and position only.

    Args:
        shuffle: Draw a new permutation in each epoch; else the order of the data set.
        infinite: Never end (training by iterations): epoch follows epoch. Else one epoch, whose end is padded from
            its start so that every process gets as many samples.
        order: Of the data set itself, such as `ShardOrder`; it replaces the permutation.
    """

    def __init__(self, size: int, seed: int, shuffle: bool = True, infinite: bool = False, order: Any = None) -> None:
        if size < 1:
            raise UserError('the training data set is empty; check its paths and filters')
        self.rank, self.world_size = get_dist_info()
        self.size, self.infinite = size, infinite
        self.order: Any = order or PlainOrder(size, seed, shuffle)
        self.epoch = 0
        self._skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of a finite sampler."""
        self.epoch = epoch

    def skip(self, count: int) -> None:
        """Leave out the first ``count`` draws of all processes together, in the next iteration only."""
        self._skip = count

    def __len__(self) -> int:
        return -(-self.size // self.world_size)

    def __iter__(self) -> Iterator[Draw]:
        start, self._skip = self._skip, 0
        end = None if self.infinite else len(self) * self.world_size
        while end is None or start < end:
            stop = start + 256 * self.world_size
            places = np.arange(start + self.rank, stop if end is None else min(stop, end), self.world_size)
            wanted = places if self.infinite else self.epoch * self.size + places % self.size
            first = 0 if self.infinite else self.epoch * _EPOCH_STRIDE
            yield from map(Draw, self.order(wanted).tolist(), (first + places).tolist())
            start = stop


class ResumableBatchSampler(Sampler):
    """Batches of any sampler, numbered, that can start at batch i without loading the batches before it."""

    def __init__(self, batches: Any, sampler: Any, batch_size: int) -> None:
        self.batches, self.sampler, self.batch_size = batches, sampler, batch_size
        self.rank, self.world_size = get_dist_info()
        self.epoch = 0
        self._skip: tuple[int, int] = 0, 0

    def skip(self, count: int, draws: int | None = None) -> None:
        """Leave out the first ``count`` batches, in the next iteration only.

        Args:
            draws: Samples in them over all processes, if they were not as large as those to come.
        """
        self._skip = count, count * self.batch_size * self.world_size if draws is None else draws

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        (skip, draws), self._skip = self._skip, (0, 0)
        if isinstance(self.sampler, SeededSampler):
            self.sampler.skip(draws)
            yield from self.batches
            return
        base = getattr(self.sampler, 'epoch', 0) * _EPOCH_STRIDE
        for i, batch in enumerate(self.batches):
            if i >= skip:
                first = i * self.batch_size
                yield [
                    Draw(int(index), base + (first + j) * self.world_size + self.rank) for j, index in enumerate(batch)
                ]
