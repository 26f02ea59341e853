# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What the images of the pretraining are worth (the paper's Table 7), at any size.

    python tools/experiments/pretraining_source.py --pretrain configs/pretrain/sapiens_tiny_mae.py
        --finetune configs/normal/sapiens_tiny_normal.py configs/seg/sapiens_tiny_28cls.py
        --source general=data/general human=data/human --pretrain-iters 20000 --finetune-iters 5000
        --out work_dirs/table7

Each source is a folder of images. One encoder is pretrained on each with equal schedules, then every task is finetuned
from each of them, and from random weights, with equal schedules. A stopped experiment continues where it was.
"""

from __future__ import annotations

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

from sapiens.errors import UserError, run_cli

RANDOM = 'random initialisation'


def main() -> None:
    """Run, draw the table and the plot."""
    parser = experiment_parser(__doc__)
    parser.add_argument('--source', required=True, nargs='+', metavar='NAME=FOLDER', help='images to pretrain on')
    parser.add_argument('--no-random', action='store_true', help='leave out the row without pretraining')
    args = parser.parse_args()
    sources = {}
    for text in args.source:
        name, _, folder = text.partition('=')
        if not name or not Path(folder).is_dir():
            raise UserError(f'--source {text}: write NAME=FOLDER with a folder that exists')
        sources[name] = folder
    lab = Lab(Path(args.out), args.gpus)
    results = {} if args.no_random else {RANDOM: finetune_and_test(lab, 'random', args, None)}
    for name, folder in sources.items():
        options = schedule_options(args.pretrain, args.pretrain_iters, args.pretrain_options)
        data = [f'{part}_dataloader.dataset.data_root={folder}' for part in ('train', 'val')]
        checkpoint = lab.train(f'{name}/pretrain', args.pretrain, [*options, *data], seed=0)
        results[name] = finetune_and_test(lab, name, args, checkpoint)
    columns = chosen_columns(args, results)
    report = make_report('Pretraining source', 'Pretraining', results, columns, protocol_of(args))
    write_experiment(report, lab.folder, results)
    print(f'written: {draw(results, columns, lab.folder / "plot.png")}')


def draw(results: dict, columns: list[tuple[str, str]], path: Path) -> Path:
    """One group of bars a figure."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(columns), figsize=(3.4 * len(columns), 3.4), squeeze=False)
    for axis, (task, metric) in zip(axes[0], columns, strict=True):
        values = [found[task].get(metric) for found in results.values()]
        bars = axis.bar(list(results), [0 if v is None else v for v in values], color='#4c78a8')
        axis.bar_label(bars, [f'{v:.4g}' if v is not None else 'n/a' for v in values], fontsize=8)
        axis.margins(y=0.12)
        axis.set_title(f'{task}\n{metric}' + (' (less is better)' if metric in LESS_IS_BETTER else ''), fontsize=9)
        axis.tick_params(axis='x', labelrotation=20, labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path


if __name__ == '__main__':
    run_cli(main)
