# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Published figures, shown below ours in tables of their own and never mixed with them.

``references.json`` holds Tables 3 to 7 of the paper as printed: one row a model and data set, values by the names of
our figures, shares in [0, 1].
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..errors import UserError
from ..utils.json_files import read_json
from .tables import Table

_SHIPPED = Path(__file__).with_name('references.json')
_PERCENT = ('AP', 'AR', 'mAP', 'PCK', 'AUC', 'mIoU', 'mAcc', 'aAcc')
_user_files: list[Path] = []


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
