# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Checkpoint files: read from any origin without running code from them, written whole or not at all."""

from __future__ import annotations

import difflib
import glob
import json
import math
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from ..models.backbones.low_rank import is_adapter
from ..utils.files import replace_when_done
from .containers import CheckpointError, Content, open_content
from .hub import SUFFIXES, origin_of, resolve_weights
from .layouts import ANCHOR
from .published import near_names
from .unpickle import to_plain

# What is added to a layer's input may begin as nothing, as adapters do: a layer that was put in between.
_ADDS = re.compile(r'(attn\.proj|ffn\.layers\.1)\.weight$')
# What a damaged file makes of the code that reads it.
DAMAGE = (EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError,
          MemoryError, struct.error, zipfile.BadZipFile, pickle.UnpicklingError)  # fmt: skip
# Where the programs of the field keep the weights in what they save.
_STATE_KEYS = (
    'state_dict',
    'model',
    'teacher',
    'module',
    'model_state_dict',
    'model_state',
    'net',
    'network',
    'weights',
)


def check_file(path: Path) -> None:
    """Raise one clear line for what is no checkpoint at all."""
    if (path / '.metadata').is_file():  # in parts, see `sharded_checkpoint`
        return
    if path.is_dir():
        found = sorted(p.name for p in path.iterdir() if p.suffix in SUFFIXES)
        hint = f'; give a file in it, e.g. {path / found[-1]}' if found else ''
        raise CheckpointError(f'{path}: is a folder, not a checkpoint file{hint}')
    if not path.is_file():
        if path.exists():
            raise CheckpointError(f'{path}: is a device or a pipe, not a checkpoint file; give a file')
        near = []
        if path.parent.is_dir():
            there = [p.name for p in path.parent.iterdir() if p.is_file() or p.is_dir()]  # no link to what is gone
            near = difflib.get_close_matches(path.name, there, n=1)
        near = [str(path.parent / name) for name in near] or near_names(str(path), 'model', cutoff=0.8)
        hint = f"; did you mean '{near[0]}'?" if near else '; check the path'
        raise CheckpointError(f'{path}: no such checkpoint file{hint}')
    if path.stat().st_size == 0:
        raise CheckpointError(f'{path}: the checkpoint is empty (0 bytes); copy or download it again')


def explain(error: Exception) -> str:
    """What to say of a file that was not read."""
    if isinstance(error, CheckpointError):
        return str(error)
    if isinstance(error, pickle.UnpicklingError) and re.search('calls|refers|encodes|holds', str(error)):
        return (
            f'refused, since loading it could run code (it {error}); '
            'get a safetensors file or a plain state dict of these weights'
        )
    reason = ' '.join(str(error).split())[:120] or type(error).__name__
    return f'damaged or truncated checkpoint ({reason}); copy or download it again'


@contextmanager
def open_checkpoint(path: str | Path) -> Iterator[Content]:
    """What a file holds; its tensors are empty until `Content.fill`.

    Raises:
        CheckpointError: Missing, empty, damaged, no container of weights, or it asks to run code.
    """
    path = Path(path).expanduser()
    check_file(path)
    try:
        with open(path, 'rb') as file:
            yield open_content(file)
    except DAMAGE as error:
        raise CheckpointError(f'{path}: {explain(error)}') from None
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be read ({error.strerror or error})') from None


def load_plain(path: str | Path) -> Any:
    """Load all that a file holds, on the CPU: tensors and plain data; nothing in it is run.

    Returns:
        Usually a dict. Arrays are numpy's, objects of other classes their text.

    Raises:
        CheckpointError: See `open_checkpoint`.
    """
    with open_checkpoint(path) as content:
        content.fill(leaf for leaf in tree_leaves(content.data) if isinstance(leaf, torch.Tensor))
        return content.data


def parts_of(path: Path) -> list[Path]:
    """Files that hold one state dict together: all ``NAME-00001-of-00003.SUFFIX`` of one of them or of their index.

    Returns:
        Empty for any other file.

    Raises:
        CheckpointError: One is not there.
    """
    index = re.fullmatch(r'(.+)(\.\w+)\.index\.json', path.name)
    if index:
        path = next(iter(sorted(path.parent.glob(f'{glob.escape(index[1])}-00001-of-*{index[2]}'))), path)
    part = re.fullmatch(r'(.+-)\d{5}(-of-(\d{5})\.\w+)', path.name)
    if not part:
        return []
    parts = [path.with_name(f'{part[1]}{number:05}{part[2]}') for number in range(1, int(part[3]) + 1)]
    for one in parts:
        if not one.exists():
            raise CheckpointError(
                f'{one}: is not there, but {len(parts)} files hold this model together; copy all of them'
            )
    return parts


