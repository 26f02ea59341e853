# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The containers that weights come in, told by their content, not their names; nothing in them is run.

==================  ==============================================================================
safetensors         a table of names, then the numbers
``torch.save``      a zip (or, before torch 1.6, a row) of one pickle and one piece for each storage
TorchScript         the same zip with a program in it, whose objects hold the weights
``torch.export``    a zip with a table of names and a piece for each weight; in older releases a ``torch.save`` zip
==================  ==============================================================================

The table or pickle is read first and gives tensors that are still empty. `Content.fill` then reads the bytes of those
that are wanted, by several threads, into memory of our own: a mapped file would be faster by nothing (its pages are
read at the first use), and whoever replaces or truncates it would change the weights or kill the process.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..errors import UserError
from .unpickle import STORAGES, Unpickler, plain_or_module

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_CHUNK = 1 << 25
_SAFETENSORS = {
    'F64': torch.float64, 'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16, 'I64': torch.int64,
    'I32': torch.int32, 'I16': torch.int16, 'I8': torch.int8, 'U8': torch.uint8, 'BOOL': torch.bool,
}  # fmt: skip
_EXPORT_DTYPES = ('', 'Byte', 'Char', 'Short', 'Int', 'Long', 'Half', 'Float', 'Double', '', 'ComplexFloat',
                  'ComplexDouble', 'Bool', 'BFloat16')  # fmt: skip


class CheckpointError(UserError):
    """A checkpoint file is missing, damaged, unsafe or made for another model."""


