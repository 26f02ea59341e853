# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Unpickle a checkpoint without running anything that it names: no import, no call, no class of its own.

Each name that a pickle asks for gets a stand-in from this file: a builder of tensors or arrays, a plain container, or
an inert class that keeps its state and does nothing. Objects of unknown classes become inert too; an unknown *function*
that a pickle wants to call is refused, since a file that calls things is no file of weights.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

STORAGES = {
    'Double': torch.float64, 'Float': torch.float32, 'Half': torch.float16, 'BFloat16': torch.bfloat16,
    'Long': torch.int64, 'Int': torch.int32, 'Short': torch.int16, 'Char': torch.int8, 'Byte': torch.uint8,
    'Bool': torch.bool, 'ComplexDouble': torch.complex128, 'ComplexFloat': torch.complex64, 'Untyped': torch.uint8,
}  # fmt: skip
_BUILTINS = (bool, complex, dict, float, frozenset, int, list, set, str, tuple)
# Packages whose objects are often left in checkpoints by a call (paths, enums, settings): inert when called, too.
_CALLED_INERT = re.compile(
    r'(mm(engine|cv|pose|seg|det|cls|pretrain)|lightning|pytorch_lightning|lightning_\w+|torchmetrics|omegaconf|'
    r'deepspeed|transformers|timm|yacs|addict|argparse|pathlib|datetime|enum|uuid|decimal)(\.|$)'
)
_DICTS = re.compile(r'OrderedDict|defaultdict|Counter|ConfigDict|Config|AttributeDict|(Easy|Attr)Dict|Dict|CfgNode')


class Storage(NamedTuple):
    """Bytes of one or several tensors, and what they are numbers of."""

    untyped: torch.UntypedStorage
    dtype: torch.dtype
    start: int = 0


class InertDict(dict):
    """Any class of dicts; its attributes are dropped."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        items = next((a for a in args if isinstance(a, (Mapping, list))), ())
        super().__init__(items, **kwargs)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict) and set(state) == {'_cfg_dict'}:  # mmengine's Config
            self.update(state['_cfg_dict'])


class _InertType(type):
    name: str
    called: bool

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if not cls.called:
            raise pickle.UnpicklingError(f'calls `{cls.name}`')
        return cls.__new__(cls, *args, **kwargs)  # type: ignore[arg-type]


class Inert(metaclass=_InertType):
    """An object of any class: keeps the state and does nothing."""

    name, called = '', False
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:  # noqa: D102
        thing = object.__new__(cls)
        thing.state = args
        return thing

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Items of a class of lists are dropped."""

    def __str__(self) -> str:
        return f'<{self.name}>'


class ForeignHistory:
    """Inert stand-in for mmengine's ``HistoryBuffer`` in files that other trainers wrote: it keeps the numbers only."""

    def __setstate__(self, state: dict) -> None:
        self.log_history = np.asarray(to_plain(state.get('_log_history', [])), dtype=np.float64)
        self.count_history = np.asarray(to_plain(state.get('_count_history', [])), dtype=np.float64)
        self.max_length = int(state.get('max_length', 1000000))


class _DType:
    """A numpy dtype of plain numbers or text; what its state adds is the order of bytes alone."""

    def __init__(self, code: str, *_: Any) -> None:
        known = re.fullmatch(r'[<>|=]?([biufcSU]\d*|[?O]8?)', str(code))
        self.code, self.order = (known[1], '<') if known else ('', '')

    def __setstate__(self, state: tuple) -> None:
        self.order = '>' if state[1] == '>' else '<'

    def array(self, raw: Any, shape: Any, by_columns: bool = False) -> np.ndarray:
        if by_columns:
            return self.array(raw, shape[::-1]).T
        if not self.code:
            return np.array('<array of an unusual type>')
        if self.code[0] == 'O':
            values = np.empty(len(raw), dtype=object)
            values[:] = raw
            return values.reshape(shape)
        return np.frombuffer(raw, np.dtype(self.order + self.code)).reshape(shape).copy()


