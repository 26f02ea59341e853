# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Crops of several images run together, and the images come out in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.label_files import decode_mask
from ..errors import UserError
from ..utils.file_names import path_parts
from ..utils.json_files import read_file
from .detectors import Detections
from .predictor import Crop, Predictor
from .sources import Frame


@dataclass(eq=False)
class PendingImage:
    """An image whose crops are under way.

    Attributes:
        persons: Its persons; None when no task needs them.
        vocabularies: Task -> vocabulary of its head.
        mask: ``(H, W)`` bool given by the caller.
        waiting: Crops that have not been run.
        outputs: Task -> crops that were run on it.
    """

    frame: Frame
    persons: Detections | None
    vocabularies: dict[str, Any]
    mask: np.ndarray | None = None
    waiting: int = 0
    outputs: dict[str, list[Crop]] = field(default_factory=dict)


def run_in_batches(
    predictors: Sequence[Predictor], prepared: Iterator[tuple[PendingImage, list[list[Crop]]]], batch_size: int
) -> Iterator[PendingImage]:
    """Run the crops of images, of which few are held at once.

    Args:
        prepared: Images, each with its crops for every predictor. What it raises comes out after the images before it.

    Yields:
        Images whose crops have all been run.
    """
    queues: list[list[tuple[PendingImage, Crop]]] = [[] for _ in predictors]
    line: deque[PendingImage] = deque()

    def run(least: int) -> None:
        """Run batches while that many crops wait for a predictor."""
        for predictor, queue in zip(predictors, queues, strict=True):
            while len(queue) >= least:
                batch = queue[:batch_size]
                predictor.run([crop for _, crop in batch])
                for pending, crop in batch:
                    for task in crop.tasks:
                        pending.outputs.setdefault(task, []).append(crop)
                    pending.waiting -= 1
                del queue[:batch_size]

    error = None
    while True:
        try:
            pending, crops = next(prepared)
        except StopIteration:
            break
        except Exception as problem:  # of whatever kind
            error = problem
            break
        line.append(pending)
        for queue, new in zip(queues, crops, strict=True):
            queue += [(pending, crop) for crop in new]
        run(least=batch_size)
        while line and not line[0].waiting:
            yield line.popleft()
        # A model that gets few crops must not hold up many images.
        if len(line) > max(1, 2 * batch_size - 3):
            run(least=1)
    run(least=1)
    while line:
        yield line.popleft()
    if error is not None:
        raise error


class MaskFolder:
    """Masks as PNGs named like the images: for ``x/a.jpg`` ``x/a.png``, or ``a.png`` where no other ``a.jpg`` runs.

    A frame of a video has a mask of its own name (``clip_000007.png``), else the video's.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._taken: dict[Path, Path] = {}

    def file_of(self, frame: Frame) -> Path:
        """The mask's file, whether it exists or not.

        Raises:
            UserError: It was another image's already.
        """
        image = frame.path or Path(frame.name)
        folders = path_parts(str(image.parent))
        names = [image.stem] if frame.path and frame.time is None else dict.fromkeys([frame.name, image.stem])
        files = [self.folder.joinpath(*folders[i:], f'{n}.png') for n in names for i in range(len(folders) + 1)]
        found = next((file for file in files if file.is_file()), self.folder / f'{next(iter(names))}.png')
        other = self._taken.setdefault(found, image)
        if other.parent != image.parent:
            raise UserError(f"{found}: may be the mask of '{other}' or '{image}'; put masks into folders like theirs")
        return found


def given_mask(masks: Any, frame: Frame) -> np.ndarray | None:
    """``(H, W)`` bool of what a caller gives as masks, see `Inferencer.__call__`.

    Raises:
        UserError: No such file, or one of another size than the image.
    """
    if masks is None:
        return None
    if callable(masks):
        mask, told = masks(frame), 'the mask function'
    elif isinstance(masks, MaskFolder):
        told = str(masks.file_of(frame))
        mask = decode_mask(read_file(told, 'mask'), told)
    else:
        mask, told = masks, 'the mask'
    mask = np.asarray(mask)
    if mask.shape != frame.image.shape[:2]:
        raise UserError(f'{told}: has the size {mask.shape}, the image {frame.name} {frame.image.shape[:2]}')
    return mask > 0
