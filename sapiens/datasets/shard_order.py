# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The order in which training draws images from shards, as a function of (seed, number of the draw).

Shards are permuted in every epoch and laid end to end; the line is cut into equal *lanes*, and each lane is read from
its beginning to its end, shuffled within chunks of some dozens of images. A batch takes its samples from several
lanes in turn, and the next batch from the next group of lanes, so that the lanes of a loader's worker are its own: it
reads a few shards one after another. Nothing is kept between draws, so any process can compute any part of the order,
and memory grows with the shards (some bytes each), not with the images.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

_PERIOD = 256  # draws of a lane in which every source gets its share exactly


class ShardOrder:
    """Which image draw number n of a run is; every epoch holds each image once.

    Args:
        counts: Images in each shard.
        batch: Samples of a step over all processes.
        lanes: ``(C, P)``: a batch takes its samples from C lanes, and batches go round P groups of lanes. Workers share
            no lane when the number of processes divides C, and that of the workers of a process divides P.
        chunk: Images that are read at once and shuffled among each other.
        sources: Number of the source that each shard belongs to.
        weights: Share of the draws that each source gets; None: as many as it has images. With weights, an epoch of a
            source ends when each of its images has been drawn, whatever the others do.
    """

    def __init__(
        self,
        counts: Sequence[int],
        seed: int,
        batch: int,
        lanes: tuple[int, int],
        chunk: int = 64,
        sources: Sequence[int] | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.seed, self.chunk, self.size = seed, chunk, int(np.sum(counts))
        counts = np.asarray(counts, np.int64)
        owner = np.zeros(len(counts), np.int64) if sources is None or weights is None else np.asarray(sources)
        self._begin = np.cumsum(counts) - counts
        self._counts, self._shards = counts, [np.flatnonzero(owner == k) for k in range(owner.max() + 1)]
        self._sizes = [int(counts[shards].sum()) for shards in self._shards]
        share = np.ones(1) if len(self._sizes) == 1 else np.asarray(weights, float)
        self._quota = np.diff(np.rint(np.cumsum([0, *share / share.sum()]) * _PERIOD).astype(np.int64))
        self._epochs: OrderedDict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self.layout = {'batch': batch, 'lanes': list(lanes)}

    @property
    def layout(self) -> dict:
        """What the order depends on beside data and seed; a run that is continued on other machines keeps it."""
        return {'batch': self._batch, 'lanes': list(self._lanes)}

    @layout.setter
    def layout(self, layout: dict) -> None:
        self._batch = layout['batch']
        full, rest = divmod(self.size, self._batch)
        for columns, groups in (layout['lanes'], (1, 1)):
            self._lanes = columns, groups
            cells = np.arange(columns * groups)
            self._per_batch = _every(self._batch, cells % columns, columns)
            visits = _every(full, cells // columns, groups) * self._per_batch
            visits += np.where(full % groups == cells // columns, _every(rest, cells % columns, columns), 0)
            self._visits = visits
            # Lane i of source k is the images [cuts[k][i], cuts[k][i + 1]) of its line of shards.
            cuts = np.cumsum([0, *visits]) / self.size
            self._cuts = [np.rint(cuts * size).astype(np.int64) for size in self._sizes]
            # Not with lanes of less than two images on average, nor with one that is drawn from and has none.
            none = any((np.diff(cut)[visits > 0] == 0).any() for cut in self._cuts)
            if len(cells) * 2 <= min(self._sizes) and not none:
                break

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Index of the image of each draw, counted over the shards in the order of ``counts``.

        Args:
            numbers: ``(N,)`` int64, numbers of draws from 0 on.
        """
        columns, groups = self._lanes
        epoch, place = np.divmod(np.asarray(numbers, np.int64), self.size)
        batch, slot = np.divmod(place, self._batch)
        lane = batch % groups * columns + slot % columns
        # How often the lane has been drawn from before, in all epochs.
        turn = epoch * self._visits[lane] + batch // groups * self._per_batch[lane] + slot // columns
        if len(self._sizes) == 1:
            return self._images(0, lane, turn)
        source, turn = self._choose(lane, turn)
        images = np.empty_like(turn)
        for k in np.unique(source):
            chosen = source == k
            images[chosen] = self._images(k, lane[chosen], turn[chosen])
        return images

    def _choose(self, lane: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source of each turn of a lane, and how many turns of the lane that source had before."""
        period, step = np.divmod(turn, _PERIOD)
        keys, rows = np.unique(np.stack([lane, period]), axis=1, return_inverse=True)
        rows = rows.reshape(-1)
        places = self._shuffled(1, keys[0], keys[1], _PERIOD)
        sources = np.searchsorted(np.cumsum(self._quota), places, side='right')
        before = np.empty_like(places)
        for k in range(len(self._quota)):
            mine = sources == k
            before[mine] = (np.cumsum(mine, axis=1) - 1)[mine]
        source = sources[rows, step]
        return source, period * self._quota[source] + before[rows, step]

    def _images(self, k: int, lane: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """Images that are ``turn`` draws from the beginning of a lane of source k."""
        start = self._cuts[k][lane]
        epoch, place = np.divmod(turn, self._cuts[k][lane + 1] - start)
        images = np.empty_like(turn)
        for number in np.unique(epoch):
            chosen = epoch == number
            images[chosen] = self._in_epoch(k, int(number), lane[chosen], (start + place)[chosen])
        return images

    def _in_epoch(self, k: int, epoch: int, lane: np.ndarray, position: np.ndarray) -> np.ndarray:
        shards, ends = self._line(k, epoch)
        at = np.searchsorted(ends, position, side='right')
        shard = shards[at]
        origin = ends[at] - self._counts[shard]
        # The chunk of the shard, as far as it lies in the lane, and the place in it.
        first = np.maximum(origin + (position - origin) // self.chunk * self.chunk, self._cuts[k][lane])
        last = np.minimum(origin + ((position - origin) // self.chunk + 1) * self.chunk, ends[at])
        last = np.minimum(last, self._cuts[k][lane + 1])
        chunks, which, rows = np.unique(first, return_index=True, return_inverse=True)
        shuffled = self._shuffled(2 + k, np.full_like(chunks, epoch), chunks, self.chunk, (last - first)[which])
        return self._begin[shard] + first - origin + shuffled[rows.reshape(-1), position - first]

    def _line(self, k: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Shards of a source in the order of an epoch, and where each ends when they lie end to end."""
        if (k, epoch) not in self._epochs:
            rng = np.random.default_rng([self.seed & 0xFFFFFFFFFFFFFFFF, epoch, k])
            shards = rng.permutation(self._shards[k])
            self._epochs[k, epoch] = shards, np.cumsum(self._counts[shards])
            while len(self._epochs) > 2 * len(self._shards):
                self._epochs.popitem(last=False)
        return self._epochs[k, epoch]

    def _shuffled(
        self, kind: int, a: np.ndarray, b: np.ndarray, length: int, used: np.ndarray | None = None
    ) -> np.ndarray:
        """``(N, length)``: for each pair of keys a permutation of its first ``used`` (or all) numbers."""
        with np.errstate(over='ignore'):
            key = _mix(np.uint64(self.seed & 0xFFFFFFFFFFFFFFFF) + _GOLDEN * np.uint64(kind))
            key = _mix(_mix(key + _GOLDEN * a.astype(np.uint64)) + _GOLDEN * b.astype(np.uint64))
            keys = _mix(key[:, None] + _GOLDEN * np.arange(1, length + 1, dtype=np.uint64)) >> np.uint64(1)
        if used is not None:
            keys[np.arange(length) >= used[:, None]] = np.iinfo(np.uint64).max
        return np.argsort(keys, axis=1)


def default_lanes(processes: int, workers: int) -> tuple[int, int]:
    """Lanes of their own for all workers: at least 8 for each batch, and a group for each worker of a process."""
    return processes * math.ceil(8 / processes), max(1, workers)


def lanes_of_worker(lanes: tuple[int, int], processes: int, workers: int) -> int:
    """How many lanes one worker of one process reads."""
    columns, groups = lanes
    return columns // math.gcd(columns, processes) * (groups // math.gcd(groups, max(1, workers)))


def _every(total: int, first: np.ndarray, step: int) -> np.ndarray:
    """How many of 0 .. total - 1 are ``first`` plus a multiple of ``step``."""
    return np.maximum(0, -(-(total - first) // step))


# The mixing function of SplitMix64 (Steele, Lea and Flood, 2014).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
