# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From a model's name to an exported file that has been compared with the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..deploy.check import Difference, alternate, compare
from ..deploy.export import export_model
from ..deploy.runner import is_exported, open_exported
from ..engine.hub import weight_folders
from ..errors import UserError
from ..utils.shipped import shipped_root
from .detectors import WholeImage, build_detector, find_persons
from .loading import LoadedModel, test_dataset
from .predictor import Predictor
from .sources import open_frames

SAMPLES = shipped_root() / 'demo' / 'images'


@dataclass
class Export:
    """What was written, and how it compares.

    Attributes:
        path: The file.
        differences: Of each output, if it was checked.
        seconds: Median CPU-seconds of one image: ``'torch'`` in float32, and ``'file'``.
    """

    path: Path
    differences: list[Difference]
    seconds: dict[str, float]


def export(
    loaded: LoadedModel,
    path: str | Path,
    format: str = 'onnx',
    dtype: str = 'float32',
    tasks: tuple[str, ...] | None = None,
    calibration: str | Path | None = None,
    check: bool = True,
    licence: str | None = None,
) -> Export:
    """Export a model, and compare the file with it on photographs.

    Args:
        loaded: Of `load_model`.
        path: File to write.
        format, dtype, tasks: See `sapiens.deploy.export_model`.
        calibration: Folder of photographs of people, which int8 needs and the check takes.
        check: Run the file and compare, in batches of 1, 3 and 5.
        licence: Of the weights; None = what is known of their origin.
    """
    if check and not is_exported(path):
        raise UserError(f'{path}: nothing here runs files of this format; leave out --check')
    photos = Path(calibration or SAMPLES)
    licence = licence or _licence(loaded)
    images: Any = None
    if check or dtype == 'int8':
        images = torch.stack(list(islice(crops(loaded, photos), 300 if dtype == 'int8' else 5)))
    graph = export_model(loaded.network, test_dataset(loaded.config), path, format, dtype, tasks, licence, images)
    if not check:
        return Export(Path(path), [], {})
    graph.model.set_precision(torch.float32)
    run = open_exported(path)[0].run_all
    images = images[:5]
    differences = compare(graph, run, images, exact=dtype == 'float32')
    one = images[:1]
    with torch.inference_mode():
        seconds = alternate({'torch': lambda: graph(one), 'file': lambda: run(one.numpy())}, 5)
    return Export(Path(path), differences, seconds)


def crops(loaded: LoadedModel, photos: str | Path) -> Iterator[torch.Tensor]:
    """Inputs ``(3, H, W)`` uint8 that a model gets from photographs; of each person the box and wider ones.

    Args:
        loaded: The model, whose test pipeline makes them.
        photos: Image or folder.
    """
    predictor = Predictor(loaded)
    detect = build_detector('tiny') if predictor.topdown else WholeImage()
    for frame in open_frames(photos):
        for box in find_persons(detect, frame).boxes:
            for factor in (1.0, 1.4):
                x0, y0, x1, y1 = box
                dx, dy = (x1 - x0) * (factor - 1) / 2, (y1 - y0) * (factor - 1) / 2
                wider = [x0 - dx, y0 - dy, x1 + dx, y1 + dy] if predictor.topdown else None
                yield predictor.prepare(frame, wider).inputs


def _licence(loaded: LoadedModel) -> str:
    if loaded.origin:
        return f'{loaded.origin.get("licence")} ({loaded.origin.get("repository")})'
    if Path(loaded.source).resolve().parent == weight_folders()[-1].resolve():
        return 'Apache-2.0 (ships with sapiens-toolkit)'
    return 'not stated'
