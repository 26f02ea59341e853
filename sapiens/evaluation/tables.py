# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Tables of figures, ours and published ones, and how a figure is shown.

Published figures stand below ours in tables of their own and are never mixed with them. ``references.json`` holds
Tables 3 to 7 of the paper as printed: one row a model and data set, values by the names of our figures, shares in
[0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..utils.json_files import read_json

# COCO's tools give -1 where there is no ground truth.
UNDEFINED = -1.0
_SHIPPED = Path(__file__).with_name('references.json')
_PERCENT = ('AP', 'AR', 'mAP', 'PCK', 'AUC', 'mIoU', 'mAcc', 'aAcc')
_user_files: list[Path] = []


@dataclass
class Table:
    """Rows of figures under named columns.

    Attributes:
        columns: Names of the columns; the first holds the row's name.
        rows: One list per row: text, int, float or None (not defined).
        kind: ``'fraction'``: numbers in [0, 1], shown in percent; ``'number'``: shown as they are; a dict gives
            it by column.
        intervals: ``{(row name, column): (low, high)}`` 95 % confidence intervals.
    """

    title: str
    columns: list[str]
    rows: list[list]
    kind: str | dict[str, str] = 'number'
    intervals: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def show(self, column: str, value: Any) -> str:
        """A cell as text: percent with 2 decimals, numbers with 4 digits, ``n/a`` where nothing is defined."""
        if isinstance(value, str):
            return value
        if value is None or (isinstance(value, float) and not math.isfinite(value)) or value == UNDEFINED:
            return 'n/a'
        if isinstance(value, int):
            return str(value)
        return f'{float(value) * 100:.2f}' if self.is_fraction(column) else f'{value:.4g}'

    def is_fraction(self, column: str) -> bool:
        """Whether the column's numbers are fractions, shown in percent."""
        return (self.kind if isinstance(self.kind, str) else self.kind.get(column)) == 'fraction'

    def heading(self) -> list[str]:
        """Column names as shown: those in percent say so."""
        return [f'{c} %' if i and self.is_fraction(c) else c for i, c in enumerate(self.columns)]

    def lines(self) -> list[list[str]]:
        """The rows as text; a row with confidence intervals is followed by one that holds them."""
        lines = []
        for row in self.rows:
            lines.append([self.show(c, v) for c, v in zip(self.columns, row, strict=True)])
            bounds = [self.intervals.get((str(row[0]), column)) for column in self.columns[1:]]
            if any(bounds):
                cells = zip(self.columns[1:], bounds, strict=True)
                lines.append(['  95 %', *('-'.join(self.show(c, v) for v in b) if b else '' for c, b in cells)])
        return lines


def plain_number(value: object) -> object:
    """A value as JSON takes it; None where it is not finite."""
    if isinstance(value, (bool, str, int)) or value is None:
        return value
    if isinstance(value, np.integer):
        return int(value)
    if hasattr(value, '__float__'):
        return float(value) if math.isfinite(float(value)) else None
    return str(value)


def add_reference_file(path: str | Path) -> None:
    """Show the rows of a file of yours too (same layout as the shipped ``references.json``).

    Raises:
        UserError: It cannot be read or a row lacks a key.
    """
    _load(Path(path))
    _user_files.append(Path(path))


def reference_rows(task: str, metric: str) -> list[dict]:
    """Rows ``{model, data, values: {figure: number}, source}`` for a task; shares in [0, 1]."""
    rows = [row for path in [_SHIPPED, *_user_files] for row in _load(path)]
    return [row for row in rows if row['task'] == task and row.get('metric', metric) == metric]


def published_tables(task: str, metric: str) -> list[Table]:
    """One table a source, with every row for a task."""
    sources: dict[str, list[dict]] = {}
    for row in reference_rows(task, metric):
        sources.setdefault(row['source'], []).append(row)
    tables = []
    for source, rows in sources.items():
        names = list(dict.fromkeys(name for row in rows for name in row['values']))
        # What all rows share stands in the title.
        data = sorted({row['data'] for row in rows})
        extra = [key for key, here in (('data', len(data) > 1), ('input', any('input' in r for r in rows))) if here]
        cells = [[r['model'], *(r.get(key, '') for key in extra), *map(r['values'].get, names)] for r in rows]
        kind = {n: 'fraction' for n in names if n.rpartition('_')[2] in _PERCENT or n.startswith(('within', 'PCK'))}
        title = f'Published, not ours: {source}' + ('' if len(data) > 1 else f'; {data[0]}')
        tables.append(Table(title, ['Model', *map(str.capitalize, extra), *names], cells, kind))
    return tables


@lru_cache(maxsize=None)
def _load(path: Path) -> list[dict]:
    document = read_json(path, 'file of reference rows')
    try:
        rows = [dict(row) for row in document['rows']]
        for row in rows:
            if 'source' not in row and 'table' in row:
                row['source'] = f'{document["source"]}, Table {row["table"]}'
            row['values'] = {name: float(value) for name, value in row['values'].items()}
            _ = row['task'], row['model'], row['data'], row['source']
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path}: not a file of reference rows ({error!r}); each row needs task, model, data, source and values'
        ) from None
    return rows
