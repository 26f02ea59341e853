# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Folders of images, alone or beside folders of labels that are paired with them by file name (LIP, CIHP, own data)."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..registry import DATASETS
from ..structures.geometry import OUR_AXES, check_axes
from ..utils.file_names import find_file
from ..utils.json_files import read_names
from .base import HumanDataset
from .image_files import IMAGE_EXTENSIONS, list_images, walk_files
from .manifest import labelled_images
from .transforms.loading import KINDS

LABEL_EXTENSIONS = ('.png', '.npz', '.npy', '.tif', '.tiff', '.bmp')
"""Endings of labels; what an image may end with comes last where both lie in one folder."""


@DATASETS.register_module()
class ImageFolderDataset(HumanDataset):
    """Every image below ``data_root`` (or ``data_prefix['img']``), or those that a list names.

    Of a folder with a manifest only the images are taken: its other pictures are their labels.

    Args:
        ann_file: A ``.txt`` with one path a line, relative to ``data_prefix['img']``; blank lines and lines that
            begin with ``#`` do not count. Empty: search the folder.
        **kwargs: See `HumanDataset`.
    """

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry an image."""
        root = self.data_prefix.get('img', self.data_root) or '.'
        if not self.ann_file:
            paths = labelled_images(root) or list(list_images(root))
        else:
            paths = [find_file(root, name) for name in read_names(self.ann_file)]
        return [{'img_path': p, 'img_id': os.path.relpath(p, root)} for p in paths]


@DATASETS.register_module()
class ImageLabelFolderDataset(HumanDataset):
    """``data_prefix=dict(img='images', parts='labels', depth=..., normals=..., mask=...)``, paired by name.

    Images and labels may lie in one folder when the images are of a kind that no label is (``a.jpg`` with ``a.png``).

    Args:
        ann_file: A ``.txt`` of names (with or without ending) to take; empty: all images.
        depth_scale: Metres per unit of 16-bit depth images.
        normal_axes: Axes of the normals, ``'x-right y-up z-viewer'`` or ``'opencv'``.
        **kwargs: See `HumanDataset`.

    Raises:
        UserError: A folder is missing, an image lacks a label, or two files have one name.
    """

    def __init__(self, *args: Any, depth_scale: float = 0.001, normal_axes: str = OUR_AXES, **kwargs: Any) -> None:
        check_axes(normal_axes, 'ImageLabelFolderDataset')
        self.units = {'depth_scale': depth_scale, 'normal_axes': normal_axes}
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry an image, with the paths of its labels."""
        if unknown := set(self.data_prefix) - {'img', *KINDS}:
            raise UserError(f'{self.data_root}: data_prefix has {", ".join(map(repr, sorted(unknown)))}; '
                            f'it takes img, {", ".join(KINDS)}')  # fmt: skip
        root = self.data_prefix.get('img', self.data_root)
        folders = {kind: self.data_prefix[kind] for kind in KINDS if self.data_prefix.get(kind)}
        real = [os.path.join(os.path.realpath(folder), '') for folder in (root, *folders.values())]
        inside = tuple(folder for folder in real[1:] if folder.startswith(real[0]) and folder != real[0])
        found = _by_name([p for p in list_images(root) if not os.path.realpath(p).startswith(inside)], root)
        shared = [kind for kind, folder in folders.items() if os.path.realpath(folder) == os.path.realpath(root)]
        if shared:
            found = _without_labels(found, root, shared[0])
        images = {name: _only(paths, name, root, 'images') for name, paths in found.items()}
        names = images if not self.ann_file else [_known(n, images) for n in read_names(self.ann_file)]
        labels = {kind: _index(folder, set(images.values()), kind) for kind, folder in folders.items()}
        entries = []
        for name in names:
            if name not in images:
                raise UserError(f"{self.ann_file}: names '{name}', which {root} does not hold")
            files = {}
            for kind, here in labels.items():
                if name not in here:
                    raise UserError(f"{self.data_prefix[kind]}: holds no {kind} label for '{name}'"
                                    f'{_near(name, self.data_prefix[kind], here)}; add it, or list the labelled images '
                                    'in ann_file')  # fmt: skip
                files[kind] = here[name]
            entries.append({'img_path': images[name], 'img_id': name, 'label_files': files, **self.units})
        return entries


def _index(folder: str, images: set[str], kind: str) -> dict[str, str]:
    """Label files below a folder by name without ending."""
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no such folder of labels; check the path and data_root')
    found = _by_name(
        [f for f in walk_files(folder) if f.lower().endswith(LABEL_EXTENSIONS) and f not in images], folder
    )
    return {name: _only(paths, name, folder, f'{kind} labels') for name, paths in found.items()}


def _near(name: str, folder: str, labels: Iterable[str]) -> str:
    """What may be meant for a label that is not found: a file of another kind, or of nearly that name."""
    own = os.path.basename(name)
    other = next((f for f in walk_files(folder) if Path(f).stem == own), None)
    if other and not other.lower().endswith(LABEL_EXTENSIONS):
        return f' but {os.path.basename(other)}, which is none of {", ".join(LABEL_EXTENSIONS)}'
    near = {label.lower(): label for label in labels if os.path.basename(label).lower().startswith(own.lower())}
    return f", only '{min(near.values(), key=len)}'; labels have the folders and names of their images" if near else ''


def _by_name(paths: Iterable[str], root: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(_without_ending(os.path.relpath(path, root)), []).append(path)
    return found


def _only(paths: list[str], name: str, root: str, what: str) -> str:
    if len(paths) > 1:
        raise UserError(f"{root}: has two {what} of the name '{name}' ({', '.join(map(os.path.basename, paths))}); "
                        'keep one')  # fmt: skip
    return paths[0]


def _without_labels(images: dict[str, list[str]], root: str, kind: str) -> dict[str, list[str]]:
    """The images of a folder that holds labels too: those whose ending no label has, or whose label is an array."""
    photos = {}
    for name, paths in images.items():
        photos[name] = [path for path in paths if not path.lower().endswith(LABEL_EXTENSIONS)]
        arrays = [os.path.join(root, name + ending) for ending in ('.npy', '.npz')]
        if not photos[name] and len(paths) == 1 and any(map(os.path.exists, arrays)):
            photos[name] = paths
        if not photos[name]:
            raise UserError(f"{root}: holds images and {kind} labels, '{os.path.basename(paths[0])}' may be either; "
                            'put the labels into a folder of their own')  # fmt: skip
    return photos


def _known(name: str, images: dict[str, str]) -> str:
    name = name.replace('\\', '/') if name not in images else name
    return _without_ending(name)


def _without_ending(name: str) -> str:
    name = unicodedata.normalize('NFC', name)
    path = Path(name)
    endings = (*IMAGE_EXTENSIONS, *LABEL_EXTENSIONS)
    return str(path.with_suffix('')) if path.suffix.lower() in endings else name
