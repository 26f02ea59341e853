# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Score against the number of unique pretraining images (the paper's Fig. 10), at any size.

    python tools/experiments/data_size.py --pretrain configs/pretrain/sapiens_tiny_mae.py
        --finetune configs/normal/sapiens_tiny_normal.py --images data/human --sizes 100 1000 10000 all
        --pretrain-iters 20000 --finetune-iters 5000 --out work_dirs/fig10

Every size is pretrained for the same number of iterations, so only the number of different images changes. Smaller
sets are parts of the larger ones (one random order). A stopped experiment continues where it was.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from runs import Lab, experiment_parser, pretrain_and_test, write_experiment

from sapiens.datasets.image_files import list_images
from sapiens.errors import UserError, run_cli


def main() -> None:
    """Run, draw the table and the plot."""
    parser = experiment_parser(__doc__)
    parser.add_argument('--images', required=True, help='folder of images to pretrain on')
    parser.add_argument('--sizes', required=True, nargs='+', metavar='N', help="of images; 'all' is all of them")
    parser.add_argument('--order-seed', type='number', default=0, help='of the random order of the images')
    args = parser.parse_args()
    lab = Lab(Path(args.out), args.gpus)
    lists = write_lists(args.images, args.sizes, lab.folder / 'lists', args.order_seed)
    results = {}
    for size, path in lists.items():
        subset = f'train_dataloader.dataset.ann_file={path.resolve()}'
        results[str(size)] = pretrain_and_test(lab, f'{size:09d}', args, args.images, subset)
    write_experiment(lab, args, 'Unique pretraining images', 'Images', results, draw)


def write_lists(folder: str, sizes: list[str], target: Path, seed: int) -> dict[int, Path]:
    """Lists of nested random subsets by size, smallest first.

    Raises:
        UserError: A size is no number, or larger than the folder.
    """
    paths = sorted(os.path.relpath(path, folder) for path in list_images(folder))
    random.Random(seed).shuffle(paths)
    numbers = set()
    for size in sizes:
        if size != 'all' and not (size.isdigit() and 0 < int(size) <= len(paths)):
            raise UserError(f"--sizes {size}: give numbers from 1 to {len(paths)} (the images of {folder}), or 'all'")
        numbers.add(len(paths) if size == 'all' else int(size))
    target.mkdir(parents=True, exist_ok=True)
    lists = {}
    for number in sorted(numbers):
        lists[number] = target / f'{number:09d}.txt'
        lists[number].write_text('\n'.join(paths[:number]) + '\n', encoding='utf-8')
    return lists


def draw(axis: Any, values: dict[str, float | None]) -> None:
    """A curve over a logarithmic axis of images."""
    pairs = [(int(size), value) for size, value in values.items() if value is not None]
    axis.plot([size for size, _ in pairs], [value for _, value in pairs], marker='o', color='#4c78a8')
    axis.set_xscale('log')
    axis.set_xticks([size for size, _ in pairs], [f'{size:,}' for size, _ in pairs], fontsize=8)
    axis.set_xticks([], minor=True)
    axis.set_xlabel('unique pretraining images')
    axis.grid(alpha=0.3)


if __name__ == '__main__':
    run_cli(main)
