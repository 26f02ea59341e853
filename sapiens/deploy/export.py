# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Write a model as a file that runs without the training code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..utils.files import replace_when_done
from . import facts as file_facts
from .graph import DeployGraph
from .sessions import need

SUFFIXES = {'onnx': '.onnx', 'torch-export': '.pt2'}
"""Format -> suffix of its files."""
DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}
_OPSET = 20
_LARGEST = 1.8e9  # bytes that one ONNX file may hold, of the format's 2 GB


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
    if path.suffix != SUFFIXES[format]:
        raise UserError(f'{path}: files of the format {format} end in {SUFFIXES[format]}')
    graph = DeployGraph(model, tasks)
    write = _WRITERS[format]
    model.requires_grad_(False).set_precision(DTYPES[dtype])
    text = file_facts.dumps(file_facts.describe(graph, dataset, dtype, licence))
    write(graph, text, path)
    return graph


def trace(graph: DeployGraph) -> torch.export.ExportedProgram:
    """The graph with a dynamic batch, as PyTorch's exporters take it."""
    batch = torch.export.Dim('batch', min=1, max=1024)
    with torch.no_grad():
        return torch.export.export(graph, (graph.example(),), dynamic_shapes={'images': {0: batch}}, strict=False)


def _write_onnx(graph: DeployGraph, text: str, path: Path) -> None:
    need('onnx', 'export')
    need('onnxscript', 'export')
    program = torch.onnx.export(
        trace(graph), dynamo=True, opset_version=_OPSET, input_names=['images'], output_names=graph.output_names,
        verbose=False,
    )  # fmt: skip
    program.model.metadata_props[file_facts.KEY] = text
    large = sum(p.nbytes for p in graph.parameters()) > _LARGEST
    if not large:
        with replace_when_done(path) as temporary:
            program.save(str(temporary), external_data=False)
        return
    # The weights lie beside the graph, under a name that the graph holds.
    with replace_when_done(path.with_name(f'{path.stem}.tmp'), folder=True) as folder:
        program.save(str(folder / path.name), external_data=True)
        for file in sorted(folder.iterdir(), reverse=True):
            file.replace(path.with_name(file.name))


def _write_torch_export(graph: DeployGraph, text: str, path: Path) -> None:
    program = trace(graph)
    with replace_when_done(path) as temporary, open(temporary, 'wb') as file:
        torch.export.save(program, file, extra_files={file_facts.KEY: text})


_WRITERS: dict[str, Callable[[DeployGraph, str, Path], None]] = {
    'onnx': _write_onnx,
    'torch-export': _write_torch_export,
}
