# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Folders of images beside folders of labels, paired by file name (LIP, CIHP and most people's own data)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..registry import DATASETS
from .base import HumanDataset
from .image_files import list_images
from .image_folder import read_list
from .transforms.loading import KINDS

_LABEL_EXTENSIONS = ('.png', '.npz', '.npy', '.tif', '.tiff', '.bmp')


@DATASETS.register_module()
class ImageLabelFolderDataset(HumanDataset):
    """``data_prefix=dict(img='images', parts='labels', depth=..., normals=..., mask=...)``, paired by name.

    Args:
        ann_file: A ``.txt`` of names (with or without ending) to take; empty: all images.
        depth_scale: Metres per unit of 16-bit depth images.
        normal_axes: Axes of the normals, ``'x-right y-up z-viewer'`` or ``'opencv'``.
        **kwargs: See `HumanDataset`.

    Raises:
        UserError: A folder is missing, or an image lacks a label.
    """

    def __init__(
        self, *args: Any, depth_scale: float = 0.001, normal_axes: str = 'x-right y-up z-viewer', **kwargs: Any
    ) -> None:
        self.units = {'depth_scale': depth_scale, 'normal_axes': normal_axes}
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry an image, with the paths of its labels."""
        root = self.data_prefix.get('img', self.data_root)
        images = {_stem(p, root): p for p in list_images(root)}
        names = images if not self.ann_file else [_without_ending(n) for n in read_list(self.ann_file)]
        labels = {kind: _index(self.data_prefix[kind]) for kind in KINDS if self.data_prefix.get(kind)}
        entries = []
        for name in names:
            if name not in images:
                raise UserError(f"{self.ann_file}: names '{name}', which {root} does not hold")
            files = {}
            for kind, found in labels.items():
                if name not in found:
                    raise UserError(f"{self.data_prefix[kind]}: holds no {kind} label for '{name}'; add it, or list "
                                    'the labelled images in ann_file')  # fmt: skip
                files[kind] = found[name]
            entries.append({'img_path': images[name], 'img_id': name, 'label_files': files, **self.units})
        return entries


def _index(folder: str) -> dict[str, str]:
    """Label files below a folder by name without ending."""
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no such folder of labels; check the path and data_root')
    files = (os.path.join(place, f) for place, _, files in os.walk(folder, followlinks=True) for f in files)
    return {_stem(f, folder): f for f in files if f.lower().endswith(_LABEL_EXTENSIONS)}


def _stem(path: str, root: str) -> str:
    return _without_ending(os.path.relpath(path, root))


def _without_ending(name: str) -> str:
    path = Path(name)
    return str(path.with_suffix('')) if path.suffix.lower() in ('.jpg', '.jpeg', '.webp', *_LABEL_EXTENSIONS) else name
