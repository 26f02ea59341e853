# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Files for phones and small devices, of one image: ExecuTorch and Core ML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..utils.optional import need
from .facts import KEY
from .graph import DeployGraph, trace


def write_executorch(
    graph: DeployGraph, text: str, path: Path, dtype: str = 'float32', images: torch.Tensor | None = None
) -> None:
    """Write a graph in float32 for ExecuTorch: by XNNPACK what it knows, the rest by its portable kernels.

    Args:
        text: The file's metadata: what its method ``sapiens`` returns.
    """
    need('executorch.exir', 'exporting to ExecuTorch', extra='executorch')
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = to_edge_transform_and_lower(
        trace(graph, batch=1), partitioner=[XnnpackPartitioner()], constant_methods={KEY: text}
    )
    path.write_bytes(program.to_executorch().buffer)


def write_coreml(
    graph: DeployGraph, text: str, path: Path, dtype: str = 'float16', images: torch.Tensor | None = None
) -> None:
    """Write a graph for Core ML, without decoding; it takes pictures, as apps have them. Only macOS and iOS run it.

    Args:
        graph: In float32, without decoding.
        text: The file's metadata, user-defined under ``sapiens``.
        path: The ``.mlpackage``, a folder.
        dtype: In which it computes: ``'float16'`` or ``'float32'``.
    """
    library = need('coremltools', 'exporting to Core ML', extra='coreml')
    _know_copies()
    program = trace(graph, batch=1, dtype=torch.float32).run_decompositions({})
    size = graph.input_size
    model = library.convert(
        program,
        inputs=[library.ImageType(name='images', shape=(1, 3, *size), color_layout=library.colorlayout.RGB)],
        outputs=[library.TensorType(name=name) for name in graph.output_names],
        minimum_deployment_target=library.target.iOS16,
        compute_precision=getattr(library.precision, dtype.upper()),
        skip_model_load=True,
    )
    model.user_defined_metadata[KEY] = text
    model.save(str(path))


def _know_copies() -> None:
    """What PyTorch's exporter writes and the converter has no words for: copies that change nothing, `&` and `|`."""
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY as REGISTRY

    def alias(context: Any, node: Any) -> None:
        context.add(_get_inputs(context, node, expected=1)[0], torch_name=node.name)

    REGISTRY.set_func_by_name(alias, 'alias')
    for name in ('and', 'or'):
        REGISTRY.set_func_by_name(REGISTRY.get_func(f'logical_{name}'), f'__{name}__')
