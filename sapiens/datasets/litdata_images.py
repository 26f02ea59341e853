# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Images without labels from a folder that ``litdata.optimize`` has written, in the order of our own shards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import UserError
from ..registry import DATASETS
from ..utils.json_files import parse_json
from ..utils.optional import need
from .shard_images import ShardImageDataset
from .storage import read_bytes


@DATASETS.register_module()
class LitdataImageDataset(ShardImageDataset):
    """Encoded images of litdata's chunks; litdata reads them, and copies those of an object store.

    A sample is the bytes of an image, or a dict in which ``key`` holds them.

    Args:
        data_root: Folder or URL with litdata's ``index.json``.
        key: Of the image in a sample that is a dict.
        **kwargs: See `ShardImageDataset`; ``shards`` has no meaning here.

    Raises:
        UserError: No such folder, no index in it, or samples without images.
        MissingPackageError: litdata is not installed.
    """

    def __init__(self, data_root: str, key: str = 'image', **kwargs: Any) -> None:
        self.key, self._stream = key, None
        super().__init__(data_root=data_root, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), '_stream': None}

    def _find(self) -> None:
        path = f'{self.data_root.rstrip("/")}/index.json'
        document = parse_json(read_bytes(path), path)
        try:
            chunks = [(str(chunk['filename']), int(chunk['chunk_size'])) for chunk in document['chunks']]
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(
                f'{path}: is no index of litdata ({error}); make the folder with litdata.optimize'
            ) from None
        self.shards = [f'{self.data_root.rstrip("/")}/{name}' for name, _ in chunks]
        self.counts, self.source = [count for _, count in chunks], np.zeros(len(chunks), np.int64)

    def _forget(self) -> None:
        super()._forget()
        self._stream = None

    def _read(self, number: int, place: int) -> tuple[str, bytes]:
        if self._stream is None:
            self._stream = need('litdata', 'LitdataImageDataset', extra='streaming').StreamingDataset(self.data_root)
        name = f'{self.shards[number]}#{place}'
        try:
            sample = self._stream[int(self.ends[number] - self.counts[number]) + place]
        except (OSError, RuntimeError, ValueError, IndexError, EOFError) as error:
            raise UserError(f'{name}: cannot be read ({error}); copy the chunk again') from None
        data = sample.get(self.key) if isinstance(sample, Mapping) else sample
        if not isinstance(data, (bytes, memoryview)):
            raise UserError(
                f"{name}: holds no bytes of an image (key '{self.key}'); pack encoded images or name the key"
            )
        return name, bytes(data)
