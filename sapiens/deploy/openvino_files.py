# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Files of OpenVINO, in floating point and, by NNCF, in 8 bits."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..utils.optional import need
from . import onnx_files
from .facts import KEY
from .graph import RAW, DeployGraph


def write(
    graph: DeployGraph, text: str, path: Path, dtype: str = 'float32', images: torch.Tensor | None = None
) -> None:
    """Write a graph in float32, see `sapiens.deploy.export`.

    Args:
        path: The ``.xml``; the weights go into a ``.bin`` beside it.
        dtype: ``'float16'`` halves the file; ``'int8'`` quantises weights and activations, ``'int8-weights'`` the
            weights, for large models: calibrating takes ten times their memory.

    Raises:
        UserError: int8 without images.
    """
    library = need('openvino', 'exporting', extra='export')
    if dtype.startswith('int8'):
        need('nncf', 'exporting', extra='export')
    if dtype == 'int8' and images is None:
        raise UserError('int8 is calibrated on photographs of people: give a folder with --calibration')
    between = path.with_suffix('.onnx')
    onnx_files.write(graph, text, between)
    model = library.Core().read_model(between)
    if dtype.startswith('int8'):
        model = _quantise(model, images if dtype == 'int8' else None)
    model.set_rt_info(text, [KEY])
    library.save_model(model, path, compress_to_fp16=dtype == 'float16')
    del model  # it maps the other file
    for file in path.parent.glob(f'{between.name}*'):
        file.unlink()


def _quantise(model: Any, images: torch.Tensor | None) -> Any:
    nncf = need('nncf', 'exporting', extra='export')
    logging.getLogger('nncf').setLevel(logging.ERROR)
    names = {
        name: model.output(name).get_node().input_value(0).get_node() for name in RAW.values() if _has(model, name)
    }
    network = {node.get_friendly_name() for node in _ancestors(names.values())}
    # The output layers, whose values are read between pixels, and all decoding stay in floating point.
    exact = [node.get_friendly_name() for node in model.get_ops() if node.get_friendly_name() not in network]
    exact += [_last_layer(node).get_friendly_name() for node in names.values()]
    scope = nncf.IgnoredScope(names=exact, validate=False)
    if images is None:
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM, ignored_scope=scope)
    data = nncf.Dataset([image[None].numpy() for image in images])
    return nncf.quantize(
        model,
        data,
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(images),
        ignored_scope=scope,
    )


def _has(model: Any, name: str) -> bool:
    return any(name in output.get_names() for output in model.outputs)


def _ancestors(nodes: Iterable[Any]) -> list[Any]:
    """All nodes that these are computed from, themselves included."""
    found: dict[str, Any] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() not in found:
            found[node.get_friendly_name()] = node
            waiting += [value.get_node() for value in node.input_values()]
    return list(found.values())


def _last_layer(node: Any) -> Any:
    """The convolution that an output comes from."""
    while node.get_type_name() not in ('Convolution', 'MatMul'):
        node = node.input_value(0).get_node()
    return node
