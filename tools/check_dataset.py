# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read every sample of a data set and list what is wrong; the exit code is 1 if anything is.

Finds missing files, unreadable images, labels of another size or outside the vocabulary, empty masks, NaN depth,
normals that are not unit vectors or point away, keypoints off the image, and left and right that seem swapped.

Usage: python tools/check_dataset.py configs/seg/sapiens_1b_28cls.py --split val --fix-list to_mend.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sapiens.datasets.check import Problem, check_dataset
from sapiens.engine.config import OptionsAction, load_config
from sapiens.errors import UserError, run_cli
from sapiens.registry import DATASETS
from sapiens.utils.files import write_atomic


def main() -> int:
    """Check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
    parser.add_argument('--fix-list', metavar='OUT', help='write every problem there, one JSON object a line')
    parser.add_argument('--workers', type=int, default=2, help='processes that read')
    parser.add_argument('--show', type=int, default=30, metavar='N', help='problems to print in full')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, help='overrides, e.g. a.b=1')
    args = parser.parse_args()

    config = load_config(args.config, args.cfg_options)
    init_default_scope(config.get('default_scope', 'sapiens'))
    loader = config.get(f'{args.split}_dataloader')
    if loader is None:
        raise UserError(f'{args.config}: has no {args.split}_dataloader')
    dataset = DATASETS.build(loader.dataset)
    console = Console()
    problems: list[Problem] = []
    bar = Progress(
        TextColumn(f'{args.split} samples'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('{task.fields[rate]}'),
        TimeRemainingColumn(),
        TextColumn('{task.fields[found]} problems'),
        console=console,
    )
    with bar:
        task = bar.add_task('', total=len(dataset), rate='', found=0)
        for found in check_dataset(dataset, args.workers):
            problems += found
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, rate=f'{speed:.0f}/s' if speed else '', found=len(problems))
    if args.fix_list:
        write_atomic(args.fix_list, ''.join(json.dumps(asdict(p)) + '\n' for p in problems).encode())
    report(console, problems, len(dataset), args.show)
    if args.fix_list:
        console.print(f'The whole list is in {args.fix_list}')
    return 1 if problems else 0


def report(console: Console, problems: list[Problem], total: int, show: int) -> None:
    """Print the counts by kind and the first problems in full."""
    if not problems:
        console.print(f'{total} samples checked, nothing wrong')
        return
    counts = Table(title=f'{len({p.index for p in problems})} of {total} samples have problems')
    counts.add_column('problem')
    counts.add_column('count', justify='right')
    for kind, count in Counter(p.kind for p in problems).most_common():
        counts.add_row(kind, str(count))
    console.print(counts)
    table = Table(title=f'The first {show} of {len(problems)}' if len(problems) > show else None)
    for column in ('sample', 'problem', 'file', 'detail'):
        table.add_column(column, overflow='fold')
    for problem in problems[:show]:
        table.add_row(str(problem.index), problem.kind, problem.file, problem.detail)
    console.print(table)


if __name__ == '__main__':
    run_cli(main)
