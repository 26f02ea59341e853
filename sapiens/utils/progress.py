# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The bar of a long command: how many of how many, how fast, how long still."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress(what: str, total: int | None, unit: str = '/s', console: Any = None) -> Iterator[Callable[..., None]]:
    """Show a bar; gives the function to call after each item, with a few words to show behind the bar.

    Args:
        what: Is counted, before the bar.
        total: None where nobody knows.
        unit: Behind the rate.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[rate]}'),
               TimeRemainingColumn(), TextColumn('{task.fields[note]}'))  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task('', total=total, rate='', note='')
        begin, done = time.monotonic(), 0

        def advance(note: str = '', count: int = 1) -> None:
            nonlocal done
            done += count
            # From the beginning: results come in batches, and the time between two of them says nothing.
            rate = done / max(time.monotonic() - begin, 1e-6)
            bar.update(task, advance=count, note=note, rate=f'{rate:.{0 if rate >= 100 else 1}f}{unit}')

        yield advance
