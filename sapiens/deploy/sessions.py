# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The libraries that run exported files, behind one small interface."""

from __future__ import annotations

import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..utils.optional import need
from .facts import KEY


class Session(ABC):
    """An open file that runs.

    Args:
        path: The file.

    Raises:
        UserError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._chosen: tuple[Any, ...] = ()
        self._one_run = threading.Lock()  # for libraries that run one batch at a time

    @abstractmethod
    def metadata(self) -> str | None:
        """What the file says about itself; None if it says nothing."""

    @abstractmethod
    def channels(self) -> dict[str, int]:
        """Outputs by name, with the size of their second axis."""

    def prepare(self, device: torch.device, dtype: torch.dtype) -> None:
        """Choose where and in which precision to compute, before the first run, if there is a choice."""
        self._chosen = device, dtype

    def __reduce__(self) -> tuple:
        # No library's session can be copied or sent to another process: there, the file is opened again.
        return _open_again, (type(self), self.path.absolute(), self._chosen)

    @abstractmethod
    def run(self, images: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """``(B, 3, H, W)`` uint8 -> the outputs of these names; several threads may call it."""


class OnnxSession(Session):
    """ONNX by onnxruntime, on the CPU, or a GPU where its package for GPUs is installed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.library = need('onnxruntime', 'an .onnx file', extra='onnx')
        self._session = self._open(['CPUExecutionProvider'])

    def _open(self, providers: list[str]) -> Any:
        options = self.library.SessionOptions()
        options.log_severity_level = 3
        if threads := _threads():
            options.intra_op_num_threads = int(threads)
        with _reading(self.path):
            return self.library.InferenceSession(str(self.path), options, providers=providers)

    def metadata(self) -> str | None:
        """See `Session`."""
        return self._session.get_modelmeta().custom_metadata_map.get(KEY)

    def channels(self) -> dict[str, int]:
        """See `Session`."""
        return {output.name: output.shape[1] for output in self._session.get_outputs()}

    def prepare(self, device: torch.device, dtype: torch.dtype) -> None:
        """See `Session`; the precision is that of the file."""
        super().prepare(device, dtype)
        if device.type == 'cuda' and 'CUDAExecutionProvider' in self.library.get_available_providers():
            self._session = self._open(['CUDAExecutionProvider', 'CPUExecutionProvider'])

    def run(self, images: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """See `Session`; tasks that are not asked for cost nothing."""
        options = self.library.RunOptions()
        options.only_execute_path_to_fetches = True
        with _reading(self.path):
            return dict(zip(names, self._session.run(list(names), {'images': images}, options), strict=True))


class OpenVinoSession(Session):
    """OpenVINO's own format, or ONNX, on Intel and other CPUs (and Intel's GPUs)."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.library = need('openvino', 'an OpenVINO file', extra='openvino')
        self.dtype = torch.float32
        self._compiled: dict[tuple[str, ...], Any] = {}
        with _reading(path):
            self._model = self.library.Core().read_model(path)

    def metadata(self) -> str | None:
        """See `Session`."""
        for place in ([KEY], ['framework', KEY]):
            if self._model.has_rt_info(place):
                return self._model.get_rt_info(place).astype(str)
        return None

    def channels(self) -> dict[str, int]:
        """See `Session`."""
        return {output.get_any_name(): output.get_partial_shape()[1].get_max_length() for output in self._model.outputs}

    def prepare(self, device: torch.device, dtype: torch.dtype) -> None:
        """See `Session`; by itself OpenVINO would take bf16 wherever there is any."""
        super().prepare(device, dtype)
        self.dtype = dtype

    def run(self, images: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """See `Session`; for each choice of tasks the graph is cut down to it and compiled once."""
        key = tuple(names)
        with self._one_run, _reading(self.path):  # a compiled model has one set of inputs and outputs
            if key not in self._compiled:
                self._compiled[key] = self._compile(key)
            found = self._compiled[key]([images])
            return {name: np.array(found[i]) for i, name in enumerate(key)}

    def _compile(self, names: tuple[str, ...]) -> Any:
        library, model = self.library, self._model
        hint = {torch.bfloat16: 'bf16', torch.float16: 'f16'}.get(self.dtype, 'f32')
        options = {'INFERENCE_PRECISION_HINT': hint}
        if threads := _threads():
            options['INFERENCE_NUM_THREADS'] = threads
        results = [model.output(name).get_node() for name in names]
        part = library.Model(results, model.get_parameters(), 'part')
        return library.Core().compile_model(part, 'CPU', options)


class ExecuTorchSession(Session):
    """ExecuTorch's own format on a CPU, one image after the other; it computes every output of the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        library = need('executorch.runtime', 'a .pte file', extra='executorch')
        with _reading(path):
            self._program = library.Runtime.get().load_program(path)
            self._method = self._program.load_method('forward')
            text = self._program.load_method(KEY).execute([])[0] if KEY in self._program.method_names else None
            tasks = json.loads(text)['tasks'].values() if text else ()
            self._text, self._names = text, [name for task in tasks for name in task['outputs']]

    def metadata(self) -> str | None:
        """See `Session`."""
        return self._text

    def channels(self) -> dict[str, int]:
        """See `Session`."""
        found = self._method.metadata
        return {name: found.output_tensor_meta(i).sizes()[1] for i, name in enumerate(self._names)}

    def run(self, images: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """See `Session`."""
        found = []
        for image in torch.from_numpy(images):
            with self._one_run:  # the next run writes into the same memory
                found.append([output.numpy().copy() for output in self._method.execute([image[None].contiguous()])])
        return {name: np.concatenate([one[self._names.index(name)] for one in found]) for name in names}


def _open_again(kind: type[Session], path: Path, chosen: tuple[Any, ...]) -> Session:
    session = kind(path)
    if chosen:
        session.prepare(*chosen)
    return session


def _threads() -> str:
    """What the user allows, at the outermost level of OpenMP's list; empty for all."""
    return os.environ.get('OMP_NUM_THREADS', '').partition(',')[0]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What a library says about a file, as one line."""
    try:
        yield
    except Exception as error:  # the libraries' errors have no class in common
        line = next((line for line in str(error).splitlines()[::-1] if line.strip()), type(error).__name__)
        # onnxruntime's own word for an operator or precision that it cannot compute, as bfloat16 on CPUs.
        mend = 'in float32, since what runs it here lacks that' if type(error).__name__ == 'NotImplemented' else 'again'
        message = f'{path}: {type(error).__name__}: {line.strip()[:200]}; export it {mend} with sapiens export'
        raise UserError(message) from None


SESSIONS: dict[str, type] = {'.onnx': OnnxSession, '.xml': OpenVinoSession, '.pte': ExecuTorchSession}
"""Suffix of a file -> what opens it."""
