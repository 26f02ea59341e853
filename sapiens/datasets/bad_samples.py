# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Samples that cannot be read: data sets raise, training (`engine.sampling.SeededDataset`) skips and notes them."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import Any

from ..errors import UserError

BAD_SAMPLE = (UserError, OSError)
"""What a sample raises when it, and not the program, is wrong; readers of files turn all else into it."""


class TooManyBadSamplesError(UserError):
    """More samples than allowed cannot be read; the message names the files."""


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

    def add(self, index: int, reason: str) -> None:
        """Note that sample ``index`` cannot be used, and why."""
        line = json.dumps({'index': index, 'reason': reason}) + '\n'
        # One write in append mode: lines of several workers do not mix.
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def since(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Failures (``{'index', 'reason'}``) noted after an offset (0: all of them), and the offset to go on from."""
        if not self.path.exists():
            return [], offset
        with open(self.path, 'rb') as file:
            file.seek(offset)
            lines = file.read()
        return [json.loads(line) for line in lines.splitlines()], offset + len(lines)


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
