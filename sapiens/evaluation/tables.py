# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Tables of figures, and how a figure is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# COCO's tools give -1 where there is no ground truth.
UNDEFINED = -1.0


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
    if isinstance(value, float) or hasattr(value, '__float__'):
        return float(value) if math.isfinite(float(value)) else None
    return str(value)
