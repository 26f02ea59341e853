# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What an evaluation found: figures, tables, protocol and notes, printed or written as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from ..errors import UserError
from ..utils.files import write_atomic
from .tables import Table, plain_number, published_tables


@dataclass
class EvaluationReport:
    """All that one metric has to say.

    Attributes:
        task: ``'pose'``, ``'seg'``, ``'depth'`` or ``'normal'``.
        metrics: Figures by name; fractions are in [0, 1]. A figure that is not defined is NaN (or -1 for AP and AR,
            as COCO's tools have it) and a note says why.
        protocol: What was computed and how, for the header; enough to cite the table.
        tables: The first is the main one.
        notes: Whatever the reader must know: missing predictions, absent classes, wrong conventions.
        intervals: ``{figure: (low, high)}``, 95 % bootstrap over images.
        per_image: One dict per image: ``image`` and its figures.
        extra: Arrays and such that pictures are made of (e.g. ``'confusion'``); not written to JSON.
    """

    metric: str
    task: str
    metrics: dict[str, float]
    protocol: dict[str, str]
    tables: list[Table]
    notes: list[str] = field(default_factory=list)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    per_image: list[dict] = field(default_factory=list)
    extra: dict = field(default_factory=dict)

    def to_json(self) -> dict:
        """Plain data: the figures at top level, then protocol, notes, intervals, tables and images.

        Figures that are not finite become None (JSON has no NaN).
        """
        return {
            **{name: plain_number(value) for name, value in self.metrics.items()},
            'metric': self.metric,
            'task': self.task,
            'protocol': self.protocol,
            'notes': self.notes,
            'intervals_95': {name: list(bounds) for name, bounds in self.intervals.items()},
            'tables': [
                {'title': t.title, 'columns': t.columns, 'rows': [[plain_number(v) for v in row] for row in t.rows]}
                for t in self.tables
            ],
            'per_image': [{name: plain_number(value) for name, value in row.items()} for row in self.per_image],
        }


def print_report(report: EvaluationReport, console: Console | None = None) -> None:
    """Print protocol, tables (those of publications below ours, and marked) and notes."""
    if console is None:
        # Files and pipes have no width of their own; there nothing should wrap.
        console = Console() if Console().is_terminal else Console(width=170)
    console.print(f'\n[bold]{report.metric}[/bold] ({report.task})', highlight=False)
    for name, value in report.protocol.items():
        console.print(f'  {name}: {value}', highlight=False, markup=False)
    published = published_tables(report.task, report.metric)
    for table in [*report.tables, *published]:
        console.print(f'\n{table.title}', style='italic', highlight=False, markup=False)
        shown = RichTable(box=box.SIMPLE_HEAVY)
        for i, column in enumerate(table.heading()):
            shown.add_column(column, justify='left' if i == 0 else 'right', no_wrap=i == 0, overflow='fold')
        for cells in table.lines():
            shown.add_row(*cells, style='dim' if cells[0] == '  95 %' or table in published else None)
        console.print(shown, markup=False)
    for line in _footer(report):
        console.print(line, highlight=False, markup=False)


def numbered(names: Iterable[str]) -> list[str]:
    """Names of metrics, told apart: from its second time on, a name gets a number (``PartIoU``, ``PartIoU_2``)."""
    counts: Counter[str] = Counter()
    found = []
    for name in names:
        counts[name] += 1
        found.append(name if counts[name] == 1 else f'{name}_{counts[name]}')
    return found


def to_markdown(report: EvaluationReport, name: str | None = None) -> str:
    """The same as `print_report`, as Markdown; ``name`` instead of the metric's in the heading."""
    lines = [f'## {name or report.metric} ({report.task})', '']
    lines += [f'- {name}: {value}' for name, value in report.protocol.items()]
    for table in [*report.tables, *published_tables(report.task, report.metric)]:
        lines += ['', f'### {table.title}', '']
        rule = ['---'] + ['---:'] * (len(table.columns) - 1)
        rows = [[cell.replace('|', r'\|') for cell in row] for row in [table.heading(), *table.lines()]]
        lines += ['| ' + ' | '.join(cells) + ' |' for cells in [rows[0], rule, *rows[1:]]]
    footer = _footer(report)
    return '\n'.join(lines + ([''] + [f'> {line}  ' for line in footer] if footer else [])) + '\n'


def to_csv(reports: Iterable[EvaluationReport]) -> str:
    """One line per figure of every table: metric, table, row, column, value (fractions in [0, 1]), low, high."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator='\n')
    writer.writerow(['metric', 'table', 'row', 'column', 'value', 'low_95', 'high_95'])
    reports = list(reports)
    for name, report in zip(numbered(report.metric for report in reports), reports, strict=True):
        for table in report.tables:
            for row in table.rows:
                for column, value in zip(table.columns[1:], row[1:], strict=True):
                    low, high = table.intervals.get((str(row[0]), column), ('', ''))
                    writer.writerow([name, table.title, row[0], column, plain_number(value), low, high])
    return out.getvalue()


def write_reports(reports: Sequence[EvaluationReport], path: str | Path) -> Path:
    """Write reports as ``.json``, ``.csv`` or ``.md`` (by the suffix), first under a temporary name.

    A JSON file of one report holds its figures at top level; of several, a list ``reports`` and the figures of all
    at top level, as ``task/figure`` when there are several tasks, as ``metric_2/figure`` when the name is taken.

    Raises:
        UserError: Another suffix.
    """
    path, names = Path(path), numbered(report.metric for report in reports)
    if path.suffix == '.json':
        if len(reports) == 1:
            content: dict = reports[0].to_json()
        else:
            several = len({report.task for report in reports}) > 1
            content = {}
            for metric, report in zip(names, reports, strict=True):
                for figure, value in report.metrics.items():
                    key = f'{report.task}/{figure}' if several else figure
                    content[f'{metric}/{figure}' if key in content else key] = plain_number(value)
            content['reports'] = [r.to_json() for r in reports]
        text = json.dumps(content, indent=1, allow_nan=False) + '\n'
    elif path.suffix == '.csv':
        text = to_csv(reports)
    elif path.suffix == '.md':
        text = '\n'.join(map(to_markdown, reports, names))
    else:
        raise UserError(f'{path}: write results to a .json, .csv or .md file')
    write_atomic(path, text)
    return path


def _footer(report: EvaluationReport) -> list[str]:
    lines = [f'Note: {note}' for note in report.notes]
    if any(table.intervals for table in report.tables):
        lines.append('Rows "95 %": confidence intervals, bootstrap over images.')
    return lines
