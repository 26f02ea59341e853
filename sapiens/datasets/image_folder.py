# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Images without labels, from a folder or a list of files."""

from __future__ import annotations

import os
from typing import Any

from ..registry import DATASETS
from ..utils.file_names import find_file
from ..utils.json_files import read_names
from .base import HumanDataset
from .image_files import list_images
from .manifest import labelled_images


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
