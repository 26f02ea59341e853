# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The graph that is exported: bytes of images in, what the heads say and its decoding out, in one module."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import UserError
from ..models import HumanEstimator
from ..models.heads import DeconvHead, DepthHead, NormalHead, PartHead, PoseHead

RAW = {PoseHead: 'heatmaps', PartHead: 'part_logits', DepthHead: 'depth', NormalHead: 'normal_vectors'}
"""Kind of head -> name of the output that its ``predict`` takes."""
DECODED = {PoseHead: ('keypoints', 'keypoint_scores'), PartHead: ('parts',), DepthHead: (), NormalHead: ('normals',)}
"""Kind of head -> names of the outputs that are ready for use, in the frame of the input."""


def kind_of(head: nn.Module) -> type[DeconvHead] | None:
    """Which of the four tasks a head does in their way; None if it predicts in a way of its own."""
    for kind in RAW:
        names = ('predict', 'fields', 'flip_back')
        same = (getattr(type(head), name, None) is getattr(kind, name, None) for name in names)
        if isinstance(head, kind) and all(same):
            return kind
    return None


class DeployGraph(nn.Module):
    """Normalisation, encoder, heads and decoding of an estimator.

    Args:
        model: The estimator; it is used as it is, in its own precision.
        tasks: Heads to keep; None = all that predict for a person.
        decode: Give the decoded outputs too.

    Attributes:
        tasks: Those heads.
        output_names: Of what `forward` returns, in its order.

    Raises:
        UserError: Not an estimator, no such head, or a head with a ``predict`` of its own.
    """

    def __init__(self, model: nn.Module, tasks: tuple[str, ...] | None = None, decode: bool = True) -> None:
        super().__init__()
        self.decode = decode
        if not isinstance(model, HumanEstimator) or not model.heads:
            raise UserError('an encoder without heads cannot be exported; give a model of a task')
        if next(model.backbone.parameters(), None) is None:
            raise UserError(f'{getattr(model, "source", "the model")}: is exported already; give the checkpoint '
                            'that it is of')  # fmt: skip
        self.model = model.eval()
        heads = {name: head for name, head in model.heads.items() if not getattr(head, 'makes_boxes', False)}
        wrong = [task for task in tasks or () if task not in heads]
        if wrong:
            raise UserError(f"the model has no head '{wrong[0]}'; it has {', '.join(heads)}")
        self.tasks = tuple(heads if tasks is None else tasks)
        kinds = {task: kind_of(heads[task]) for task in self.tasks}
        own = [task for task, kind in kinds.items() if kind is None]
        if own:
            raise UserError(f"the head '{own[0]}' ({type(heads[own[0]]).__name__}) predicts in a way of its own, which "
                            'no exported file knows; leave it out with --task')  # fmt: skip
        if len({*kinds.values()}) < len(kinds):
            raise UserError(f'two of the heads {", ".join(kinds)} do the same task: choose with --task')
        self.kinds = kinds
        self.decoded = DECODED if decode else dict.fromkeys(DECODED, ())
        self.output_names = [name for kind in kinds.values() for name in (RAW[kind], *self.decoded[kind])]

    @property
    def input_size(self) -> tuple[int, int]:
        """``(H, W)`` of the images."""
        return tuple(self.model.backbone.img_size)

    def example(self, batch: int = 2) -> torch.Tensor:
        """Images to trace with."""
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, (batch, 3, *self.input_size), dtype=torch.uint8, generator=generator)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run.

        Args:
            images: ``(B, 3, H, W)`` uint8 RGB.

        Returns:
            In the order of ``output_names``, float32 unless said otherwise, of the tasks there are:
            ``heatmaps`` (B, K, h, w), ``keypoints`` (B, K, 2) x, y in pixels of the input, ``keypoint_scores`` (B, K);
            ``part_logits`` (B, C, h, w), ``parts`` (B, H, W) uint8; ``depth`` (B, 1, H, W), larger = farther;
            ``normal_vectors`` (B, 3, h, w) of any length, ``normals`` (B, 3, H, W) of length 1.
        """
        model, size = self.model, self.input_size
        inputs = model.data_preprocessor({'inputs': images}, False)['inputs']
        inputs = inputs.to(next(model.backbone.parameters()).dtype)
        raw = model.outputs(inputs, heads=self.tasks)
        results: list[torch.Tensor] = []
        for task, kind in self.kinds.items():
            output = raw[task].float()
            if not self.decode:
                results += [_resize(output, size) if kind is DepthHead else output]
            elif kind is PoseHead:
                results += [output, *model.heads[task].codec.decode(output)]
            elif kind is PartHead:
                results += [output, _resize(output, size).argmax(1).to(torch.uint8)]
            elif kind is DepthHead:
                results += [_resize(output, size)]
            else:
                results += [output, F.normalize(_resize(output, size), dim=1)]
        return tuple(results)


def trace(
    graph: DeployGraph, batch: int | None = None, dtype: torch.dtype = torch.uint8
) -> torch.export.ExportedProgram:
    """The graph as PyTorch's exporters take it.

    Args:
        batch: Images of a run; None = any number.
        dtype: Of the images.
    """
    shapes = None if batch else {'images': {0: torch.export.Dim('batch', min=1, max=1024)}}
    with torch.no_grad():
        return torch.export.export(graph, (graph.example(batch or 2).to(dtype),), dynamic_shapes=shapes, strict=False)


def _resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(maps, size=size, mode='bilinear', align_corners=False)
