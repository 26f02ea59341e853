# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Compare training runs: a table in the terminal, and curves as a picture.

Usage: python tools/analyze_logs.py WORK_DIR [WORK_DIR ...] [--keys loss lr coco/AP] [--out curves.png] [--smooth 20]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sapiens.commands.options import new_parser
from sapiens.engine.logs import RunLog, read_run
from sapiens.errors import UserError, run_cli


def figures(run: RunLog) -> dict[str, str]:
    """What a run's table says: how far, how fast, and the first, last and best values."""
    loss = [run.train['loss'][step] for step in sorted(run.train.get('loss', {}))]
    rates = sorted(run.train.get('samples_per_s', {}).values())
    times = run.train.get('time', {})
    steps = sorted(times)
    hours = sum((b - a) * times[b] for a, b in zip([0, *steps], steps, strict=False)) / 3600
    rows = {'iterations': str(max(run.train.get('loss', {0: 0}))), 'hours': f'{hours:.2f}'}
    rows['samples/s'] = f'{rates[len(rates) // 2]:.1f}' if rates else '-'
    for name, value in (('first', loss[:1]), ('last', loss[-1:]), ('lowest', [min(loss)] if loss else [])):
        rows[f'loss, {name}'] = f'{value[0]:.5g}' if value else '-'
    rows.update({key: f'{series[max(series)]:.4f}' for key, series in run.val.items()})
    return rows


def print_table(runs: list[RunLog], width: int | None = None) -> None:
    """One column per run, as many as fit side by side; then the next ones below."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=width)
    columns = [figures(run) for run in runs]
    fixed = ['iterations', 'hours', 'samples/s', 'loss, first', 'loss, last', 'loss, lowest']
    names = [*fixed, *sorted({name for column in columns for name in column} - set(fixed))]
    room = console.width - max(map(len, names)) - 4
    widths = [
        min(room - 3, max(len(run.name), *map(len, column.values()))) for run, column in zip(runs, columns, strict=True)
    ]
    start = 0
    while start < len(runs):
        end = start + 1
        while end < len(runs) and sum(w + 3 for w in widths[start : end + 1]) <= room:
            end += 1
        table = Table(title='Training runs' if start == 0 else None)
        table.add_column('')
        for run in runs[start:end]:
            table.add_column(run.name, justify='right', overflow='fold')
        for name in names:
            table.add_row(name, *(column.get(name, '-') for column in columns[start:end]))
        console.print(table)
        start = end
    for run in runs:
        if run.broken_lines:
            print(f'{run.name}: {run.broken_lines} broken line(s) left out', file=sys.stderr)


def plot(runs: list[RunLog], keys: list[str], out: Path, window: int) -> None:
    """One panel per key, one curve per run."""
    from matplotlib.figure import Figure

    from sapiens.engine.logs import smooth
    from sapiens.utils.files import replace_when_done

    known = {key for run in runs for key in (*run.train, *run.val)}
    for key in keys:
        if key not in known:
            raise UserError(f"--keys: '{key}' was not logged; logged are {', '.join(sorted(known))}")
    figure = Figure(figsize=(9, 3.2 * len(keys)), layout='constrained')
    axes = figure.subplots(len(keys), 1, squeeze=False)
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
    print(f'curves: {out}')


def main() -> None:
    """Read the options, print and plot."""
    parser = new_parser(__doc__)
    parser.add_argument('work_dirs', nargs='+', help='work directories of trainings')
    parser.add_argument('--keys', nargs='+', help='what to plot; default: the loss, the learning rate and all metrics')
    parser.add_argument('--out', type=Path, help='.png, .svg or .pdf; default: curves.png in the first work dir')
    parser.add_argument('--smooth', type='count', default=20, help='running mean over so many logged values')
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
