# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Which image and video files a path, folder or pattern means."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from ..datasets.image_files import find_images, walk_files
from ..errors import UserError


def find_files(text: str) -> tuple[list[Path], str]:
    """Files that a path, folder or glob pattern means, and a note on others in the folder.

    Raises:
        UserError: There are none.
    """
    if not text.strip():
        raise UserError('an empty path is no source of images; give the path of an image, folder or video')
    path = Path(text).expanduser()
    if path.is_dir():
        images, note = find_images(path)
        return without_results(map(Path, images), text, note)
    if path.exists():
        return [path], ''
    if any(c in text for c in '*?['):
        found: Iterable[Path] = map(Path, glob.glob(str(path)) if '**' not in path.parts else ())
        if '**' in path.parts:  # glob would follow links in a circle until the system stops it
            start = next(i for i, part in enumerate(path.parts) if any(c in part for c in '*?['))
            files = map(Path, walk_files(str(Path(*path.parts[:start]))))
            found = (p for p in files if _matches(p.parts[start:], path.parts[start:]))
        matches = sorted(p for p in found if p.is_file())
        if not matches:
            raise UserError(f'{text}: no file matches this pattern')
        return without_results(matches, text)
    if '://' in text:
        raise UserError(f'{text}: is a URL; download the file first and give its path')
    raise UserError(f'{path}: no such file; check the path')


def without_results(paths: Iterable[Path], text: str, note: str = '') -> tuple[list[Path], str]:
    """Leave out pictures and maps of earlier runs: `save_result` puts a JSON beside them that says so.

    Raises:
        UserError: There is nothing else.
    """
    images: list[Path] = []
    results: list[Path] = []
    for path in paths:
        name = re.fullmatch(r'(.+)_(?:pose|seg|depth|normal)\.(?:jpg|png)', path.name)
        (results if name and is_result(path.with_name(f'{name[1]}.json')) else images).append(path)
    if results:
        left = f'left out {len(results)} results of an earlier run, e.g. {results[0]}'
        if not images:
            raise UserError(f'{text}: {left}; there is nothing else')
        note = f'{text}: {left}' + (f'; {note}' if note else '')
    return images, note


def is_result(path: Path) -> bool:
    """Whether a file is the JSON of an earlier run's result."""
    if not path.is_file():
        return False
    with open(path, 'rb') as file:
        return b'"sapiens-image-result/' in file.read(100)


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path matches a pattern, part by part, as `glob` understands it; hidden folders and files do not."""
    if not parts or not pattern:
        return not parts and not pattern
    if pattern[0] == '**' and _matches(parts, pattern[1:]):
        return True
    hidden = parts[0].startswith('.') and not pattern[0].startswith('.')
    return not hidden and fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[pattern[0] != '**' :])
