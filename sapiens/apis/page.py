# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The page of demo/app.py: upload, choose task and model, compare by a slider, download."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..utils.optional import need
from .inferencer import Inferencer
from .results import ImageResult

HANDED_OUT = 60
"""Seconds after which gradio has its own copy of a file."""
KEPT = 3600
"""Seconds that gradio keeps its copies for downloading."""
TITLES = {'pose': 'Pose', 'seg': 'Body parts', 'depth': 'Depth', 'normal': 'Surface normals'}


class ModelShelf:
    """Models by name, each loaded when it is first used; one stays in memory.

    Args:
        makers: Name -> function that makes its `Inferencer`.
        tasks: Name -> tasks that it does.
    """

    def __init__(self, makers: dict[str, Callable[[], Inferencer]], tasks: dict[str, tuple[str, ...]]) -> None:
        self.makers, self.tasks = makers, tasks
        self._name: str | None = None
        self._loaded: Any = None
        self._lock = threading.Lock()

    def get(self, name: str) -> Inferencer:
        """The model of that name.

        Raises:
            UserError: There is none.
        """
        if name not in self.makers:
            raise UserError(f"no model '{name}' here; there are {', '.join(self.makers)}")
        with self._lock:  # visitors come at once
            if name != self._name:
                self._loaded = self._name = None  # frees the memory of the one before
                self._loaded, self._name = self.makers[name](), name
            return self._loaded

    def names(self, task: str) -> list[str]:
        """Models that do a task."""
        return [name for name, tasks in self.tasks.items() if task in tasks]


def run_once(
    shelf: ModelShelf, image: np.ndarray | None, task: str, name: str, folder: str | Path, threshold: float = 0.3
) -> tuple[np.ndarray, np.ndarray, str, ImageResult]:
    """Run one task on one image and pack the files.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        folder: Of the zips; those of a minute ago, which the page has handed out, are deleted.
        threshold: Keypoints with a lower score are not drawn.

    Returns:
        Image, its picture, the path of a zip of all files, and the result.

    Raises:
        UserError: No image, or a model that does not do the task.
    """
    if image is None:
        raise UserError('upload an image first')
    for old in Path(folder).glob('sapiens_*.zip'):
        if time.time() - old.stat().st_mtime > HANDED_OUT:
            old.unlink(missing_ok=True)
    result = shelf.get(name).predict(image, color='rgb', tasks=[task])
    with tempfile.TemporaryDirectory(dir=folder) as files:
        result.save(files, arrays=True, threshold=threshold)
        archive = shutil.make_archive(str(Path(folder) / f'sapiens_{uuid.uuid4().hex[:8]}'), 'zip', files)
    return image, result.draw(task, threshold), archive, result


def describe(result: ImageResult, task: str, threshold: float = 0.3) -> str:
    """One sentence about a result."""
    height, width = result.size
    start = f'{width} x {height}: '
    if task == 'pose' and result.keypoints is not None:
        count = int((result.keypoints.scores >= threshold).sum())
        return start + f'{len(result.keypoints)} person(s), {count} keypoints above {threshold:g}'
    if task == 'seg' and result.parts is not None:
        ids = np.unique(result.parts.ids)
        return start + (', '.join(result.parts.vocabulary.names[i] for i in ids if i) or 'nobody')
    field = result.depth if task == 'depth' else result.normals
    if field is not None and not field.valid.any():
        return start + 'nobody'
    masked = field is not None and field.mask_source != 'none'
    return start + 'valid ' + ('on people' if masked else
                               'everywhere (no part model ran, so the background is not masked)')  # fmt: skip


def build_page(shelf: ModelShelf, note: str = '', threshold: float = 0.3) -> Any:
    """The page as ``gradio.Blocks``.

    Args:
        note: Shown above everything, e.g. about demonstration weights.
        threshold: Keypoints with a lower score are not drawn.

    Raises:
        MissingPackageError: gradio is not installed.
    """
    gradio = need('gradio', 'the page', extra='demo')
    tasks = [task for task in TITLES if shelf.names(task)]
    folder = tempfile.TemporaryDirectory(prefix='sapiens_')
    with gradio.Blocks(title='Sapiens', analytics_enabled=False, delete_cache=(KEPT, KEPT)) as page:
        page.files = folder  # deleted with the page
        gradio.Markdown('# Sapiens\nPose, body parts, depth and surface normals of people from one photo.\n\n' + note)
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(type='numpy', image_mode='RGB', label='Photo', elem_id='photo')
                task = gradio.Radio(
                    [(TITLES[name], name) for name in tasks], value=tasks[0], label='Task', elem_id='task'
                )
                model = gradio.Dropdown(shelf.names(tasks[0]), label='Model', elem_id='model')
                button = gradio.Button('Run', variant='primary', elem_id='run')
            with gradio.Column():
                slider = gradio.ImageSlider(label='Photo | result', type='numpy', format='png', elem_id='compare')
                status = gradio.Textbox(label='Status', interactive=False, elem_id='status')
                files = gradio.File(label='All files (JSON, npz, PNG, pictures)', elem_id='files')

        def choose(name: str) -> Any:
            names = shelf.names(name)
            return gradio.Dropdown(choices=names, value=names[0])

        def run(photo: np.ndarray | None, task_name: str, model_name: str) -> tuple:
            try:
                before, after, archive, result = run_once(shelf, photo, task_name, model_name, folder.name, threshold)
            except UserError as error:
                raise gradio.Error(str(error)) from None
            return (before, after), describe(result, task_name, threshold), archive

        task.change(choose, task, model)
        button.click(run, [image, task, model], [slider, status, files])
    return page
