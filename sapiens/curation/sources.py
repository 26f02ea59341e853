# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Where the images come from: a folder, a list of files, tar shards, or parquet of paths or bytes.

The first thing that is done with a source is a list of it, in parts of a million, each a folder of small parquet files:
``id`` (a running number), ``name`` and ``ref``, which `sapiens.datasets.storage` can read. Only names and headers are
looked at. The list is what makes a run resumable: the same images have the same numbers ever after.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..datasets.image_files import has_ending, is_image_name, list_images
from ..datasets.shard_index import expand_shards
from ..datasets.storage import member_name, read_bytes, walk_tar
from ..errors import UserError
from ..utils.file_names import find_file
from ..utils.files import replace_when_done, write_atomic
from ..utils.json_files import read_names
from .stage import need

BYTES = ('image', 'bytes', 'jpg', 'jpeg', 'png', 'webp')
PATHS = ('path', 'file', 'filename', 'file_name', 'image_path')
_ROW = re.compile(r'(?P<file>.+\.parquet)#row (?P<group>\d+)\.(?P<row>\d+) of (?P<column>.+)')


def find_images_of(source: str) -> Iterator[tuple[str, str]]:
    """Name and reference of every image of a source, in a fixed order.

    Args:
        source: A folder of images or of ``.tar`` or ``.parquet`` files, a ``.txt`` of paths, a ``.tar`` or
            ``.parquet`` file, or a pattern of these (``'crawl/{00000..00127}.tar'``, ``'fetched/*.parquet'``).

    Raises:
        UserError: Nothing there, or a file that is none of these.
    """
    path = Path(source)
    if path.is_dir():
        for suffix in ('.tar', '.parquet'):
            if files := sorted(str(p) for p in path.iterdir() if has_ending(p.name, (suffix,))):
                return itertools.chain.from_iterable(map(_READERS[suffix], files))
        return ((str(Path(p).relative_to(path)), p) for p in list_images(path))
    if path.suffix == '.txt':
        return ((name, find_file(str(path.parent), name)) for name in read_names(path))
    if path.suffix not in _READERS:
        raise UserError(f'{source}: is no folder, .txt, .tar or .parquet; see `sapiens curate --help`')
    return itertools.chain.from_iterable(map(_READERS[path.suffix], expand_shards([source])))


def _from_tar(path: str) -> Iterator[tuple[str, str]]:
    for name, offset, size in walk_tar(path):
        if is_image_name(Path(name).name):
            yield f'{path}#{name}', f'{path}#{name}@{offset}+{size}'


def _from_parquet(path: str) -> Iterator[tuple[str, str]]:
    """Rows with a path, else rows with bytes; images are often a struct of both, of which bytes count first."""
    file = _open_parquet(path)
    columns = {field.name.lower(): field for field in file.schema_arrow}
    name = next((columns[c].name for c in PATHS if c in columns), None)
    data = next((columns[c] for c in BYTES if c in columns), None)
    if data is not None:
        struct = {data.type.field(i).name for i in range(data.type.num_fields)} if data.type.num_fields else set()
        if struct and 'bytes' not in struct:
            raise UserError(f"{path}: the column '{data.name}' has no bytes, only {', '.join(sorted(struct))}")
        for group in range(file.num_row_groups):
            for row in range(file.metadata.row_group(group).num_rows):
                yield f'{path}#{group}.{row}', f'{path}#row {group}.{row} of {data.name}'
    elif name is not None:
        for group in range(file.num_row_groups):
            for value in file.read_row_group(group, columns=[name])[name].to_pylist():
                yield str(value), find_file(str(Path(path).parent), str(value))
    else:
        raise UserError(f'{path}: has neither paths ({", ".join(PATHS)}) nor bytes ({", ".join(BYTES)}); its columns '
                        f'are {", ".join(columns)}')  # fmt: skip


_READERS = {'.tar': _from_tar, '.parquet': _from_parquet}


def _open_parquet(path: str) -> Any:
    parquet = need('pyarrow.parquet')
    try:
        return parquet.ParquetFile(path)
    except FileNotFoundError:
        raise UserError(f'{path}: no such file; check the path') from None
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: not a parquet file ({" ".join(str(error).split())[:100]})') from None


@functools.lru_cache(maxsize=2)
def _row_group(path: str, group: int, column: str) -> list:
    values = _open_parquet(path).read_row_group(group, columns=[column])[column].to_pylist()
    return [value['bytes'] if isinstance(value, dict) else value for value in values]


def read_image(reference: str) -> bytes:
    """Bytes of an image of the list; of parquet, a row group is kept, as its rows are asked for in turn.

    Raises:
        UserError: It cannot be read.
    """
    match = _ROW.fullmatch(reference)
    if not match:
        return read_bytes(reference)
    data = _row_group(match['file'], int(match['group']), match['column'])[int(match['row'])]
    if not isinstance(data, bytes):
        raise UserError(f'{reference}: holds no bytes')
    return data


def suffix_of(reference: str) -> str:
    """Extension that an image of the list has by its name; empty where the name tells nothing."""
    name = member_name(reference)
    return Path(name).suffix.lower() if is_image_name(Path(name).name) else ''


def write_list(source: str, folder: Path, part_size: int, block: int) -> dict[str, Any]:
    """Write the list of a source once, or read what was written of it.

    Args:
        source: See `find_images_of`.
        part_size: Images in a part, which is one run of Ray Data.
        block: Images in a file, which Ray hands out as one.

    Returns:
        ``source``, ``images`` and ``parts`` (images in each).

    Raises:
        UserError: The list is of another source, or the source holds no image.
    """
    head = folder / 'list.json'
    if head.is_file():
        known = json.loads(head.read_text())
        if known['source'] != source:
            raise UserError(f'{folder.parent}: holds the curation of {known["source"]}; give another folder')
        return known
    parts: list[int] = []
    with replace_when_done(folder, folder=True, sync=False) as temporary:
        numbered = enumerate(find_images_of(source))
        while part := _write_part(numbered, temporary / f'{len(parts):05d}', part_size, block):
            parts.append(part)
        if not parts:
            raise UserError(f'{source}: holds no image')
        known = dict(source=source, images=sum(parts), parts=parts)
        write_atomic(temporary / 'list.json', json.dumps(known))
    return known


def _write_part(numbered: Iterable, folder: Path, part_size: int, block: int) -> int:
    pa, parquet = need('pyarrow'), need('pyarrow.parquet')
    total = 0
    while rows := list(itertools.islice(numbered, min(block, part_size - total))):
        folder.mkdir(parents=True, exist_ok=True)
        ids, pairs = zip(*rows, strict=True)
        names, references = zip(*pairs, strict=True)
        table = pa.table({'id': pa.array(ids, pa.int64()), 'name': names, 'ref': references})
        parquet.write_table(table, folder / f'{total:07d}.parquet')
        total += len(rows)
    return total
