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

from runs import (
    LESS_IS_BETTER,
    Lab,
    chosen_columns,
    experiment_parser,
    finetune_and_test,
    make_report,
    protocol_of,
    schedule_options,
    write_experiment,
)

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
        options = schedule_options(args.pretrain, args.pretrain_iters, args.pretrain_options)
        data = [f'{part}_dataloader.dataset.data_root={args.images}' for part in ('train', 'val')]
        subset = [f'train_dataloader.dataset.ann_file={path.resolve()}']
        checkpoint = lab.train(f'{size:09d}/pretrain', args.pretrain, [*options, *data, *subset], seed=0)
        results[str(size)] = finetune_and_test(lab, f'{size:09d}', args, checkpoint)
    columns = chosen_columns(args, results)
    report = make_report('Unique pretraining images', 'Images', results, columns, protocol_of(args))
    write_experiment(report, lab.folder, results)
    print(f'written: {draw(results, columns, lab.folder / "plot.png")}')


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


def draw(results: dict, columns: list[tuple[str, str]], path: Path) -> Path:
    """One curve a figure over a logarithmic axis of images."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(columns), figsize=(3.8 * len(columns), 3.2), squeeze=False)
    for axis, (task, metric) in zip(axes[0], columns, strict=True):
        pairs = [(int(size), found[task].get(metric)) for size, found in results.items()]
        pairs = [(size, value) for size, value in pairs if value is not None]
        axis.plot([size for size, _ in pairs], [value for _, value in pairs], marker='o', color='#4c78a8')
        axis.set_xscale('log')
        axis.set_xticks([size for size, _ in pairs], [f'{size:,}' for size, _ in pairs], fontsize=8)
        axis.set_xticks([], minor=True)
        axis.set_xlabel('unique pretraining images')
        axis.set_title(f'{task}\n{metric}' + (' (less is better)' if metric in LESS_IS_BETTER else ''), fontsize=9)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path


if __name__ == '__main__':
    run_cli(main)
