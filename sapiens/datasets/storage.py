# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Bytes of a file on disk, of a member of a tar shard or of a line of a file, each named by one string.

A part of a file is named ``FILE#NAME@OFFSET+SIZE``: the offset makes shards and long lists randomly accessible, so they
behave like folders for samplers, shuffling, distributed training and resuming.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import MissingPackageError, UserError
from ..utils.json_files import reading

_ROOT = ' and data_root'
_PART = re.compile(r'^(?P<file>.+?)#(?P<name>.+)@(?P<offset>\d+)\+(?P<size>\d+)$', re.DOTALL)


def member_name(reference: str) -> str:
    """Name without the file it lies in: ``'a/b.jpg'`` of ``'x.tar#a/b.jpg@512+99'``; of a path the path itself."""
    match = _PART.match(reference)
    return match['name'] if match else reference


def readable_name(reference: str) -> str:
    """What to call a reference in a message: ``'x.tar#a/b.jpg'`` or the path."""
    match = _PART.match(reference)
    return f'{match["file"]}#{match["name"]}' if match else reference


def exists(reference: str) -> bool:
    """Whether the file, or the file that a part lies in, exists."""
    match = _PART.match(reference)
    path = match['file'] if match else reference
    if is_remote(path):
        system, inner = remote(path)
        return system.isfile(inner)
    return os.path.isfile(path)


def read_bytes(reference: str) -> bytes:
    """Read a file or a part of one, here or in an object store.

    Args:
        reference: A path or URL, or ``FILE#NAME@OFFSET+SIZE`` as `list_tar` and `list_lines` give it.

    Raises:
        UserError: The file is missing, is not readable, or is cut off within the part.
    """
    match = _PART.match(reference)
    path = match['file'] if match else reference
    start, size = (int(match['offset']), int(match['size'])) if match else (0, None)
    with reading(path, 'file', _ROOT):
        if is_remote(path):
            system, inner = remote(path)
            data = system.cat_file(inner, start, None if size is None else start + size)
        else:
            with open(path, 'rb') as file:
                file.seek(start)
                data = file.read(size)
    if size is not None and len(data) != size:
        raise UserError(f'{readable_name(reference)}: the file is cut off; copy it again')
    return data


def list_tar(path: str | Path) -> dict[str, str]:
    """References of every regular file in a tar shard, by member name, in the order of the archive.

    Only headers are read. Compressed archives have no random access and are refused.

    Raises:
        UserError: The shard is missing, compressed, cut off or not a tar archive.
    """
    path = str(path)
    return {name: f'{path}#{name}@{offset}+{size}' for name, offset, size in walk_tar(path)}


def walk_tar(path: str, file: BinaryIO | None = None) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every regular file in a tar shard; takes no more memory for more files.

    Args:
        file: It, where it is open already.

    Raises:
        UserError: See `list_tar`.
    """
    end = 0
    try:
        with reading(path, 'shard', _ROOT), tarfile.open(path, 'r:', file) as tar:
            # Asked for the next member of an archive without any, Python 3.10 seeks before its start.
            member = tar.next() if tar.firstmember else None
            while member is not None:
                tar.members.clear()  # they would be kept, half a kilobyte each
                end = max(end, member.offset_data + member.size)
                if member.isreg():
                    yield member.name, member.offset_data, member.size
                member = tar.next()
            tar.fileobj.seek(tar.offset)
            rest = tar.fileobj.read(512)
            size = os.path.getsize(path) if file is None else file.seek(0, os.SEEK_END)
    except (tarfile.TarError, OverflowError, EOFError, KeyError) as error:
        raise UserError(
            f'{path}: not an uncompressed tar archive ({error}); pack it again without compression'
        ) from None
    # A whole archive ends in blocks of zeros; tarfile is silent about a cut between or within headers.
    if -(-end // 512) * 512 + 512 > size:
        raise UserError(f'{path}: the shard is cut off; copy it again')
    # It takes a damaged header for the end, too.
    if rest.strip(b'\0'):
        raise UserError(f'{path}: the shard is damaged behind byte {end}; copy it again')


def is_remote(path: str) -> bool:
    """Whether a path is a URL, such as ``s3://bucket/000000.tar``."""
    return '://' in path


def remote(url: str) -> tuple[Any, str]:
    """File system of a URL (fsspec) and the path in it.

    Raises:
        MissingPackageError: fsspec, or its driver for this kind of store, is not installed.
        UserError: fsspec knows no such kind of store.
    """
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(url)
    except ImportError as error:
        raise MissingPackageError(
            f'{url}: needs fsspec and its driver for this store ({error}): '
            "pip install 'sapiens-toolkit[streaming]' and, say, s3fs"
        ) from None
    except ValueError as error:
        raise UserError(f'{url}: {error}') from None


def open_whole(path: str) -> BinaryIO:
    """Open a shard for reading at any place; a remote one is first copied, in one go, into a file without a name.

    Nothing is left of the copy once it is closed, also when the process is killed.

    Raises:
        UserError: It is missing or cannot be read.
    """
    with reading(path, 'shard', _ROOT):
        if not is_remote(path):
            return open(path, 'rb')
        system, inner = remote(path)
        copy = tempfile.TemporaryFile()  # noqa: SIM115
        with system.open(inner, 'rb', cache_type='none') as source:
            shutil.copyfileobj(source, copy, 1 << 23)
        copy.flush()
        return copy


def list_lines(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """Reference and bytes of every non-blank line of a file.

    Raises:
        UserError: The file is missing.
    """
    with reading(path, 'file', _ROOT), open(path, 'rb') as file:
        offset = 0
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f'{path}#line {number}@{offset}+{len(line)}', line
            offset += len(line)
