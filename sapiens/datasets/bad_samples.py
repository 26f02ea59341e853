# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A record of samples that could not be read, shared by a data set and its copies in loader workers."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError

BAD_SAMPLE = (UserError, OSError)
"""What a sample raises when it, and not the program, is wrong; readers of files turn all else into it."""


class TooManyBadSamplesError(UserError):
    """More samples than allowed cannot be read; the message names the files."""


def take(read: Callable[[int], Any], choices: Iterable[int], note: Callable[[int, Exception], None]) -> Any:
    """The one place where a bad sample is replaced by another.

    Args:
        read: Gives the sample at an index, or None for one that its transforms drop.
        choices: The index that is wanted, then those to try instead.
        note: Told of every bad sample; may raise to stop.

    Returns:
        The first sample that can be read, None when none can.
    """
    for index in choices:
        try:
            sample = read(index)
        except BAD_SAMPLE as error:
            note(index, error)
            continue
        if sample is not None:
            return sample
    return None


class BadSampleLog:
    """Append-only list of unreadable samples; the training process sees what its workers add.

    Workers hold copies of the data set, so the list is a small temporary file of one JSON line a failure, made at the
    first failure and removed with the log of the process that created it.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.gettempdir()) / f'sapiens-bad-samples-{os.getpid()}-{uuid.uuid4().hex}.jsonl'
        self._cleanup = weakref.finalize(self, _remove, self.path, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        return {'path': self.path, '_cleanup': None}

    def add(self, index: int, path: str, reason: str) -> None:
        """Note that sample ``index`` from file ``path`` cannot be used, and why."""
        line = json.dumps({'index': index, 'path': path, 'reason': reason}) + '\n'
        # One write in append mode: lines of several workers do not mix.
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def read(self) -> list[dict[str, Any]]:
        """Every bad sample once, as ``{'index', 'path', 'reason'}``, by index."""
        return [record for _, record in sorted({r['index']: r for r in self.since(0)[0]}.items())]

    def since(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Every failure noted after an offset (0 is the beginning), and the offset to go on from."""
        if not self.path.exists():
            return [], offset
        with open(self.path, 'rb') as file:
            file.seek(offset)
            lines = file.read()
        return [json.loads(line) for line in lines.splitlines()], offset + len(lines)


def collect_bad_samples(dataset: Any) -> list[dict[str, Any]]:
    """Bad samples of a data set and of whatever it wraps (concatenated, repeated, subset), workers included."""
    return [record for part in parts_of(dataset) for record in getattr(part, 'bad_samples', [])]


def leave_bad_samples(dataset: Any) -> None:
    """Make a data set, and whatever it wraps, raise at unreadable samples: the caller skips and counts them."""
    for part in parts_of(dataset):
        if hasattr(part, 'max_bad_fraction'):
            part.max_bad_fraction = None


def parts_of(dataset: Any) -> Iterator[Any]:
    """The data set and all that it wraps."""
    yield dataset
    inner = vars(dataset).get('datasets') or [d for d in [vars(dataset).get('dataset')] if d is not None]
    for part in inner:
        yield from parts_of(part)


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
