# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Checkpoint files: read without running code from them, written whole or not at all."""

from __future__ import annotations

import contextlib
import difflib
import json
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..utils.files import replace_when_done


class CheckpointError(UserError):
    """A checkpoint file is missing, damaged, unsafe or made for another model."""


class ForeignHistory:
    """Inert stand-in for mmengine's ``HistoryBuffer`` in files that other trainers wrote: it keeps the numbers only."""

    def __setstate__(self, state: dict) -> None:
        self.log_history = np.asarray(state.get('_log_history', []), dtype=np.float64)
        self.count_history = np.asarray(state.get('_count_history', []), dtype=np.float64)
        self.max_length = int(state.get('max_length', 1000000))


def _history_method(owner: object, name: str) -> str:
    """Stand-in for ``getattr``, which pickled HistoryBuffers ask for: gives the name back, looks nothing up."""
    if owner is not ForeignHistory:
        raise pickle.UnpicklingError('getattr is refused')
    return str(name)


def _pose_as(thing: Any, module: str, name: str) -> Any:
    thing.__module__, thing.__name__, thing.__qualname__ = module, name, name
    return thing


# torch matches the names that a file asks for against ``__module__`` and ``__name__`` of what is allowed.
_pose_as(ForeignHistory, 'mmengine.logging.history_buffer', 'HistoryBuffer')
_pose_as(_history_method, 'builtins', 'getattr')


def _numpy_names() -> list[Any]:
    """What a pickled numpy array or scalar is made of: data only, whatever numpy wrote it."""
    try:
        from numpy._core import multiarray
    except ImportError:
        from numpy.core import multiarray
    dtype_classes = {type(np.dtype(code)) for code in 'bBhHiIlLqQefd?'}
    return [np.ndarray, np.dtype, multiarray._reconstruct, multiarray.scalar, *dtype_classes]


class _Alias:
    """A numpy function under the other name that numpy 1 or 2 gives it."""

    def __init__(self, function: Any, module: str) -> None:
        self.function = function
        self.__module__, self.__name__, self.__qualname__ = module, function.__name__, function.__name__

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def _allowed() -> list[Any]:
    names = _numpy_names()
    functions = [f for f in names if getattr(f, '__name__', '') in ('_reconstruct', 'scalar')]
    aliases = [_Alias(f, module) for f in functions for module in ('numpy.core.multiarray', 'numpy._core.multiarray')]
    return [*names, *aliases, ForeignHistory, _history_method]


