# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Decoded pixels of a data set on disk, so that each file is decoded once and not in every epoch.

Small models read faster than PNGs decode: at 256 x 192 decoding takes longer than a tenth of a training step.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np

from ..utils.files import write_atomic
from .image_files import read_image
from .label_files import read_label
from .storage import read_bytes, readable_name

# Instances and masks say the same to training; of each kind only what `LoadLabels` reads is kept.
_KINDS = ('image', 'parts', 'depth', 'normals', 'mask')


def _state(reference: str) -> tuple[int, int]:
    """What changes with a file; zeros where there is none (any more)."""
    try:
        found = os.stat(reference)
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def read_frame(folder: str | Path, references: dict[str, str]) -> dict[str, np.ndarray]:
    """Arrays of one frame by kind, as `label_files.read_label` gives them; images are RGB.

    What is first asked for is decoded and kept in a file of the folder, arrays of numpy one after another (10 bytes a
    pixel), again where a file has changed. Several processes may share the folder, and the data set may grow.

    Args:
        references: ``'image'`` and kinds of labels -> files.

    Raises:
        UserError: A file is unreadable.
    """
    chosen = {kind: references[kind] for kind in _KINDS if kind in references}
    path = Path(folder) / f'{hashlib.sha256(repr(chosen).encode()).hexdigest()}.npy'
    state = np.array([_state(reference) for reference in chosen.values()])
    if path.exists():
        with open(path, 'rb') as file:
            if ((np.load(file) == state) | (state == 0)).all():
                return {kind: np.load(file) for kind in chosen}
    arrays, kept = {}, io.BytesIO()
    np.save(kept, state)
    for kind, reference in chosen.items():
        name = readable_name(reference)
        arrays[kind] = read_image(reference) if kind == 'image' else read_label(kind, read_bytes(reference), name)
        np.save(kept, arrays[kind])
    write_atomic(path, kept.getvalue())
    return arrays
