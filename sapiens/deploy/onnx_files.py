# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""ONNX files."""

from __future__ import annotations

from pathlib import Path

import torch

from ..utils.optional import need
from .facts import KEY
from .graph import DeployGraph, trace

OPSET = 20
"""What TensorRT, OpenVINO and NNCF of today read; Gelu and both norms are one node each."""
OPSET_OF_BFLOAT16 = 22
"""The first whose convolutions may be of bfloat16."""
LARGEST = 1.8e9
"""Bytes of weights in one file: the format ends at 2 GB; more lie in a second file beside it."""


def write(
    graph: DeployGraph, text: str, path: Path, dtype: str = 'float32', images: torch.Tensor | None = None
) -> None:
    """Write a graph, see `sapiens.deploy.export`.

    Args:
        dtype: ``'int8'`` stores the weights of linear layers in 8 bits and rounds their inputs, by the range of each
            input; nothing is calibrated.
    """
    need('onnx', 'exporting', extra='export')
    need('onnxscript', 'exporting', extra='export')
    program = torch.onnx.export(
        trace(graph), dynamo=True, opset_version=OPSET_OF_BFLOAT16 if dtype == 'bfloat16' else OPSET,
        input_names=['images'], output_names=graph.output_names, verbose=False,
    )  # fmt: skip
    program.model.metadata_props[KEY] = text
    large = sum(p.nbytes for p in graph.parameters()) > LARGEST
    program.save(str(path), external_data=large)
    if dtype == 'int8':
        _quantise(path, large)


def _quantise(path: Path, large: bool) -> None:
    need('onnxruntime', 'exporting', extra='export')
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    exact = path.rename(path.with_name(f'exact_{path.name}'))
    nodes = onnx.load(str(exact), load_external_data=False).graph.node
    # Those with a layer's weights; the products of the decoding have none.
    layers = [
        node.name for node in nodes if node.op_type in ('MatMul', 'Gemm') and any('model.' in i for i in node.input)
    ]
    quantize_dynamic(
        str(exact), str(path), per_channel=True, weight_type=QuantType.QInt8, nodes_to_quantize=layers,
        use_external_data_format=large,
    )  # fmt: skip
    for file in path.parent.glob(f'{exact.name}*'):
        file.unlink()