@contextlib.contextmanager
def _allow_plain_data() -> Iterator[None]:
    """Let ``torch.load(weights_only=True)`` rebuild numpy data and inert histories, for the time of one load."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(_allowed())
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _check_file(path: Path) -> None:
    """Raise one clear line for what is no checkpoint at all."""
    if str(path).startswith(('http:', 'https:')):
        raise CheckpointError(f'{path}: download the file first and give its path')
    if path.is_dir():
        found = sorted(p.name for p in path.iterdir() if p.suffix in ('.pth', '.pt', '.safetensors'))
        hint = f'; give a file in it, e.g. {path / found[-1]}' if found else ''
        raise CheckpointError(f'{path}: is a folder, not a checkpoint file{hint}')
    if not path.is_file():
        near = []
        if path.parent.is_dir():
            near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
        hint = f"; did you mean '{path.parent / near[0]}'?" if near else '; check the path'
        raise CheckpointError(f'{path}: no such checkpoint file{hint}')
    if path.stat().st_size == 0:
        raise CheckpointError(f'{path}: the checkpoint is empty (0 bytes); copy or download it again')


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework='pt', device='cpu') as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            raw = file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(f'{path}: not a whole safetensors file ({error}); copy or download it again') from None
    meta = {}
    for key, value in raw.items():
        try:
            meta[key] = json.loads(value)
        except json.JSONDecodeError:
            meta[key] = value
    return state, meta


def load_plain(path: str | Path, map_location: str | torch.device = 'cpu', mmap: bool = False) -> Any:
    """Load a ``.pth`` file of tensors and plain data; nothing in it is run.

    Args:
        path: File written by ``torch.save``.
        map_location: Device of the tensors.
        mmap: Map the file into memory instead of reading it (for files that nobody changes meanwhile).

    Returns:
        What the file holds, usually a dict.

    Raises:
        CheckpointError: Missing, empty, truncated, a text file, or it asks to run code.
    """
    path = Path(path).expanduser()
    _check_file(path)
    with open(path, 'rb') as file:
        head = file.read(64)
    if not head.startswith((b'PK', b'\x80')):
        what = 'a Git LFS pointer: run `git lfs pull`' if head.startswith(b'version https://git-lfs') else (
            'not a PyTorch checkpoint (it does not begin like one); check that the download is the file itself'
        )  # fmt: skip
        raise CheckpointError(f'{path}: {what}')
    try:
        with _allow_plain_data():
            # Only the zip format can be mapped.
            mapped = mmap and head.startswith(b'PK')
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        asked = re.search(r'GLOBAL (\S+)', str(error))
        what = f'it asks for `{asked.group(1)}`' if asked else 'it holds more than tensors and plain data'
        raise CheckpointError(
            f'{path}: refused, since loading it could run code ({what}), or it is damaged; '
            'get a safetensors or weights-only file of these weights'
        ) from None
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = ' '.join(str(error).split())[:120]
        raise CheckpointError(
            f'{path}: damaged or truncated checkpoint ({reason}); copy or download it again'
        ) from None


def read_checkpoint(path: str | Path, mmap: bool = False) -> tuple[dict[str, torch.Tensor], dict]:
    """Read the weights of a checkpoint of any origin, on the CPU, without running code from it.

    Args:
        path: ``.safetensors``, or a ``torch.save`` file that holds a state dict, plain or under ``state_dict``,
            ``model`` or ``teacher``.
        mmap: See `load_plain`; safetensors are always mapped.

    Returns:
        ``(state_dict, meta)``: tensors by name, and the plain data stored beside them (``{}`` when there are none).

    Raises:
        CheckpointError: The file is missing, damaged, unsafe, or holds no weights.
    """
    path = Path(path).expanduser()
    _check_file(path)
    if path.suffix == '.safetensors':
        return _read_safetensors(path)
    content = load_plain(path, mmap=mmap)
    state = find_state_dict(content)
    if not state:
        raise CheckpointError(f'{path}: holds no weights (no tensors by name); give a model checkpoint')
    meta = content.get('meta', {}) if isinstance(content, Mapping) else {}
    return state, to_plain(meta) if isinstance(meta, Mapping) else {}


def find_state_dict(content: Any) -> dict[str, torch.Tensor]:
    """Find the state dict in what a checkpoint file holds; ``{}`` when there is none."""
    if not isinstance(content, Mapping):
        return {}
    for key in ('state_dict', 'model', 'teacher'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}


def to_plain(data: Any) -> Any:
    """Turn data into what a weights-only load accepts: tensors, numbers, text, lists and dicts.

    Arrays become lists, tuples stay, numpy scalars become Python's; anything else becomes its text.
    """
    if isinstance(data, np.generic):  # first, since np.float64 is a float too
        return data.item()
    if data is None or isinstance(data, (bool, int, float, str, torch.Tensor)):
        return data.detach() if isinstance(data, torch.nn.Parameter) else data
    if isinstance(data, Mapping):
        return {k if isinstance(k, (int, str, float, bool, tuple)) else str(k): to_plain(v) for k, v in data.items()}
    if isinstance(data, np.ndarray):
        return data.tolist()
    if isinstance(data, (list, set, frozenset)):
        return [to_plain(v) for v in data]
    if isinstance(data, tuple):
        return tuple(to_plain(v) for v in data)
    return str(data)


def save_plain(content: Mapping, path: str | Path) -> None:
    """Write a checkpoint of tensors and plain data whole or not at all (temporary name, then rename)."""
    # Through an open file: torch then passes on why the system refused to write.
    with replace_when_done(path) as temporary, open(temporary, 'wb') as file:
        torch.save(to_plain(content), file)
