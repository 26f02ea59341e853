# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Write a model as a file that runs without the training code."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from . import facts as file_facts
from . import onnx_files, openvino_files, phone_files
from .graph import DeployGraph, trace

SUFFIXES = {
    'onnx': '.onnx',
    'torch-export': '.pt2',
    'openvino': '.xml',
    'executorch': '.pte',
    'coreml': '.mlpackage',
    'tensorrt': '.plan',
}
"""Format -> suffix of its files."""
DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


def export_model(
    model: Any,
    dataset: Mapping,
    path: str | Path,
    format: str = 'onnx',
    dtype: str = 'float32',
    tasks: tuple[str, ...] | None = None,
    licence: str = 'not stated',
    images: torch.Tensor | None = None,
) -> DeployGraph:
    """Export an estimator: encoder, heads and decoding in one graph, with any batch size.

    Args:
        model: A `HumanEstimator` with weights; its precision is changed to ``dtype``.
        dataset: Config of the data of tests (``pipeline``, ``input_size``), which the file carries.
        path: File to write.
        format: Of `SUFFIXES`.
        dtype: Of encoder and heads, of `DTYPES`.
        tasks: Heads to export; None = all.
        licence: Of the weights, for the file's metadata.
        images: ``(N, 3, H, W)`` uint8 inputs, which int8 is calibrated on.

    Returns:
        The graph that was exported, to compare with.

    Raises:
        UserError: The model cannot be exported, the suffix is not the format's, or a package is missing.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIXES[format]:
        raise UserError(f'{path}: files of the format {format} end in {SUFFIXES[format]}')
    graph = DeployGraph(model, tasks, decode=format != 'coreml')  # which computes indices in floating point
    if format == 'tensorrt':
        raise UserError(f'{path}: an engine of TensorRT is made on the machine with the GPU, of an ONNX file (sapiens '
                        f'export ... --out {path.stem}.onnx): {trtexec(path.stem, graph.input_size)}')  # fmt: skip
    if dtype not in _PRECISIONS[format]:
        raise UserError(f'{format} files have weights in {", ".join(_PRECISIONS[format])}, not in {dtype}')
    # OpenVINO and Core ML round the weights themselves as they write them, and quantisation starts from float32.
    own = format in ('openvino', 'coreml')
    model.requires_grad_(False).set_precision(torch.float32 if own else DTYPES.get(dtype, torch.float32))
    text = file_facts.dumps(file_facts.describe(graph, dataset, dtype, licence))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='.export') as folder:
        _WRITERS[format](graph, text, Path(folder) / path.name, dtype, images)
        # Weights that lie beside the file first: once it is there, it is whole.
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
            if path.is_dir():
                shutil.rmtree(path)
            file.replace(path.with_name(file.name))
    return graph


def trtexec(name: str, size: tuple[int, int], batch: int = 32) -> str:
    """The command that makes an engine of TensorRT of ``name.onnx``, for batches up to one size."""
    shapes = ' '.join(
        f'--{kind}Shapes=images:{n}x3x{size[0]}x{size[1]}'
        for kind, n in (('min', 1), ('opt', batch // 4), ('max', batch))
    )
    return f'trtexec --onnx={name}.onnx --saveEngine={name}.plan --bf16 {shapes}'


def _write_torch_export(graph: DeployGraph, text: str, path: Path, dtype: str, images: torch.Tensor | None) -> None:
    torch.export.save(trace(graph), path, extra_files={file_facts.KEY: text})


# Each takes the graph in the precision asked for, the text of the file's metadata, the file in a folder of its own, the
# format's `dtype`, and images ``(N, 3, H, W)`` uint8 to calibrate int8 on.
_WRITERS: dict[str, Callable] = {
    'onnx': onnx_files.write,
    'openvino': openvino_files.write,
    'torch-export': _write_torch_export,
    'executorch': phone_files.write_executorch,
    'coreml': phone_files.write_coreml,
}
_PRECISIONS = {
    'onnx': ('float32', 'float16', 'bfloat16', 'int8'),
    'openvino': ('float32', 'float16', 'int8', 'int8-weights'),
    'torch-export': ('float32', 'float16', 'bfloat16'),
    'executorch': ('float32',),
    'coreml': ('float32', 'float16'),
}
