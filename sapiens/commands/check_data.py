# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read every sample of a data set and list what is wrong; the exit code is 1 if anything is.

Finds missing files, unreadable images, labels of another size or outside the vocabulary, empty masks, NaN depth,
normals that are not unit vectors, point away or are BGR, depth in other units; images of another size than annotated,
boxes that show nobody, keypoints off the image or outside their box (relative, normalised, x and y exchanged), files of
one name, and left and right that seem swapped. What the reader dropped or assumed is logged first; a note says when
images are trained on and tested with.

Example: sapiens check-data configs/seg/sapiens_1b_28cls.py --split val --fix-list to_mend.jsonl
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from . import options

if TYPE_CHECKING:
    from ..datasets.check import Problem


def main() -> int:
    """Check; returns the exit code."""
    parser = options.new_parser(__doc__)
    options.add_dataset_options(parser)
    parser.add_argument('--fix-list', metavar='OUT', help='write every problem there, one JSON object a line')
    parser.add_argument('--workers', type='number', default=2, help='processes that read')
    parser.add_argument('--show', type='number', default=30, metavar='N', help='problems to print in full')
    args = parser.parse_args()
    from ..datasets.base import leaves_of
    from ..datasets.check import check_dataset
    from ..utils.files import write_atomic
    from ..utils.progress import progress

    dataset = options.build_dataset(args)
    total = sum(map(len, leaves_of(dataset)))
    console = Console()
    problems: list[Problem] = []
    with progress(f'{args.split} samples', total, console=console) as advance:
        for found in check_dataset(dataset, args.workers):
            problems += found
            whole = any(problem.index < 0 for problem in found)  # of the data set, behind the last sample
            advance(f'{len(problems)} problems', 0 if whole else 1)
    if args.fix_list:
        write_atomic(args.fix_list, ''.join(json.dumps(asdict(p)) + '\n' for p in problems).encode())
    report(console, problems, total, args.show)
    if shared := shared_images(args, dataset):
        other = args.split.replace('train', 'val')
        console.print(f'Note: {len(shared)} images are both in train and in {other} (first: {min(shared)}); '
                      'figures of what was trained on say nothing of other images')  # fmt: skip
    if args.fix_list:
        console.print(f'The whole list is in {args.fix_list}')
    return 1 if problems else 0


def shared_images(args: Namespace, dataset: Any) -> set[str]:
    """Files of the data set that the config's other split has too: validation's of training, else training's."""
    from ..datasets.base import paths_of
    from ..errors import UserError

    other = Namespace(**{**vars(args), 'split': 'val' if args.split == 'train' else 'train'})
    with suppress(UserError, OSError):  # it may not be there yet
        return paths_of(dataset) & paths_of(options.build_dataset(other))
    return set()


def report(console: Console, problems: list[Problem], total: int, show: int) -> None:
    """Print the counts by kind and the first problems in full."""
    if not problems:
        console.print(f'{total} samples checked, nothing wrong')
        return
    counts = Table(title=f'{len({p.index for p in problems if p.index >= 0})} of {total} samples have problems')
    counts.add_column('problem')
    counts.add_column('count', justify='right')
    for kind, count in Counter(p.kind for p in problems).most_common():
        counts.add_row(kind, str(count))
    console.print(counts)
    table = Table(title=f'The first {show} of {len(problems)}' if len(problems) > show else None)
    for column in ('sample', 'problem', 'file', 'detail'):
        table.add_column(column, overflow='fold')
    for problem in problems[:show]:
        table.add_row('all' if problem.index < 0 else str(problem.index), problem.kind, problem.file, problem.detail)
    console.print(table)