def read_checkpoint(source: str | Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Read the weights of a checkpoint of any origin, on the CPU, without running code from it.

    The tensors lie in memory of their own: what happens to the file afterwards does not touch them.

    Args:
        source: File of any container (see `containers`) whose state dict is plain or under a usual name, or one of
            several that hold it together (see `parts_of`); or ``owner/name[@revision][:file]`` on the Hugging Face hub
            (see `hub`).

    Returns:
        ``(state_dict, meta)``: tensors by name, and the plain data stored beside them (``{}`` when there are none);
        ``meta['origin']`` says where published weights are from and under which licence, ``meta['container']`` that
        the file is a program.

    Raises:
        CheckpointError: The file is missing, damaged, unsafe, or holds no weights.
    """
    if Path(source).suffix == '.dcp' and Path(source).is_dir():
        from .sharded_checkpoint import read_whole

        return read_whole(Path(source))
    path = resolve_weights(source)
    read = [_read_file(part) for part in parts_of(path) or [path]]
    state, meta = {name: tensor for part, _ in read for name, tensor in part.items()}, read[0][1]
    origin = origin_of(path)
    if origin:
        meta['origin'] = origin
    return state, meta


def _read_file(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    with open_checkpoint(path) as content:
        state = find_state_dict(content.data)
        if not state:
            there = list(map(repr, content.data)) if isinstance(content.data, Mapping) else []
            what = f'it has {", ".join(there[:8])}' if there else 'no tensors by name'
            raise CheckpointError(f'holds no weights ({what}); give a model checkpoint')
        content.fill(state.values())
        meta = content.data.get('meta') or content.meta
    meta = to_plain(meta) if isinstance(meta, Mapping) else {}
    if content.kind.endswith('program'):
        meta['container'] = content.kind
    return state, meta


def find_state_dict(content: Any) -> dict[str, torch.Tensor]:
    """Find the state dict in what a checkpoint file holds; ``{}`` when there is none.

    It is under a usual name, or the only one with an encoder.

    Raises:
        CheckpointError: Several entries hold an encoder.
    """
    if not isinstance(content, Mapping):
        return {}
    for key in _STATE_KEYS:
        inner = find_state_dict(content.get(key))
        if inner:
            return inner
    if own := _tensors(content):
        return own
    inside = {key: _tensors(value) for key, value in content.items() if isinstance(value, Mapping)}
    found = {key: state for key, state in inside.items() if any(name.endswith(ANCHOR) for name in state)}
    if len(found) > 1:
        raise CheckpointError(f'holds several models, under {" and ".join(map(repr, found))}; save the one you want')
    return next(iter(found.values()), {})


def _tensors(content: Mapping) -> dict[str, torch.Tensor]:
    return {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}


def check_finite(state: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse weights that are not numbers, and those that were never written.

    Raises:
        CheckpointError: NaN or infinity, or a matrix of zeros among others that are none; the tensor is named.
    """

    def look(tensor: torch.Tensor) -> str:
        if not tensor.is_floating_point() or tensor.is_meta:
            return ''
        # One pass without a copy; only a sum that overflowed, or is 0, needs a look at each number.
        total = float(tensor.sum(dtype=torch.float32 if tensor.dtype.itemsize < 8 else None))
        if not math.isfinite(total) and not torch.isfinite(tensor.float()).all():
            return 'not finite'
        return 'zero' if total == 0 and not tensor.float().any() else 'numbers'

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        kinds = dict(zip(state, pool.map(look, state.values()), strict=True))
    bad = [name for name, kind in kinds.items() if kind == 'not finite']
    also = f' (and {len(bad) - 1} more tensors)' if len(bad) > 1 else ''
    if bad:
        raise CheckpointError(
            f'{source}: {bad[0]}{also} holds NaN or infinity; the training that wrote it had diverged: take an '
            'earlier checkpoint'
        )
    # A download that reserves its space before it fills it.
    matrices = {name: kind for name, kind in kinds.items() if state[name].ndim > 1 and name.endswith('.weight')}
    empty = [n for n, kind in matrices.items() if kind == 'zero' and not is_adapter(n) and not _ADDS.search(n)]
    if empty and 'numbers' in matrices.values():
        raise CheckpointError(
            f'{source}: {empty[0]} is all zeros, as in a file that was not copied or downloaded to its end; get it '
            'again'
        )


def save_plain(content: Mapping, path: str | Path) -> None:
    """Write a checkpoint of tensors and plain data whole or not at all (temporary name, then rename)."""
    # Through an open file: torch then passes on why the system refused to write.
    with replace_when_done(path) as temporary, open(temporary, 'wb') as file:
        torch.save(to_plain(content), file)


def save_weights(state: Mapping[str, torch.Tensor], meta: Mapping, path: str | Path) -> None:
    """Write weights and plain data whole or not at all, in the format of the suffix.

    Args:
        path: ``.safetensors``, or ``.pth`` / ``.pt``.
    """
    if Path(path).suffix != '.safetensors':
        save_plain({'state_dict': dict(state), 'meta': meta}, path)
        return
    from safetensors.torch import save_file

    notes = {'format': 'pt', **{str(key): json.dumps(to_plain(value)) for key, value in meta.items()}}
    tensors, seen = {}, set()
    for name, tensor in state.items():
        pointer = tensor.untyped_storage().data_ptr()
        # The format has no shared memory: whatever lies in another tensor's storage is copied.
        tensors[name] = tensor.clone() if pointer in seen or not tensor.is_contiguous() else tensor
        seen.add(pointer)
    with replace_when_done(path) as temporary:
        save_file(tensors, str(temporary), metadata=notes)