class _Array:
    """A numpy array, whose content a pickle tells after it was made."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, by_columns, raw = state
        self.array = dtype.array(raw, shape, by_columns)


class Unpickler(pickle._Unpickler):
    """Reads one pickle; see the top of this file.

    It is Python's own of the two that come with Python: the other takes memory for as many objects as a damaged byte
    promises. A checkpoint's pickle is small, the numbers lie elsewhere.

    Args:
        find_storage: ``(key, number of bytes) -> storage``, for tensors.

    Raises:
        pickle.UnpicklingError: The pickle calls something unknown; the message names it.
    """

    stack: list

    def __init__(self, file: BinaryIO, find_storage: Callable[[str, int], torch.UntypedStorage] | None = None) -> None:
        super().__init__(file, encoding='utf-8')
        self._find_storage = find_storage
        self._classes: dict[str, type] = {}
        self._known: dict[str, Any] = {
            'torch._utils._rebuild_tensor_v2': self._tensor,
            'torch._utils._rebuild_tensor_v3': self._tensor_of_dtype,
            'torch._utils._rebuild_parameter': self._first,
            'torch._utils._rebuild_parameter_with_state': self._first,
            'torch._tensor._rebuild_from_type_v2': self._subclass,
            'torch.nn.parameter.Parameter': self._first,
            'torch.Size': tuple,
            'torch.device': lambda *parts: ':'.join(map(str, parts)),
            'numpy.ndarray': _Array,
            'numpy.dtype': _DType,
            '_codecs.encode': self._encode,
            'mmengine.logging.history_buffer.HistoryBuffer': ForeignHistory,
            'numpy.core.multiarray._reconstruct': lambda *_: _Array(),
            'numpy.core.multiarray.scalar': self._scalar,
            'numpy.core.numeric._frombuffer': lambda raw, kind, shape, order: kind.array(raw, shape, order == 'F'),
            **{f'torch.jit._pickle.build_{kind}list': self._first for kind in ('int', 'double', 'bool', 'tensor')},
            'torch.jit._pickle.restore_type_tag': self._first,
            'builtins.getattr': self._attribute,
            **{f'builtins.{kind.__name__}': kind for kind in _BUILTINS},
        }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; nothing is imported."""
        module = 'builtins' if module == '__builtin__' else re.sub(r'^numpy\._core\.', 'numpy.core.', module)
        full = f'{module}.{name}'
        if full in self._known:
            return self._known[full]
        if module in ('torch', 'torch.cuda', 'torch.storage'):
            dtype = getattr(torch, name, None) if module == 'torch' else None
            dtype = dtype if isinstance(dtype, torch.dtype) else STORAGES.get(name.removesuffix('Storage'))
            if dtype is not None:
                return dtype
        if _DICTS.fullmatch(name):
            return InertDict
        if full not in self._classes:
            called = bool(_CALLED_INERT.match(module)) or module.startswith('numpy.dtypes')
            self._classes[full] = _InertType(name, (Inert,), {'name': full, 'called': called})
        return self._classes[full]

    def load_build(self) -> None:
        """Set the state of a stand-in; of nothing else, since all else here is shared."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], (InertDict, Inert, ForeignHistory, _DType, _Array)):
            self.stack[-1].__setstate__(state)

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}  # type: ignore[dict-item]

    def persistent_load(self, key: tuple) -> Storage:
        """The bytes of a tensor."""
        if self._find_storage is None or key[0] != 'storage':
            raise pickle.UnpicklingError(f'refers to a {key[0]} outside of it')
        dtype, name, count = key[1], str(key[2]), key[4]
        untyped = self._find_storage(name, count * dtype.itemsize)
        view = key[5] if len(key) > 5 else None  # of the oldest format
        return Storage(untyped, dtype, view[1] if view else 0)

    @staticmethod
    def _tensor(storage: Storage, offset: int, size: Iterable, stride: Iterable, *_: Any) -> torch.Tensor:
        size = tuple(size)
        if math.prod(size) > max(1 << 28, storage.untyped.nbytes()):
            raise ValueError('a tensor is larger than its bytes')
        return torch.empty(0, dtype=storage.dtype).set_(storage.untyped, storage.start + offset, size, tuple(stride))

    def _tensor_of_dtype(self, storage: Storage, offset: int, size: Iterable, stride: Iterable, gradient: bool,
                         hooks: Any, dtype: torch.dtype, *_: Any) -> torch.Tensor:  # fmt: skip
        return self._tensor(Storage(storage.untyped, dtype), offset, size, stride)

    def _subclass(self, build: Callable, kind: Any, arguments: tuple, state: Any) -> Any:
        if build not in (self._tensor, self._tensor_of_dtype, self._first):
            raise pickle.UnpicklingError('holds a tensor of an unknown class')
        return build(*arguments)

    @staticmethod
    def _first(thing: Any = None, *_: Any) -> Any:
        return thing

    @staticmethod
    def _encode(text: str, encoding: str) -> bytes:
        if encoding != 'latin1':
            raise pickle.UnpicklingError(f'encodes bytes as {encoding}')
        return text.encode('latin1')

    @staticmethod
    def _scalar(dtype: _DType, raw: Any) -> Any:
        return raw if dtype.code[:1] == 'O' else dtype.array(raw, (1,))[0]

    @staticmethod
    def _attribute(owner: Any, name: str) -> str:
        """For the methods that pickled histories list: gives the name back, looks nothing up."""
        if owner is not ForeignHistory:
            raise pickle.UnpicklingError('calls `getattr`')
        return str(name)


def to_plain(data: Any, keep_arrays: bool = False) -> Any:
    """What a weights-only load accepts: arrays become lists, numpy scalars Python's, what is not plain its text.

    Args:
        keep_arrays: Leave numpy arrays and logged histories what they are.
    """
    # What stands in many places is turned once, whatever a file makes of it; the originals keep their ids alive.
    done: dict[int, tuple[Any, Any]] = {}

    def turn(thing: Any) -> Any:
        if isinstance(thing, np.generic):  # first, since np.float64 is a float too
            return thing.item()
        if thing is None or isinstance(thing, (bool, int, float, str)):
            return thing
        if isinstance(thing, torch.Tensor):
            return thing.detach() if thing.requires_grad else thing
        if id(thing) not in done:
            done[id(thing)] = thing, turn_once(thing)
        return done[id(thing)][1]

    def turn_once(thing: Any) -> Any:
        if isinstance(thing, Mapping):
            return {k if isinstance(k, (int, str, float, bool, tuple)) else str(k): turn(v) for k, v in thing.items()}
        if isinstance(thing, _Array):
            thing = thing.array
        if isinstance(thing, (np.ndarray, ForeignHistory)) and keep_arrays:
            return thing
        if isinstance(thing, np.ndarray):
            return turn_once(thing.tolist()) if thing.dtype == object else thing.tolist()
        if isinstance(thing, (list, set, frozenset)):
            return [turn(v) for v in thing]
        if isinstance(thing, tuple):
            return tuple(turn(v) for v in thing)
        return str(thing)

    return turn(data)


def plain_or_module(loaded: Any) -> Any:
    """Plain data; of a module that was saved as an object, alone or in a dict, its weights by name."""
    if isinstance(loaded, Inert):
        return dict(_weights_of(loaded, '', set()))
    if isinstance(loaded, dict):
        modules = {key: plain_or_module(value) for key, value in loaded.items() if isinstance(value, Inert)}
        loaded = {**loaded, **{key: weights for key, weights in modules.items() if weights}}
    return to_plain(loaded, keep_arrays=True)


def _weights_of(module: Inert, prefix: str, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    if id(module) in seen or not isinstance(module.state, Mapping):
        return
    seen.add(id(module))
    members = dict(module.state)
    for kind in ('_parameters', '_buffers', '_modules'):  # of an `nn.Module`; TorchScript has them side by side
        members |= members.pop(kind, None) or {}
    for name, value in members.items():
        if isinstance(value, torch.Tensor):
            yield f'{prefix}{name}', value.detach()
        elif isinstance(value, Inert):
            yield from _weights_of(value, f'{prefix}{name}.', seen)
