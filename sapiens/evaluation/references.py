# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Published figures, shown beside ours as reference and never mixed with them."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from ..errors import UserError

_SHIPPED = Path(__file__).with_name('references.json')
_user_files: list[Path] = []


def add_reference_file(path: str | Path) -> None:
    """Show the rows of a file of yours too (same layout as the shipped ``references.json``).

    Raises:
        UserError: It cannot be read or a row lacks a key.
    """
    _load(Path(path))
    _user_files.append(Path(path))


def reference_rows(task: str, metric: str) -> list[dict]:
    """Rows ``{model, data, values: {column: number}, source}`` for a task's main table; fractions in [0, 1]."""
    return [row for row in _entries('rows') if row['task'] == task and row.get('metric', metric) == metric]


def reference_statements(task: str) -> list[tuple[str, str]]:
    """Published statements about a task: ``(text, source)``."""
    return [(entry['text'], entry['source']) for entry in _entries('statements') if entry['task'] == task]


def _entries(name: str) -> list[dict]:
    return [entry for path in [_SHIPPED, *_user_files] for entry in _load(path).get(name, [])]


@lru_cache(maxsize=None)
def _load(path: Path) -> dict:
    try:
        document = json.loads(path.read_text(encoding='utf-8'))
        for row in document.get('rows', []):
            _ = row['task'], row['model'], row['data'], row['source'], row['values'].items()
        for entry in document.get('statements', []):
            _ = entry['task'], entry['text'], entry['source']
    except FileNotFoundError:
        raise UserError(f'{path}: no such file of reference rows') from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path}: not a file of reference rows ({error!r}); each row needs task, model, data, source and values'
        ) from None
    return document
