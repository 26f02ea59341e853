# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What the demos share: their options, and turning them into an `Inferencer`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import UserError
from .inferencer import Inferencer

SOME_FAILED = 3
"""Exit code of a demo that could not read some of its images."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of models, persons and devices."""
    models = parser.add_argument_group('models')
    models.add_argument('--model', action='append', default=[], metavar='NAME', help='e.g. pose_308, seg_28_1b, depth')
    models.add_argument('--config', action='append', default=[], help='config instead of a name')
    models.add_argument(
        '--checkpoint', action='append', default=[], help='weights, one for each --model or --config, in their order'
    )
    models.add_argument(
        '--task', nargs='+', choices=('pose', 'seg', 'depth', 'normal'), help='run only these of the models'
    )
    models.add_argument('--flip-test', action=argparse.BooleanOptionalAction, help='default: as the config says')
    models.add_argument('--device', default='auto', help='cuda, mps, cpu; default: the first of these there is')
    models.add_argument('--dtype', default='auto', help='float32, bfloat16 or float16 of the encoder')
    models.add_argument('--batch-size', type=int, default=4, help='crops that run together')
    models.add_argument('--allow-partial', action='store_true', help='leave out heads that the checkpoint lacks')
    persons = parser.add_argument_group('persons')
    persons.add_argument(
        '--detector',
        help='whole (default), hog, file:boxes.json, torchvision, transformers[:NAME], mmdet:CONFIG,CHECKPOINT, '
        'ultralytics[:FILE]',
    )
    persons.add_argument(
        '--bbox', action='append', type=parse_box, metavar='X1,Y1,X2,Y2', help='a person; may be given several times'
    )
    persons.add_argument('--per-person', action='store_true', help='run dense models on each person, then paste')
    persons.add_argument('--threshold', type=float, default=0.3, help='keypoints with a lower score are not drawn')


def parse_box(text: str) -> list[float]:
    """``'10,20,200,400'`` -> four numbers."""
    try:
        box = [float(part) for part in text.split(',')]
    except ValueError:
        box = []
    if len(box) != 4 or box[2] <= box[0] or box[3] <= box[1]:
        raise argparse.ArgumentTypeError(f"'{text}' is not x1,y1,x2,y2 with x2 > x1 and y2 > y1")
    return box


def build_inferencer(args: argparse.Namespace) -> Inferencer:
    """Make the `Inferencer` of the options.

    Raises:
        UserError: Options that do not go together, or models that cannot be loaded.
    """
    if args.model and args.config:
        raise UserError('give --model or --config, not both')
    if args.bbox and args.detector:
        raise UserError('give --bbox or --detector, not both')
    names = args.model or args.config
    if not names and not args.checkpoint:
        raise UserError('say which model: --model pose_308 --checkpoint FILE, or --config CONFIG --checkpoint FILE')
    if args.checkpoint and names and len(names) != len(args.checkpoint):
        raise UserError(f'{len(names)} models and {len(args.checkpoint)} checkpoints: give one --checkpoint for each')
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
    )


def report_failures(inferencer: Inferencer, done: int) -> int:
    """List what could not be read on stderr; the exit code."""
    if not inferencer.failures:
        return 0
    print(f'{done} done, {len(inferencer.failures)} failed:', file=sys.stderr)
    for failure in inferencer.failures:
        print(f'  {failure.message}', file=sys.stderr)
    return SOME_FAILED


def add_video_options(parser: argparse.ArgumentParser) -> None:
    """Options of videos and cameras."""
    video = parser.add_argument_group('video')
    video.add_argument('--track', action='store_true', help='give persons ids that stay (ByteTrack)')
    video.add_argument('--smooth', action='store_true', help='smooth keypoints over time (One-Euro filter)')
    video.add_argument('--no-audio', action='store_true', help='leave the sound out')
    video.add_argument('--max-frames', type=int, help='stop after this many')


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
