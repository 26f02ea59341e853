# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Find the checkpoint that a run continues from, though the last one may be damaged or gone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from .containers import CheckpointError
from .files import load_plain
from .sharded_checkpoint import read_plain


def checkpoints_of(work_dir: str | Path) -> list[Path]:
    """Training checkpoints of a work directory, the one that ``last_checkpoint`` points to first, then by age."""
    work_dir = Path(work_dir)
    pointer = work_dir / 'last_checkpoint'
    folders, named = {work_dir}, []
    if pointer.is_file():
        target = Path(pointer.read_text(encoding='utf-8').strip())
        folders.add(target.parent)
        named = [target, work_dir / target.name]  # the second when the folder was moved
    # Names of `SafeCheckpointHook`; the best ones hold no optimiser.
    names = re.compile(r'(iter|epoch)_\d+\.(pth|dcp)')
    others = [p for f in folders if f.is_dir() for p in f.iterdir() if names.fullmatch(p.name)]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [path for path in dict.fromkeys([*named, *others]) if path.exists()]


def _read(path: str | Path) -> dict:
    if Path(path).is_dir():
        return read_plain(Path(path))
    checkpoint = load_plain(path)
    if not isinstance(checkpoint, dict) or not {'state_dict', 'optimizer', 'meta'} <= set(checkpoint):
        raise CheckpointError(
            f'{path}: holds weights but no training state; use load_from to start from it, not resume'
        )
    return checkpoint


def read_training_state(
    filename: str | Path | None, work_dir: str | Path, warn: Callable[[str], None]
) -> tuple[Path, dict]:
    """Read a checkpoint to continue from.

    Args:
        filename: The one that was asked for; None takes the last one of the work directory that is whole.
        warn: Is told which damaged ones are passed over.

    Raises:
        CheckpointError: It is damaged, or none is whole.
    """
    if filename is not None:
        try:
            return Path(filename), _read(filename)
        except CheckpointError as error:
            older = [path for path in checkpoints_of(work_dir) if path.resolve() != Path(filename).resolve()]
            hint = f'; {older[0]} is there too' if older and Path(filename).exists() else ''
            raise CheckpointError(f'{error}{hint}') from None
    damaged = []
    for path in checkpoints_of(work_dir):
        try:
            checkpoint = _read(path)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        if damaged:
            warn(f'the last checkpoint cannot be read ({"; ".join(damaged)}): continuing from {path}, which is older')
        return path, checkpoint
    raise CheckpointError(f'{work_dir}: no whole checkpoint to resume: {"; ".join(damaged)}; train anew in another one')
