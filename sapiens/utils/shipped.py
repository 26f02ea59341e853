# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Where the configs, tools and demos lie: in the root of a checkout, in ``sapiens/.mim`` of an installed package.

``.mim`` is OpenMMLab's convention. In a checkout it holds links, which the wheel replaces by the files.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_root() -> Path:
    """Folder that holds ``configs/``, ``tools/`` and ``demo/``."""
    installed = _PACKAGE / '.mim'
    # A checkout has real folders beside the package, and on systems without links nothing useful in `.mim`.
    beside = _PACKAGE.parent
    return beside if (beside / 'configs' / '_base_').is_dir() or not (installed / 'configs').is_dir() else installed


def shipped_configs() -> dict[str, Path]:
    """Stem -> path of every config that can be trained, e.g. ``'sapiens_1b_308kpt'``."""
    return {path.stem: path for path in sorted(shipped_root().glob('configs/*/sapiens_*.py'))}


def find_config_file(name: str | Path) -> Path:
    """Path of a config: the user's own file first, then a shipped one.

    Args:
        name: A path as it is, one of ours from any folder (``'configs/pose/sapiens_1b_308kpt.py'``,
            ``'pose/sapiens_1b_308kpt.py'``) or the stem alone (``'sapiens_1b_308kpt'``).

    Returns:
        The first that exists, else ``name``.
    """
    path = Path(name)
    root = shipped_root()
    for candidate in (path, root / path, root / 'configs' / path, shipped_configs().get(str(name))):
        if candidate is not None and candidate.is_file():
            return candidate
    return path
