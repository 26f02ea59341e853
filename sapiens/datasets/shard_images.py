# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Images without labels from webdataset-style tar shards, for pretraining on more files than a file system likes.

Shards are indexed by offset and read at random places, not streamed: shuffling is then exact, every process sees its
share once, and a killed run resumes at the very sample, none of which a stream with a shuffle buffer gives. An index
entry is 16 bytes an image.
"""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..registry import DATASETS
from .base import HumanDataset
from .image_files import is_image_name
from .storage import walk_tar


@DATASETS.register_module()
class ShardImageDataset(HumanDataset):
    """Every image of uncompressed tar shards.

    Args:
        shards: A pattern or a list of them, relative to ``data_root``: ``'*.tar'``, ``'{000000..000127}.tar'``, a path.
        **kwargs: See `HumanDataset`.

    Raises:
        UserError: No shard there, a broken one, or no image in any.
    """

    def __init__(self, data_root: str = '', shards: str | Sequence[str] = '*.tar', **kwargs: Any) -> None:
        self.patterns = [shards] if isinstance(shards, str) else list(shards)
        super().__init__(data_root=data_root, **kwargs)

    def full_init(self) -> None:
        """Index the shards (once; only headers are read)."""
        if self._fully_initialized:
            return
        self.shards = expand_shards(self.patterns, self.data_root)
        dtype = [('shard', np.int32), ('size', np.int32), ('offset', np.int64)]
        parts = [
            np.fromiter(
                ((number, size, offset) for name, offset, size in walk_tar(shard) if is_image_name(Path(name).name)),
                dtype,
            )
            for number, shard in enumerate(self.shards)
        ]
        self.index = np.concatenate(parts)
        if not len(self.index):
            raise UserError(f'{self.data_root or self.patterns[0]}: no image in any of {len(self.shards)} shards')
        if self._indices is not None:
            chosen = self._indices if not isinstance(self._indices, int) else range(self._indices)
            self.index = self.index[list(chosen)]
        self._fully_initialized = True

    def __len__(self) -> int:
        self.full_init()
        return len(self.index)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Reference of one image."""
        self.full_init()
        idx = int(idx) % len(self.index)
        return self.prepare_info({**self._reference(idx), 'sample_idx': idx})

    def _path(self, position: int) -> str:
        return self._reference(position)['img_path']

    def _reference(self, position: int) -> dict[str, Any]:
        row = self.index[position]
        shard = self.shards[row['shard']]
        return {
            'img_path': f'{shard}#{row["offset"]}@{row["offset"]}+{row["size"]}',
            'img_id': f'{Path(shard).name}#{row["offset"]}',
        }


def expand_shards(patterns: Sequence[str], root: str = '') -> list[str]:
    """Paths of shards from patterns with ``*``, ``?`` and numeric ranges ``{000..127}``, in their order.

    Raises:
        UserError: A pattern matches no file.
    """
    found: list[str] = []
    for pattern in patterns:
        paths = []
        for text in _expand_ranges(str(Path(root) / pattern)):
            paths += sorted(glob.glob(text)) if glob.has_magic(text) else [text]
        if not paths:
            raise UserError(f'{Path(root) / pattern}: no shard matches; check the path and data_root')
        found += paths
    return found


def _expand_ranges(text: str) -> list[str]:
    """``'a{08..10}'`` -> ``['a08', 'a09', 'a10']``; several ranges multiply."""
    pieces = re.split(r'\{(\d+)\.\.(\d+)\}', text)
    ranges = [
        [f'{n:0{len(low)}d}' for n in range(int(low), int(high) + 1)]
        for low, high in zip(pieces[1::3], pieces[2::3], strict=True)
    ]
    return [
        ''.join(p for pair in itertools.zip_longest(pieces[::3], numbers, fillvalue='') for p in pair)
        for numbers in itertools.product(*ranges)
    ]
