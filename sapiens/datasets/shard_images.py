# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Images without labels from webdataset-style tar shards, for pretraining on more files than a file system likes.

Shards are read in chunks, one after another, in the order of `ShardOrder`: memory grows with the shards, not with the
images, and a killed run resumes at the very sample, also with other numbers of processes and workers.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from rich.progress import track

from ..errors import UserError
from ..registry import DATASETS
from ..utils.json_files import as_numbers
from ..utils.numbers import check_number
from .base import HumanDataset
from .image_files import is_image_name
from .manifest import label_of
from .shard_index import INDEX_NAME, expand_shards, folder_of, read_index, write_index
from .shard_order import ShardOrder, default_lanes, lanes_of_worker
from .storage import open_whole, readable_name, walk_tar
from .transforms.base import check_argument


@DATASETS.register_module()
class ShardImageDataset(HumanDataset):
    """Every image of uncompressed tar shards, on this machine or in an object store.

    The number of images of each shard comes from ``shards.json`` in its folder, which is written when it is missing
    (every shard is then read once). A damaged shard gives the images before the damage, and one sample that is bad.

    Args:
        data_root: Folder or URL (``s3://bucket/path``) of the shards.
        shards: A pattern or a list of them, relative to ``data_root``: ``'*.tar'``, ``'{000000..000127}.tar'``, a path.
            A dict of patterns says the share of the training's draws that each gets: ``{'a/*.tar': 3, 'b/*.tar': 1}``.
        chunk: Images that are read at once; training shuffles them among each other.
        lanes: See `ShardOrder`; by default every worker gets its own.
        **kwargs: See `HumanDataset`.

    Raises:
        UserError: No shard there, or no image in any.
    """

    def __init__(
        self,
        data_root: str = '',
        shards: str | Sequence[str] | Mapping[str, float] = '*.tar',
        chunk: int = 64,
        lanes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.patterns = [shards] if isinstance(shards, str) else list(shards)
        if not self.patterns:
            raise UserError(f'{data_root or "ShardImageDataset"}: shards={shards} names none')
        self.weights: np.ndarray | None = None
        if isinstance(shards, Mapping):
            self.weights = as_numbers(list(shards.values()), -1)
            if self.weights is None or not ((self.weights > 0) & (256 * self.weights >= self.weights.sum())).all():
                raise UserError(f'shards={shards}: weights are positive, and none is below 1/256 of their sum')
        check_number('ShardImageDataset.chunk', chunk, 1, whole=True)
        check_argument('ShardImageDataset', 'lanes', lanes, 'tuple[int, int] | None')
        self.chunk, self.lanes = chunk, None if lanes is None else tuple(lanes)
        self.kept = 4  # chunks; `draw_order` knows how many lanes a worker has
        self._forget()
        super().__init__(data_root=data_root, **kwargs)

    def _forget(self) -> None:
        """Open all files anew: a worker must not move in those of its parent."""
        self._reader: int | None = os.getpid()
        self._shard = lru_cache(self.kept)(lambda number: Shard(self.shards[number]))
        self._chunk = lru_cache(self.kept)(lambda number, n: self._shard(number).read(n * self.chunk, self.chunk))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), '_reader': None, '_shard': None, '_chunk': None}

    def full_init(self) -> None:
        """Find the shards and how many images each has."""
        if self._fully_initialized:
            return
        self._find()
        self.counts = np.array(self.counts, np.int64)
        self.ends = np.cumsum(self.counts)
        if not self.ends[-1]:
            raise UserError(f'{self.data_root or self.patterns[0]}: no image in any of {len(self.shards)} shards')
        empty = [pattern for k, pattern in enumerate(self.patterns) if not self.counts[self.source == k].sum()]
        if self.weights is not None and empty:
            raise UserError(f'{empty[0]}: no image in any of its shards, but a share of the draws; leave it out')
        self._chosen: Sequence[int] = range(int(self.ends[-1]))
        if isinstance(self._indices, int):
            self._chosen = self._chosen[: self._indices] if self._indices >= 0 else self._chosen[self._indices :]
        elif self._indices is not None:
            self._chosen = list(self._indices)
        self._fully_initialized = True

    def _find(self) -> None:
        """Set ``shards``, and for each the number of its ``source`` and its images (``counts``)."""
        found = [expand_shards([pattern], self.data_root) for pattern in self.patterns]
        self.shards = [shard for source in found for shard in source]
        self.source = np.repeat(np.arange(len(found)), [len(source) for source in found])
        known: dict[str, int] = {}
        for folder in dict.fromkeys(map(folder_of, self.shards)):
            known.update(read_index(folder))
        missing = [shard for shard in self.shards if shard not in known]
        whole: dict[str, int] = {}
        for shard in track(missing, 'reading shards', transient=True, disable=len(missing) < 100):
            opened = Shard(shard)
            # The sample after the last readable one will say what is wrong.
            known[shard] = len(opened.members) + bool(opened.fault)
            if opened.fault and self.test_mode:
                raise UserError(opened.fault)
            if opened.fault:
                self.notes.append(f'{opened.fault} ({len(opened.members)} images of it can be read)')
                print_log(self.notes[-1], logger='current', level=logging.WARNING)
            else:
                whole[shard] = len(opened.members)
        write_index(whole)
        self.counts = [known[shard] for shard in self.shards]
        if self.notes and sum(self.counts) == len(self.notes):
            raise UserError(self.notes[0])

    def __len__(self) -> int:
        self.full_init()
        return len(self._chosen)

    def draw_order(self, seed: int, batch: int, processes: int, workers: int) -> ShardOrder | None:
        """The order for training, see `ShardOrder`; None for a part of the images, which any order will do for.

        Args:
            batch: Samples of a step over all processes.
            processes: That share a batch.
            workers: Of the loader of each.
        """
        self.full_init()
        if self._indices is not None:
            return None
        lanes = self.lanes or default_lanes(processes, workers)
        order = ShardOrder(self.counts, seed, batch, lanes, self.chunk, self.source, self.weights)
        self.keep_chunks(order, processes, workers)
        return order

    def keep_chunks(self, order: ShardOrder, processes: int, workers: int) -> None:
        """Hold as many chunks as a worker reads from in turn, twice, since lanes go from one to the next."""
        self.kept = 2 * lanes_of_worker(order.layout['lanes'], processes, workers)
        self._forget()

    def replacement(self, index: int, attempt: int) -> int:
        """An image to take for a bad one; for those of one chunk they lie in one chunk, too."""
        begin = random.Random(f'{index // self.chunk} {attempt}').randrange(len(self))
        return min(begin // self.chunk * self.chunk + random.randrange(self.chunk), len(self) - 1)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """One image, as bytes."""
        if self._reader != os.getpid():
            self._forget()
        shard, place = self._locate(int(idx))
        reference, data = self._read(shard, place)
        name = readable_name(reference).rpartition('/')[2]
        return self.prepare_info({'img_path': reference, 'img_bytes': data, 'img_id': name, 'sample_idx': int(idx)})

    def _locate(self, index: int) -> tuple[int, int]:
        """Shard of an image, and its place among the images there."""
        self.full_init()
        index = int(self._chosen[index % len(self._chosen)])
        shard = int(np.searchsorted(self.ends, index, side='right'))
        return shard, index - int(self.ends[shard] - self.counts[shard])

    def _path(self, position: int) -> str:
        shard, place = self._locate(position)
        return f'{self.shards[shard]}#image {place}'

    def _read(self, number: int, place: int) -> tuple[str, bytes]:
        """Reference and bytes of an image; its chunk is read at once and kept for the next ones."""
        shard = self._shard(number)
        if place >= len(shard.members):
            told = f'{INDEX_NAME} says {self.counts[number]}: pack it again, or delete {INDEX_NAME}'
            raise UserError(shard.fault or f'{shard.path}: holds {len(shard.members)} images, {told}')
        start, data = self._chunk(number, place // self.chunk)
        name, offset, size = shard.members[place]
        return f'{shard.path}#{name}@{offset}+{size}', data[offset - start : offset - start + size]


class Shard:
    """An open tar file and the images in it, up to where it is damaged.

    Attributes:
        members: Name of each image, and offset and number of its bytes in the file.
        fault: What is wrong with the file; empty if nothing.
    """

    def __init__(self, path: str) -> None:
        self.path, self.fault = path, ''
        self.members: list[tuple[str, int, int]] = []
        self._file = open_whole(path)
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        try:
            for name, offset, size in walk_tar(path, self._file):
                if is_image_name(Path(name).name) and not label_of(name) and offset + size <= end:
                    self.members.append((name, offset, size))
        except UserError as error:
            self.fault = str(error)

    def __del__(self) -> None:
        if hasattr(self, '_file'):
            self._file.close()

    def read(self, first: int, count: int) -> tuple[int, bytes]:
        """Offset and bytes of the part of the file that holds some images."""
        part = self.members[first : first + count]
        (_, start, _), (_, end, size) = part[0], part[-1]
        self._file.seek(start)
        return start, self._file.read(end + size - start)