@dataclass
class Content:
    """What a file holds.

    Attributes:
        data: Plain data; its tensors are empty until `fill`.
        meta: What a container keeps beside it.
    """

    file: BinaryIO
    kind: str = 'PyTorch checkpoint'
    data: Any = None
    meta: dict = field(default_factory=dict)
    pieces: dict[int, tuple[torch.UntypedStorage, int]] = field(default_factory=dict)
    made: dict[tuple[int, int], torch.UntypedStorage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        about = os.fstat(self.file.fileno())
        self.size, self.written = about.st_size, about.st_mtime_ns

    def empty(self, offset: int, size: int) -> torch.UntypedStorage:
        """Memory for a piece of the file, one for all that share it; the system gives it when it is written to."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise EOFError(f'{offset + size - self.size} bytes are missing')
        if (offset, size) not in self.made:
            storage = self.made[offset, size] = torch.UntypedStorage(size)
            if size:
                self.pieces[storage.data_ptr()] = storage, offset
        return self.made[offset, size]

    def fill(self, tensors: Iterable[torch.Tensor]) -> None:
        """Read the bytes of some tensors."""
        wanted = {t.untyped_storage().data_ptr() for t in tensors} & set(self.pieces)
        jobs = []
        for storage, offset in (self.pieces.pop(pointer) for pointer in wanted):
            whole: Any = torch.empty(0, dtype=torch.uint8).set_(storage, 0, (len(storage),), (1,)).numpy()
            view = memoryview(whole)
            jobs += [(offset + i, view[i : i + _CHUNK]) for i in range(0, len(view), _CHUNK)]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            read = sum(pool.map(self._read, sorted(jobs, key=lambda job: job[0])))
        if read != sum(len(view) for _, view in jobs) or os.fstat(self.file.fileno()).st_mtime_ns != self.written:
            raise EOFError('the file changed while it was read')

    def _read(self, job: tuple[int, memoryview]) -> int:
        offset, view = job
        if hasattr(os, 'preadv'):
            done = count = os.preadv(self.file.fileno(), [view], offset)
            while count and done < len(view):
                done += (count := os.preadv(self.file.fileno(), [view[done:]], offset + done))
            return done
        with open(self.file.name, 'rb', buffering=0) as file:
            file.seek(offset)
            return file.readinto(view)


def open_content(file: BinaryIO) -> Content:
    """Read the table or pickle of a file.

    Args:
        file: The file, open for reading; it must stay open for `Content.fill`.

    Raises:
        Exception: One of `sapiens.engine.files.DAMAGE`: not a container of weights, damaged, or it asks to run code.
    """
    content, head = Content(file), file.read(512)
    file.seek(0)
    if head.startswith(b'PK'):
        _read_zip(content, _Archive(file, content.size))
    elif head.startswith(b'\x80'):
        _read_legacy(content)
    elif len(head) > 8 and head[8:9] == b'{':
        _read_safetensors(content)
    else:
        raise CheckpointError(_no_container(head, Path(file.name).suffix))
    return content


def _no_container(head: bytes, suffix: str) -> str:
    if suffix in ('.onnx', '.xml', '.pte'):
        return 'an exported model, which Inferencer and sapiens predict --model run; give the checkpoint that it is of'
    if head.startswith(b'version https://git-lfs'):
        return 'a Git LFS pointer, not the weights: run `git lfs pull`, or download the file itself'
    if (
        head.startswith((b'\x1f\x8b', b'BZh', b'\xfd7zXZ', b'(\xb5/\xfd', b'7z\xbc', b'Rar!'))
        or head[257:262] == b'ustar'
    ):
        return 'an archive or compressed file: unpack it and give what is in it'
    if re.match(rb'\s*<(!doctype|html|\?xml)', head, re.IGNORECASE):
        return 'a web page, not the weights: download the file itself (the button "download", or its raw address)'
    return 'not a checkpoint (it does not begin like one); check that the download is the file itself'


class _Beginning:
    """A file that ends earlier, for archives in archives, which `zipfile` finds from their end; what it needs of it."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self.file, self.end, self.tell = file, end, file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(max(0, offset + (self.end if whence == os.SEEK_END else 0)))

    def read(self, count: int = -1) -> bytes:
        left = max(0, self.end - self.tell())
        return self.file.read(left if count < 0 else min(count, left))


class _Archive(dict[str, tuple[int, int]]):
    """Entries of a zip by name without its top folder: offset in the file and size, which is -1 if compressed."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self.file = file
        with zipfile.ZipFile(_Beginning(file, end)) as archive:
            infos = archive.infolist()
        tops = {info.filename.partition('/')[0] for info in infos if '/' in info.filename}
        top = f'{tops.pop()}/' if len(tops) == 1 and all('/' in info.filename for info in infos) else ''
        for info in infos:
            file.seek(info.header_offset)
            name, extra = struct.unpack('<26xHH', file.read(30))
            size = info.file_size if info.compress_type == zipfile.ZIP_STORED else -1
            self[info.filename.removeprefix(top)] = info.header_offset + 30 + name + extra, size

    def place(self, name: str) -> tuple[int, int]:
        offset, size = self[name]
        if size < 0:
            raise CheckpointError('is a compressed zip, which PyTorch does not write: unpack it and give what is in it')
        return offset, size

    def read(self, name: str) -> bytes:
        offset, size = self.place(name)
        self.file.seek(offset)
        data = self.file.read(size)
        if len(data) < size:
            raise EOFError(f'{name} is cut off')
        return data

    def first(self, pattern: str) -> str | None:
        return next((name for name in self if re.fullmatch(pattern, name)), None)


def _read_zip(content: Content, archive: _Archive) -> None:
    if 'byteorder' in archive and archive.read('byteorder').strip() == b'big':
        raise CheckpointError('was written on a big-endian machine; save it again as safetensors there')
    old_export = archive.first(r'serialized_state_dict\.\w+|data/weights/\w+\.pt')
    table = archive.first(r'data/weights/\w+_weights_config\.json')
    if table:
        content.kind = 'torch.export program'
        content.data = _read_export(content, archive, json.loads(archive.read(table))['config'])
        if 'extra/sapiens' in archive:  # of sapiens export
            content.meta['sapiens'] = json.loads(archive.read('extra/sapiens'))
    elif old_export:
        _read_zip(content, _Archive(content.file, sum(archive.place(old_export))))
        content.kind = 'torch.export program'
    elif 'data.pkl' in archive:

        def find(key: str, size: int) -> torch.UntypedStorage:
            offset, there = archive.place(f'data/{key}')
            if there < size:
                raise EOFError(f'data/{key} is cut off')
            return content.empty(offset, size)

        loaded = Unpickler(io.BytesIO(archive.read('data.pkl')), find).load()
        content.data = plain_or_module(loaded)
        if 'constants.pkl' in archive:
            content.kind = 'TorchScript program'
            if not content.data:
                raise CheckpointError('a frozen TorchScript program, whose weights have no names any more; take the '
                                      '.pth or .safetensors file of this model')  # fmt: skip
    elif 'serialized_exported_program.json' in archive or 'models/model.json' in archive:
        raise CheckpointError(
            'a torch.export program without weights of its own (they are compiled in, or lie in files beside it); '
            'take the .pth or .safetensors file of this model'
        )
    else:
        raise CheckpointError(f"a zip that holds no weights (but e.g. '{next(iter(archive), 'nothing')}')")


def _read_export(content: Content, archive: _Archive, table: Mapping) -> dict[str, torch.Tensor]:
    state = {}
    for name, item in table.items():
        path, about = f'data/weights/{item["path_name"]}', item['tensor_meta']
        if item.get('use_pickle'):
            raise CheckpointError(f"a torch.export program with '{name}' as a pickle of its own; take the .pth file")
        size, stride = ([n['as_int'] for n in about[key]] for key in ('sizes', 'strides'))
        empty = torch.empty(0, dtype=STORAGES[_EXPORT_DTYPES[about['dtype']]])
        state[name] = empty.set_(content.empty(*archive.place(path)), about['storage_offset']['as_int'], size, stride)
    return state


def _read_legacy(content: Content) -> None:
    """The format before torch 1.6: three pickles about the format, one of the data, then the storages in a row."""
    content.kind = 'PyTorch checkpoint of the old format'
    file, made = content.file, {}

    def find(key: str, size: int) -> torch.UntypedStorage:
        if key not in made:
            if size > content.size:
                raise EOFError('a piece is larger than the file')
            made[key] = torch.UntypedStorage(size)
        return made[key]

    if Unpickler(file).load() != _LEGACY_MAGIC:
        raise CheckpointError('a pickle, but not of torch.save; save the state dict with torch.save or as safetensors')
    for _ in range(2):
        Unpickler(file).load()
    loaded = Unpickler(file, find).load()
    keys = Unpickler(file).load()
    offset = file.tell()
    for key in map(str, keys):
        file.seek(offset)
        count = struct.unpack('<q', file.read(8))[0]
        size = made[key].nbytes() if key in made else 0
        if key in made and (count < 0 or offset + 8 + size > content.size):
            raise EOFError('the last tensors are missing')
        if size:
            content.pieces[made[key].data_ptr()] = made[key], offset + 8
        offset += 8 + (size // count * count if count else 0)
    content.data = plain_or_module(loaded)


def _read_safetensors(content: Content) -> None:
    content.kind = 'safetensors'
    length = struct.unpack('<Q', content.file.read(8))[0]
    if length > content.size - 8:
        raise EOFError('its table is cut off')
    table = json.loads(content.file.read(length))
    for key, value in (table.pop('__metadata__', None) or {}).items():
        try:
            content.meta[key] = json.loads(value)
        except (json.JSONDecodeError, TypeError, RecursionError):
            content.meta[key] = value
    content.data = {}
    for name, item in table.items():
        start, end = item['data_offsets']
        dtype = _SAFETENSORS.get(item['dtype']) or getattr(torch, f'float8_{item["dtype"][3:].lower()}')
        if end - start != math.prod(item['shape']) * dtype.itemsize:
            raise ValueError(f'{name} has another size than its shape')
        storage = content.empty(8 + length + start, end - start)
        content.data[name] = torch.empty(0, dtype=dtype).set_(storage, 0, item['shape'])  # type: ignore[call-overload]
