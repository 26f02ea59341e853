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
from typing import Any

from runs import Lab, experiment_parser, finetune_and_test, pretrain_and_test, write_experiment

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
        results[name] = pretrain_and_test(lab, name, args, folder)
    write_experiment(lab, args, 'Pretraining source', 'Pretraining', results, draw)


def draw(axis: Any, values: dict[str, float | None]) -> None:
    """A bar for each source."""
    bars = axis.bar(list(values), [0 if v is None else v for v in values.values()], color='#4c78a8')
    axis.bar_label(bars, [f'{v:.4g}' if v is not None else 'n/a' for v in values.values()], fontsize=8)
    axis.margins(y=0.12)
    axis.tick_params(axis='x', labelrotation=20, labelsize=8)


if __name__ == '__main__':
    run_cli(main)
