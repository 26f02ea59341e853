# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Checkpoints that every process writes its part of, in the background, and that any number of processes can read.

A checkpoint ``iter_N.dcp`` is a folder of `torch.distributed.checkpoint` with ``training.pth``, the plain data, in it.
It has another name until it is complete. All processes need to see the folder (a shared file system).
"""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import is_main_process
from torch import nn

from .containers import CheckpointError
from .files import load_plain, save_plain

SUFFIX = '.dcp'
_PLAIN = 'training.pth'
# Classes of torch's index; nothing else is unpickled.
_INDEX_MODULES = ('torch.distributed.checkpoint.metadata', 'torch.distributed.checkpoint.filesystem')
_INDEX_CLASSES = (
    'Metadata', 'MetadataIndex', 'StorageMeta', 'TensorStorageMetadata', 'BytesStorageMetadata', 'ChunkStorageMetadata',
    'TensorProperties', '_MEM_FORMAT_ENCODING', '_StorageInfo', 'StorageEncoding',
)  # fmt: skip


class ShardWriter:
    """Writes one checkpoint at a time, while training goes on."""

    def __init__(self) -> None:
        self._group: Any = None
        self._pending: tuple[Path, Path, Any] | None = None

    def start(self, folder: Path, plain: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Copy tensors and begin to write them; every process must call it, and `finish` before.

        Args:
            folder: Of the checkpoint.
            plain: What is no tensor, of the main process.
            tensors: Nested; each process gives its part of sharded ones.
        """
        from torch.distributed.checkpoint import async_save

        if self._group is None:
            # A group of its own: messages of the background must not meet those of the training.
            self._group = dist.new_group(backend='gloo')
        partial = folder.with_name(f'{folder.name}.part')
        if is_main_process():
            shutil.rmtree(partial, ignore_errors=True)
            save_plain(plain, partial / _PLAIN)
        dist.barrier(self._group)
        self._pending = folder, partial, async_save(tensors, checkpoint_id=str(partial), process_group=self._group)

    def is_done(self) -> bool:
        """Whether one is waiting for `finish`, which will not take long."""
        return self._pending is not None and self._pending[2].done()

    def finish(self) -> None:
        """Wait until the checkpoint that was begun, if any, is complete, and give it its name.

        Raises:
            CheckpointError: A process could not write its part; what was written is removed.
        """
        if self._pending is None:
            return
        (folder, partial, future), self._pending = self._pending, None
        from torch.distributed.checkpoint.api import CheckpointException

        try:
            future.result()
            if is_main_process():
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(partial, folder)
        except (Exception, CheckpointException) as error:  # torch hands over whatever the processes raised
            if is_main_process():
                shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(f'{folder}: not saved ({_reason(error)})') from error


def _reason(error: BaseException) -> str:
    failures = getattr(error, 'failures', None)
    if failures:
        rank, (cause, *_) = next(iter(failures.items()))
        return f'process {rank}: {" ".join(str(cause).split())[:300]}'
    return ' '.join(str(error).split())[:300]


def read_plain(folder: Path) -> dict[str, Any]:
    """What is no tensor in a checkpoint.

    Raises:
        CheckpointError: It is not complete.
    """
    if not (folder / '.metadata').is_file():
        raise CheckpointError(f'{folder}: the checkpoint is not complete; take another one')
    return load_plain(folder / _PLAIN)


def read_shards(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: dict | None) -> None:
    """Fill a model, its optimiser and its moving average, sharded in whatever way; every process must call it.

    Args:
        folder: The checkpoint.
        model: Of the same config.
        average: Name -> tensor, filled in place; None: there is none.

    Raises:
        CheckpointError: It is for another model, or damaged.
    """
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    reader = _reader(folder)
    known = reader.read_metadata().state_dict_metadata
    weights = dict(model.state_dict())
    tensors: dict[str, Any] = {'state_dict': weights}
    if any(key.startswith('ema_state_dict.') for key in known):
        # As in files: `state_dict` is the average, and the weights that were trained are the other one.
        mine = {name: average[name] if average else torch.empty_like(value) for name, value in weights.items()}
        tensors = {'state_dict': mine, 'ema_state_dict': {f'module.{name}': value for name, value in weights.items()}}
    state = get_optimizer_state_dict(model, optimizer)
    tensors['optimizer'] = state['state']
    missing = sorted(f'state_dict.{name}' for name in weights if f'state_dict.{name}' not in known)
    if missing:
        raise CheckpointError(f'{folder}: is for another model: {missing[0].partition(".")[2]} is not in it')
    _load(tensors, reader, folder, no_dist=not dist.is_initialized())
    set_optimizer_state_dict(model, optimizer, state)


def read_whole(folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Whole weights (the moving average, if there is one) and ``meta`` of a checkpoint; one process is enough.

    Raises:
        CheckpointError: It is not complete, or damaged.
    """
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    meta = read_plain(folder).get('meta', {})
    reader = _reader(folder)
    tensors = {
        key: torch.empty(entry.size, dtype=entry.properties.dtype)
        for key, entry in reader.read_metadata().state_dict_metadata.items()
        if key.startswith('state_dict.') and isinstance(entry, TensorStorageMetadata)
    }
    _load(tensors, reader, folder, no_dist=True)
    return {key.partition('.')[2]: value for key, value in tensors.items()}, meta


def _load(tensors: dict[str, Any], reader: Any, folder: Path, no_dist: bool) -> None:
    from torch.distributed.checkpoint import load
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        load(tensors, storage_reader=reader, no_dist=no_dist)
    except (Exception, CheckpointException) as error:
        raise CheckpointError(f'{folder}: cannot be read ({_reason(error)})') from error


def _reader(folder: Path) -> Any:
    from torch.distributed.checkpoint import FileSystemReader

    class Reader(FileSystemReader):
        """Reads the index without running anything in it."""

        def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
            try:
                with open(folder / '.metadata', 'rb') as file:
                    metadata = _IndexUnpickler(file).load()
            except (OSError, EOFError, pickle.UnpicklingError, ValueError, AttributeError, IndexError) as error:
                raise CheckpointError(f'{folder}: the index cannot be read ({error}); take another one') from None
            if metadata.storage_meta is not None:
                metadata.storage_meta.load_id = self.load_id
            return metadata

    return Reader(str(folder))


class _IndexUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = module in _INDEX_MODULES and name in _INDEX_CLASSES
        of_torch = module == 'torch' and (name == 'Size' or isinstance(getattr(torch, name, None), torch.dtype))
        path = module in ('pathlib', 'pathlib._local') and name in ('PosixPath', 'WindowsPath')
        if known or of_torch or path or (module, name) == ('torch.serialization', '_get_layout'):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'it names {module}.{name}')
