# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What the experiments share: runs of the tools that are not repeated once finished, tables, plots."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console

from sapiens.commands.options import new_parser
from sapiens.engine import load_config
from sapiens.errors import UserError
from sapiens.evaluation import EvaluationReport, Table, print_report, write_reports
from sapiens.utils.files import write_atomic

TOOLS = Path(__file__).resolve().parents[1]
# Figures for which less is better; of the others more is.
LESS_IS_BETTER = ('RMSE', 'AbsRel', 'SqRel', 'log10', 'mean', 'median', 'NME', 'EPE')


def experiment_parser(description: str | None) -> argparse.ArgumentParser:
    """Options that every experiment has."""
    parser = new_parser(description)
    parser.add_argument('--pretrain', required=True, metavar='CONFIG', help='pretraining config (MAE)')
    parser.add_argument('--finetune', required=True, nargs='+', metavar='CONFIG', help='configs of the tasks')
    parser.add_argument('--pretrain-iters', type='count', help="iterations of every pretraining; default: the config's")
    parser.add_argument('--finetune-iters', type='count', help="iterations of every finetuning; default: the config's")
    parser.add_argument(
        '--seeds', type='number', nargs='+', default=[0], help='of the finetuning; figures are their means'
    )
    parser.add_argument(
        '--pretrain-options', nargs='+', default=[], metavar='KEY=VALUE', help='for the pretraining config'
    )
    parser.add_argument(
        '--finetune-options', nargs='+', default=[], metavar='KEY=VALUE', help='for the finetuning configs'
    )
    parser.add_argument('--metrics', nargs='+', metavar='NAME', help='figures to show; default: two of each task')
    parser.add_argument('--gpus', type='number', default=0, help='processes a run; 0: one, without a launcher')
    parser.add_argument('--out', required=True, help='folder for the runs, the table and the plot')
    return parser


@dataclass
class Lab:
    """Starts runs and remembers the finished ones, so that a stopped experiment continues.

    Attributes:
        folder: Where each run has its folder.
        gpus: Processes of a run; 0 = one, without a launcher.
    """

    folder: Path
    gpus: int = 0

    def train(self, name: str, config: str, options: list[str], seed: int) -> Path:
        """Train, unless the same command has finished before.

        Returns:
            The last checkpoint.

        Raises:
            UserError: The run failed; the message names its log.
        """
        target = self.folder / name
        command = ['train', config, '--work-dir', str(target), '--resume', '--seed', str(seed)]
        self._run(target, command, options)
        pointer = target / 'last_checkpoint'
        if not pointer.is_file():
            raise UserError(f'{target}: the run ended without a checkpoint; see {target / "train.log"}')
        path = Path(pointer.read_text().strip())
        return path if path.is_absolute() else target / path.name

    def test(self, name: str, config: str, checkpoint: Path, options: list[str]) -> dict[str, float]:
        """Figures of a checkpoint by name."""
        target = self.folder / name / 'test'
        command = ['test', config, str(checkpoint), '--out', str(target), '--work-dir', str(target)]
        self._run(target, command, options)
        report = json.loads((target / 'report.json').read_text())
        return {key.split('/')[-1]: value for key, value in report.items() if isinstance(value, (int, float))}

    def _run(self, target: Path, command: list[str], options: list[str]) -> None:
        target.mkdir(parents=True, exist_ok=True)
        tool = command[0]
        command = [*command, *(['--cfg-options', *options] if options else [])]
        done = target / f'{tool}.finished.json'
        if done.is_file():
            if json.loads(done.read_text()) == command:
                return
            raise UserError(f'{target}: holds a finished run of another command; choose another --out or delete it')
        start = [str(TOOLS / f'{tool}.py'), *command[1:]]
        if self.gpus > 0:
            start = [str(TOOLS / 'launch.py'), str(self.gpus), *start, '--launcher', 'pytorch']
        print(f'{target}: {" ".join(command)}', flush=True)
        log = target / f'{tool}.log'
        with open(log, 'ab') as out:
            code = subprocess.run([sys.executable, *start], stdout=out, stderr=subprocess.STDOUT).returncode
        if code:
            last = log.read_text(errors='replace').strip().splitlines()[-1:] or ['']
            raise UserError(f'{target}: {tool}.py ended with code {code} ({last[0][:200]}); see {log}')
        write_atomic(done, json.dumps(command))


