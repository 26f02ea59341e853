# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""How filters do on a set of `made_set`, whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UserError
from ..utils.json_files import read_json
from .stage import need

FILTERS: dict[str, tuple[set[str], set[str], set[str]]] = {
    'readable': ({'broken'}, {'unreadable'}, set()),
    'size and sharpness': ({'poor'}, {'too small', 'blurred'}, {'drawing'}),
    'somebody there': ({'nobody'}, {'no person'}, {'small', 'drawing', 'poor'}),
    'large enough': ({'small'}, {'person too small', 'no person'}, {'nobody', 'drawing', 'poor'}),
    'text': ({'text'}, {'text'}, {'watermark'}),
    'watermark': ({'watermark'}, {'watermark'}, {'text'}),
    'art': ({'drawing'}, {'art'}, set()),
    'duplicates': ({'copy'}, {'duplicate'}, set()),
}
"""Filter -> the kinds that it is for, the reasons that it gives, and the kinds where those are no mistake either."""


def score_filters(folder: Path, out: Path) -> list[list[Any]]:
    """How filters did on a made set.

    Args:
        folder: Of `made_set.make_set`.
        out: Of the curation of its images.

    Returns:
        Rows of: filter, images of its kind, precision, recall, good images that it drops, images of its kind that are
        dropped for whatever reason. Precision and the rest count every reason that an image has, not the first alone.

    Raises:
        UserError: No set there, or no decisions.
    """
    truth = read_json(folder / 'truth.json', 'made set')
    if not list((out / 'decisions').glob('*.parquet')):
        raise UserError(f'{out}: holds no decisions; curate {folder / "images"} into it first')
    rows = []
    for row in need('pyarrow.parquet').read_table(out / 'decisions').to_pylist():
        reasons = {*row['reasons'], *([row['reason']] if row['reason'] else [])}
        rows.append((truth[Path(row['name']).name]['kind'], reasons))
    table = []
    for name, (kinds, given, excused) in FILTERS.items():
        own = [reasons for kind, reasons in rows if kind in kinds]
        hits = sum(bool(reasons & given) for reasons in own)
        wrong = sum(bool(reasons & given) for kind, reasons in rows if kind not in kinds | excused)
        good = sum(bool(reasons & given) for kind, reasons in rows if kind == 'good')
        dropped = sum(bool(reasons) for reasons in own)
        if hits + wrong:
            precision, recall = hits / (hits + wrong), hits / len(own)
            table.append([name, len(own), precision, recall, good, dropped / len(own)])
    kept = [kind for kind, reasons in rows if not reasons]
    good = sum(kind == 'good' for kind, _ in rows)
    table.append(['all together: what is kept', len(kept), kept.count('good') / max(len(kept), 1),
                  kept.count('good') / good, good - kept.count('good'), None])  # fmt: skip
    return table
