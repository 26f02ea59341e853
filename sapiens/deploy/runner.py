# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Exported files as estimators: the same geometry, flip test and results as the model that they were made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn

from ..errors import UserError
from ..models import HumanDataPreprocessor, HumanEstimator
from ..registry import TRANSFORMS
from ..vocabularies import parse_vocabulary
from . import facts as file_facts
from .sessions import SESSIONS, Session


def is_exported(path: str | Path | None) -> bool:
    """Whether a name is that of a file that a runner here opens."""
    return path is not None and Path(str(path)).suffix.lower() in SESSIONS


def open_exported(path: str | Path) -> tuple[ExportedEstimator, Config]:
    """Open an exported file.

    Args:
        path: ``.onnx``, or the ``.xml`` of OpenVINO.

    Returns:
        The estimator, and a config with the pipeline that makes its inputs.

    Raises:
        UserError: Missing or broken file, not one of ours, or the package that runs it is not installed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f'{path}: no such file; check the path')
    session = SESSIONS[path.suffix.lower()](path)
    facts = file_facts.loads(session.metadata(), str(path))
    dataset = dict(pipeline=facts['pipeline'] or None, input_size=tuple(facts['input']['size']))
    with file_facts.damage(str(path)):
        for step in facts['pipeline']:
            TRANSFORMS.build(dict(step))
        estimator = ExportedEstimator(session, facts, str(path))
        for task, entry in facts['tasks'].items():
            for name, own in zip(entry['outputs'], [estimator.heads[task].out_channels, *[None] * 2], strict=False):
                found = session.channels()[name]
                if own is not None and found != own:
                    raise ValueError(f'{name} has {found} channels, its vocabulary {own}')
    return estimator, Config(dict(test_dataloader=dict(dataset=dataset)))


class _KeepBytes(HumanDataPreprocessor):
    """Stack images; the graph normalises them."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """As of the parent, without normalising."""
        data = self.cast_data(data)
        return {**data, 'inputs': torch.stack(list(data['inputs']))}


class _Size(nn.Module):
    """In the place of the encoder: what is asked about it."""

    def __init__(self, size: tuple[int, int], source: str) -> None:
        super().__init__()
        self.img_size, self.source = size, source

    def _no_features(self, *_: Any) -> NoReturn:
        raise UserError(f'{self.source}: an exported file gives the results of its tasks and no features; take the '
                        'checkpoint that it is of')  # fmt: skip

    forward = _no_features
    num_layers = property(_no_features)  # what asks for layers asks for features


class ExportedEstimator(HumanEstimator):
    """An exported file behind the interface of `HumanEstimator`.

    Its heads have no layers: they are what turns outputs into predictions in the original image.

    Args:
        session: The open file.
        facts: What it says about itself.
        source: The file, for messages.
    """

    def __init__(self, session: Session, facts: dict[str, Any], source: str) -> None:
        preprocessor = _KeepBytes(**facts['normalised_inside'])
        BaseModel.__init__(self, preprocessor)
        self.session, self.facts, self.source = session, facts, source
        self.backbone, self.neck = _Size(tuple(facts['input']['size']), source), None
        self.test_cfg = dict(flip_test=facts['flip_test'], closer_look=facts.get('closer_look'))
        self.heads = nn.ModuleDict()
        for task, entry in facts['tasks'].items():
            options = dict(entry.get('rules', {}))
            if 'vocabulary' in entry:
                options['vocabulary'] = parse_vocabulary(entry['vocabulary'], source)
            if 'codec' in entry:
                options['codec'] = entry['codec']
            self.heads[task] = file_facts.KINDS[entry['head']](1, deconv_channels=(), conv_channels=(), **options)
        self._closer_look()  # what is wrong with it shows at once
        self.requires_grad_(False).eval()
        self._device = torch.device('cpu')

    def to(self, device: torch.device | str, *args: Any, **kwargs: Any) -> ExportedEstimator:
        """Run there, if the session can; what is made of its outputs stays on the CPU."""
        self._device = torch.device(device)
        return self

    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute in this precision, where the session has a choice."""
        self.session.prepare(self._device, dtype)

    def run_all(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """``(B, 3, H, W)`` uint8 -> every output of the file by name."""
        return self.session.run(images, [name for task in self.facts['tasks'].values() for name in task['outputs']])

    def _run_heads(
        self, inputs: torch.Tensor, chosen: dict[str, Sequence[int] | None], **options: bool
    ) -> dict[str, torch.Tensor]:
        size = tuple(self.backbone.img_size)
        if tuple(inputs.shape[1:]) != (3, *size):
            raise UserError(f'{self.source}: takes images of {size[0]} x {size[1]}, not of {tuple(inputs.shape[2:])}')
        if inputs.dtype != torch.uint8:
            inputs = self.data_preprocessor.denormalise(inputs)
        chosen = {task: rows for task, rows in chosen.items() if rows is None or len(rows)}
        names = {task: self.facts['tasks'][task]['outputs'][0] for task in chosen}
        found = self.session.run(np.ascontiguousarray(inputs.cpu().numpy()), list(names.values()))
        outputs = {task: torch.from_numpy(found[name]) for task, name in names.items()}
        return {task: out if chosen[task] is None else out[list(chosen[task])] for task, out in outputs.items()}
