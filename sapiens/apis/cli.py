# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What the commands that run models share: an `Inferencer` of their options, progress, the list of failures."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..errors import UserError
from .inferencer import Inferencer
from .sources import Failure

SOME_FAILED = 3
"""Exit code of a demo that could not read some of its images."""


def build_inferencer(args: argparse.Namespace) -> Inferencer:
    """Make the `Inferencer` of the options.

    Raises:
        UserError: Options that do not go together, or models that cannot be loaded.
    """
    names = chosen_models(args)
    if not names and not args.checkpoint:
        # They ship.
        names, args.detector = ['tiny'], args.detector or (None if args.bbox else 'tiny')
    task = args.task[0] if args.task and len(args.task) == 1 and args.task != ['pose'] else None
    return Inferencer(
        names or None,
        args.checkpoint or None,
        device=args.device,
        dtype=args.dtype,
        detector=args.bbox or args.detector,
        per_person=args.per_person,
        batch_size=args.batch_size,
        flip_test=args.flip_test,
        task=task,
        allow_partial=args.allow_partial,
        compile=args.compile,
    )


def chosen_models(args: argparse.Namespace) -> list[str]:
    """Names or configs of the models, as many as there are checkpoints where both are given.

    Raises:
        UserError: Options that do not go together.
    """
    for one, other in (('model', 'config'), ('bbox', 'detector')):
        if getattr(args, one) and getattr(args, other):
            raise UserError(f'give --{one} or --{other}, not both')
    names = args.model or args.config
    if args.checkpoint and names and len(names) != len(args.checkpoint):
        raise UserError(f'{len(names)} models and {len(args.checkpoint)} checkpoints: give one --checkpoint for each')
    return names


def report(failures: Sequence[Failure], notes: Sequence[str], done: int) -> int:
    """List on stderr what could not be read and what was left out; the exit code."""
    for note in notes:
        print(f'note: {note}', file=sys.stderr)
    if not failures:
        return 0
    print(f'{done} done, {len(failures)} failed:', file=sys.stderr)
    for failure in failures:
        print(f'  {failure.message}', file=sys.stderr)
    return SOME_FAILED


@contextmanager
def frame_progress(total: int | None) -> Iterator[Callable[[], None]]:
    """A progress bar with frames per second; gives the function to call after each frame."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[rate]} fps'), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task('frames', total=total, rate='?')
        begin, count = time.monotonic(), 0

        def advance() -> None:
            nonlocal count
            count += 1
            progress.update(task, advance=1, rate=f'{count / max(time.monotonic() - begin, 1e-6):.1f}')

        yield advance
