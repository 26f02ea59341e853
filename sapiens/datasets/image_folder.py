# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Images without labels, from a folder or a list of files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..registry import DATASETS
from .base import HumanDataset
from .image_files import list_images


@DATASETS.register_module()
class ImageFolderDataset(HumanDataset):
    """Every image below ``data_root`` (or ``data_prefix['img']``), or those that a list names.

    Args:
        ann_file: A ``.txt`` with one path a line, relative to ``data_prefix['img']``; blank lines and lines that
            begin with ``#`` do not count. Empty: search the folder.
        **kwargs: See `HumanDataset`.
    """

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry an image."""
        root = self.data_prefix.get('img', self.data_root) or '.'
        if not self.ann_file:
            paths = list_images(root)
        else:
            paths = [os.path.join(root, name) for name in read_list(self.ann_file)]
        return [{'img_path': p, 'img_id': os.path.relpath(p, root)} for p in paths]


def read_list(path: str | Path) -> list[str]:
    """Lines of a text file, without blank lines and ``#`` comments.

    Raises:
        UserError: The file is missing, not text, or names nothing.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding='utf-8').splitlines()]
    except FileNotFoundError:
        raise UserError(f'{path}: no such file list; check the path and data_root') from None
    except UnicodeDecodeError:
        raise UserError(f'{path}: is not a text file; give a list with one path a line') from None
    names = [line for line in lines if line and not line.startswith('#')]
    if not names:
        raise UserError(f'{path}: names no file; write one path a line')
    return names