def schedule_options(config: str, iterations: int | None, extra: list[str]) -> list[str]:
    """Options that set the length of a run; one validation at its end, a warm-up of at most a tenth.

    A config's warm-up is made for its own length; a short run would end before it, with next to no learning rate.
    """
    if iterations is None:
        return extra
    length = [f'train_cfg.max_iters={iterations}', f'train_cfg.val_interval={iterations}']
    schedules = load_config(config).get('param_scheduler')
    if isinstance(schedules, list) and not any(option.startswith('param_scheduler') for option in extra):
        most = max(1, iterations // 10)
        warm = [part.get('end') for part in schedules if part.get('begin', 0) == 0 and part.get('end', 0) > most]
        for number, part in enumerate(schedules):
            length += [f'param_scheduler.{number}.{key}={most}' for key in ('begin', 'end') if part.get(key) in warm]
    return [*length, *extra]


def finetune_and_test(lab: Lab, name: str, args: argparse.Namespace, checkpoint: Path | None) -> dict[str, dict]:
    """Finetune every task from a pretrained encoder (None: from random weights) and test it.

    Returns:
        Config name -> mean figures over the seeds.
    """
    results: dict[str, dict] = {}
    for config in args.finetune:
        task = Path(config).stem
        found = []
        for seed in args.seeds:
            run = f'{name}/{task}_seed{seed}'
            options = schedule_options(config, args.finetune_iters, args.finetune_options)
            start = [] if checkpoint is None else [f'load_from={checkpoint}']
            last = lab.train(run, config, [*options, *start], seed)
            found.append(lab.test(run, config, last, args.finetune_options))
        common = [key for key in found[0] if all(key in figures for figures in found)]
        results[task] = {key: sum(figures[key] for figures in found) / len(found) for key in common}
    return results


def pretrain_and_test(lab: Lab, name: str, args: argparse.Namespace, folder: str, *subset: str) -> dict[str, dict]:
    """`finetune_and_test` of an encoder that is pretrained on a folder of images, or, by options, a part of it."""
    options = schedule_options(args.pretrain, args.pretrain_iters, args.pretrain_options)
    data = [f'{part}_dataloader.dataset.data_root={folder}' for part in ('train', 'val')]
    checkpoint = lab.train(f'{name}/pretrain', args.pretrain, [*options, *data, *subset], seed=0)
    return finetune_and_test(lab, name, args, checkpoint)


def chosen_columns(args: argparse.Namespace, results: dict[str, dict[str, dict]]) -> list[tuple[str, str]]:
    """Pairs of task and figure for the columns of the table.

    Raises:
        UserError: A figure that no task has.
    """
    first = next(iter(results.values()))
    columns = []
    for task, figures in first.items():
        names = [name for name in figures if not name.startswith('count')]
        chosen = [name for name in names if args.metrics is None or name in args.metrics]
        columns += [(task, name) for name in (chosen[:2] if args.metrics is None else chosen)]
    if not columns:
        known = sorted({name for figures in first.values() for name in figures})
        raise UserError(f'--metrics {" ".join(args.metrics)}: no task has these; there are {", ".join(known)}')
    return columns


def write_experiment(
    lab: Lab,
    args: argparse.Namespace,
    title: str,
    starts: str,
    results: dict[str, dict[str, dict]],
    draw: Callable[[Any, dict[str, float | None]], None],
) -> None:
    """Print and write the table (one row a start, one column a figure), all figures of all runs, and the plot.

    Args:
        starts: What the rows are, the head of their column.
        results: Start -> task -> figure -> value.
        draw: Draws one figure, start -> value, on axes of matplotlib.
    """
    columns = chosen_columns(args, results)
    rows = [[name, *(found[task].get(metric) for task, metric in columns)] for name, found in results.items()]
    sense = {metric: ' (less is better)' if metric in LESS_IS_BETTER else '' for _, metric in columns}
    table = Table(title, [starts, *(f'{task} {metric}{sense[metric]}' for task, metric in columns)], rows)
    report = EvaluationReport(title, title.lower(), {}, protocol_of(args), [table])
    print_report(report, Console(width=160))
    for kind in ('csv', 'md'):
        print(f'written: {write_reports([report], lab.folder / f"table.{kind}")}')
    document = {'protocol': report.protocol, 'results': results}
    write_atomic(lab.folder / 'table.json', json.dumps(document, indent=1) + '\n')
    print(f'written: {lab.folder / "table.json"}')

    from matplotlib.figure import Figure  # mmengine brings it

    figure = Figure(figsize=(3.6 * len(columns), 3.3), layout='tight')
    for axis, (task, metric) in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        draw(axis, {name: found[task].get(metric) for name, found in results.items()})
        axis.set_title(f'{task}\n{metric}{sense[metric]}', fontsize=9)
    figure.savefig(lab.folder / 'plot.png', dpi=150)
    print(f'written: {lab.folder / "plot.png"}')


def protocol_of(args: argparse.Namespace) -> dict[str, str]:
    """What was run, for the header of the table."""
    configured = 'as in the config'
    return {
        'pretraining': f'{args.pretrain}, {args.pretrain_iters or configured} iterations, the same for every row',
        'finetuning': f'{", ".join(args.finetune)}, {args.finetune_iters or configured} iterations, '
        f'the same for every row; seeds {", ".join(map(str, args.seeds))}',
        'options': ' '.join([*args.pretrain_options, *args.finetune_options]) or 'none',
    }
