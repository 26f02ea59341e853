# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What the commands that run models share: an `Inferencer` of their options, the list of failures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

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
    return Inferencer(names or None, args.checkpoint or None, **settings_of(args))


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of an `Inferencer` of any models."""
    names = ('device', 'dtype', 'per_person', 'batch_size', 'flip_test', 'allow_partial', 'compile')
    task = args.task[0] if args.task and len(args.task) == 1 and args.task != ['pose'] else None
    return {'detector': args.bbox or args.detector, 'task': task, **{name: getattr(args, name) for name in names}}


def chosen_models(args: argparse.Namespace) -> list[str]:
    """Names or configs of the models, as many as there are checkpoints where both are given; else what ships.

    Raises:
        UserError: Options that do not go together.
    """
    for one, other in (('model', 'config'), ('bbox', 'detector')):
        if getattr(args, one) and getattr(args, other):
            raise UserError(f'give --{one} or --{other}, not both')
    names = args.model or args.config
    if not args.checkpoint and names in ([], ['tiny']):
        # They ship.
        names, args.detector = ['tiny'], args.detector or (None if args.bbox else 'tiny')
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
