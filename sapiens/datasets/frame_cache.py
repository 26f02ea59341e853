# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Decoded pixels of a data set on disk, so that each file is decoded once and not in every epoch."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from ..errors import UserError
from .image_files import decode_image
from .label_files import read_label
from .storage import read_bytes, readable_name

# Instances and masks say the same to training; of each kind only what `LoadLabels` reads is kept.
_KINDS = {
    'image': ((3,), np.uint8),
    'parts': ((), np.uint8),
    'depth': ((), np.uint16),
    'normals': ((3,), np.uint8),
    'mask': ((), np.uint8),
}


class FrameCache:
    """Arrays of all frames of a set, mapped into memory; a frame is decoded when it is first asked for.

    Small models read faster than PNGs decode: at 256 x 192 decoding takes longer than a tenth of a training step.
    Several processes may share the folder: they write equal bytes, and a frame counts once all of it is there. The
    folder grows with its set, and a frame whose file has another name than before is decoded again.

    Args:
        folder: Where to keep the arrays (10 bytes a pixel).
        size: ``(H, W)`` of every frame.
        kinds: ``'image'`` and the labels that every frame has.

    Raises:
        UserError: The folder holds more frames, or larger ones.
    """

    def __init__(self, folder: str | Path, count: int, size: tuple[int, int], kinds: tuple[str, ...]) -> None:
        self.folder, self.count, self.size = Path(folder), count, tuple(size)
        self.kinds = tuple(k for k in _KINDS if k in kinds)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._maps: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict:
        # Worker processes map the files themselves.
        return {**self.__dict__, '_maps': {}}

    def read(self, number: int, references: dict[str, str]) -> dict[str, np.ndarray]:
        """Arrays of one frame by kind, as `label_files.read_label` gives them; images are RGB.

        Args:
            references: Kind -> file, to decode from if that has not happened yet.

        Raises:
            UserError: A file is unreadable or differs in size or type from what the cache was made for.
        """
        name = np.uint32(zlib.crc32(references['image'].encode()) | 1)
        if self._map('names', (), np.uint32)[number] != name:
            self._decode(number, references)
            self._map('names', (), np.uint32)[number] = name
        arrays = {kind: self._map(kind, *_KINDS[kind])[number] for kind in self.kinds}
        if 'normals' in arrays:
            arrays['normals'] = arrays['normals'][..., ::-1]  # kept as PNGs have them
        return arrays

    def _decode(self, number: int, references: dict[str, str]) -> None:
        for kind in self.kinds:
            name = readable_name(references[kind])
            data = read_bytes(references[kind])
            array = decode_image(data, name) if kind == 'image' else read_label(kind, data, name)
            target = self._map(kind, *_KINDS[kind])
            if array.shape != target.shape[1:] or array.dtype != target.dtype:
                raise UserError(f'{name}: is {array.dtype} {array.shape}, the frame cache {self.folder} keeps '
                                f'{target.dtype} {target.shape[1:]}; leave cache out for such data')  # fmt: skip
            target[number] = array[..., ::-1] if kind == 'normals' else array

    def _map(self, kind: str, channels: tuple[int, ...], dtype: type) -> np.ndarray:
        if kind not in self._maps:
            shape = (self.count, *(() if kind == 'names' else self.size), *channels)
            path = self.folder / f'{kind}.raw'
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            with open(path, 'ab') as file:
                if file.tell() > size:
                    raise UserError(f'{path}: was made for another set of frames; remove the folder {self.folder}')
                file.truncate(size)  # what is new is a sparse file of zeros
            self._maps[kind] = np.memmap(path, dtype, 'r+', shape=shape)
        return self._maps[kind]
