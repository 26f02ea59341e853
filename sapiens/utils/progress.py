# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The bar of a long command: how many of how many, how fast, how long still."""

from __future__ import annotations

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

        def advance(note: str = '', count: int = 1) -> None:
            bar.update(task, advance=count, note=note)
            # Over the whole run: items that come in batches would else show the rate within a batch.
            speed = bar.tasks[0].completed / max(bar.tasks[0].elapsed or 0.0, 1e-9)
            bar.update(task, rate=f'{speed:.{0 if speed >= 100 else 1}f}{unit}')

        yield advance
