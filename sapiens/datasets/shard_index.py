# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Which shards a pattern means, and the index beside them: how many images each has."""

from __future__ import annotations

import glob
import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from posixpath import basename, join
from posixpath import dirname as folder_of

from mmengine.logging import print_log

from ..errors import UserError
from ..utils.files import write_atomic
from ..utils.json_files import parse_json
from .storage import exists, is_remote, read_bytes, remote

INDEX_NAME = 'shards.json'
"""Beside shards: how many images each has, in the form of webdataset's ``wids`` index."""


def expand_shards(patterns: Sequence[str], root: str = '') -> list[str]:
    """Paths of shards from patterns with ``*``, ``?`` and numeric ranges ``{000..127}``, in their order.

    Raises:
        UserError: A pattern matches no file.
    """
    found: list[str] = []
    for pattern in patterns:
        whole = f'{root.rstrip("/")}/{pattern}' if is_remote(root) else str(pattern)
        whole = whole if is_remote(whole) else Path(root, pattern).as_posix()
        paths = [p for text in _expand_ranges(whole) for p in _match(text)]
        if not paths:
            raise UserError(f'{whole}: no shard matches; check the path and data_root')
        found += paths
    return found


def _match(text: str) -> list[str]:
    if not glob.has_magic(text):
        return [text]
    if is_remote(text):
        system, inner = remote(text)
        return sorted(system.unstrip_protocol(path) for path in system.glob(inner))
    return sorted(glob.glob(text))


def _expand_ranges(text: str) -> list[str]:
    """``'a{08..10}'`` -> ``['a08', 'a09', 'a10']``; several ranges multiply."""
    found = re.search(r'\{(\d+)\.\.(\d+)\}', text)
    if not found:
        return [text]
    numbers = (f'{n:0{len(found[1])}d}' for n in range(int(found[1]), int(found[2]) + 1))
    return [whole for n in numbers for whole in _expand_ranges(text[: found.start()] + n + text[found.end() :])]


def read_index(folder: str) -> dict[str, int]:
    """Images of each shard that the index of a folder knows, by path.

    Raises:
        UserError: It is no index.
    """
    path = join(folder, INDEX_NAME)
    if not exists(path):
        return {}
    document = parse_json(read_bytes(path), path)
    try:
        entries = [(str(e['url']), int(e['nsamples']), e.get('filesize')) for e in document['shardlist']]
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f'{path}: is no index of shards ({error}); delete it, and it is made anew') from None
    counts = {}
    for name, count, size in entries:
        shard = join(folder, name)
        # A shard that was packed again since is counted again.
        if is_remote(shard) or (os.path.isfile(shard) and size in (None, os.path.getsize(shard))):
            counts[shard] = count
    return counts


def write_index(counts: Mapping[str, int]) -> None:
    """Note the images of shards in the index of their folder; a folder that cannot be written to is left alone.

    Args:
        counts: Path of a shard -> images.
    """
    folders: dict[str, dict[str, int]] = defaultdict(dict)
    for shard, count in counts.items():
        folders[folder_of(shard)][shard] = count
    for folder, new in folders.items():
        entries = []
        for shard, count in sorted({**read_index(folder), **new}.items()):
            size = {} if is_remote(folder) else {'filesize': os.path.getsize(shard)}
            entries.append({'url': basename(shard), 'nsamples': count, **size})
        text = json.dumps({'__kind__': 'wids-shard-index-v1', 'wids_version': 1, 'shardlist': entries}, indent=1)
        path = join(folder, INDEX_NAME)
        try:
            if is_remote(path):
                system, inner = remote(path)
                system.pipe_file(inner, text.encode())
            else:
                write_atomic(path, text)
        except OSError as error:
            print_log(f'{folder}: {INDEX_NAME} could not be written ({error}): shards are counted anew each time',
                      logger='current')  # fmt: skip
