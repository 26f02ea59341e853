# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Compare training runs: a table in the terminal, and curves as a picture.

Usage: python tools/analyze_logs.py WORK_DIR [WORK_DIR ...] [--keys loss lr coco/AP] [--out curves.png] [--smooth 20]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sapiens.errors import UserError, run_cli


def print_table(runs: list) -> None:
    """One row per run: how far, how fast, and the first, last and best values."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title='Training runs')
    metrics = sorted({key for run in runs for key in run.val})
    for column in ('run', 'iterations', 'loss: first', 'last', 'lowest', 'samples/s', 'hours', *metrics):
        table.add_column(column, justify='left' if column == 'run' else 'right', overflow='fold')
    for run in runs:
        loss = [run.train['loss'][step] for step in sorted(run.train.get('loss', {}))]
        rates = sorted(run.train.get('samples_per_s', {}).values())
        times = run.train.get('time', {})
        steps = sorted(times)
        hours = sum((b - a) * times[b] for a, b in zip([0, *steps], steps, strict=False)) / 3600
        row = [run.name, str(max(run.train.get('loss', {0: 0})))]
        row += [f'{value:.5g}' for value in (loss[0], loss[-1], min(loss))] if loss else ['-'] * 3
        row += [f'{rates[len(rates) // 2]:.1f}' if rates else '-', f'{hours:.2f}']
        for key in metrics:
            series = run.val.get(key, {})
            row.append(f'{series[max(series)]:.4f}' if series else '-')
        table.add_row(*row)
    Console().print(table)
    for run in runs:
        if run.broken_lines:
            print(f'{run.name}: {run.broken_lines} broken line(s) left out', file=sys.stderr)


def plot(runs: list, keys: list[str], out: Path, window: int) -> None:
    """One panel per key, one curve per run."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    from sapiens.engine.logs import smooth
    from sapiens.utils.files import replace_when_done

    known = {key for run in runs for key in (*run.train, *run.val)}
    for key in keys:
        if key not in known:
            raise UserError(f"--keys: '{key}' was not logged; logged are {', '.join(sorted(known))}")
    figure, axes = plt.subplots(len(keys), 1, figsize=(9, 3.2 * len(keys)), squeeze=False, constrained_layout=True)
    for axis, key in zip(axes[:, 0], keys, strict=True):
        for run in runs:
            series = run.train.get(key) or run.val.get(key) or {}
            steps = sorted(series)
            values = [series[step] for step in steps]
            if key in run.train and window > 1 and len(values) > 2 * window:
                (line,) = axis.plot(steps, values, linewidth=0.6, alpha=0.3)
                axis.plot(steps, smooth(values, window), color=line.get_color(), label=run.name)
            else:
                axis.plot(steps, values, marker='o' if len(values) < 30 else None, markersize=3, label=run.name)
        axis.set(xlabel='iteration', ylabel=key)
        axis.grid(alpha=0.3)
        if key in ('loss',) and all(v > 0 for run in runs for v in run.train.get(key, {}).values()):
            axis.set_yscale('log')
        axis.legend()
    with replace_when_done(out) as temporary:
        figure.savefig(temporary, dpi=120, format=out.suffix[1:] or 'png')
    plt.close(figure)
    print(f'curves: {out}')


def main() -> None:
    """Read the options, print and plot."""
    from sapiens.engine.logs import read_run

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dirs', nargs='+', help='work directories of trainings')
    parser.add_argument('--keys', nargs='+', help='what to plot; default: the loss, the learning rate and all metrics')
    parser.add_argument('--out', type=Path, help='.png, .svg or .pdf; default: curves.png in the first work dir')
    parser.add_argument('--smooth', type=int, default=20, help='running mean over so many logged values')
    args = parser.parse_args()
    runs = [read_run(path) for path in args.work_dirs]
    print_table(runs)
    metrics = sorted({key for run in runs for key in run.val})
    first = Path(args.work_dirs[0])
    out = args.out or (first if first.is_dir() else first.parent) / 'curves.png'
    if out.suffix not in ('.png', '.svg', '.pdf'):
        raise UserError(f'--out {out}: give a .png, .svg or .pdf file')
    plot(runs, args.keys or ['loss', 'lr', *metrics], out, args.smooth)


if __name__ == '__main__':
    run_cli(main)
