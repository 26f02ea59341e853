# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What was kept and why the rest was not, for people: pictures and tables, as markdown and the HTML page of it."""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from markdown_it import MarkdownIt  # rich brings it

from ..datasets.base import BAD_SAMPLE
from ..datasets.image_files import decode_image
from ..datasets.label_files import encode_image
from ..utils.file_names import safe_stem
from ..utils.files import replace_when_done, write_atomic
from ..visualization import side_by_side
from .packing import FAILED, UNREADABLE
from .persons import Boxes
from .scoring import read_part
from .sources import read_image
from .stage import Stage, need, scaled

KEPT = 'kept'
HEAD = (
    '<!DOCTYPE html><meta charset="utf-8"><title>Curation</title><style>body{font-family:sans-serif;margin:2em auto;'
    'max-width:1700px}td,th{padding:.2em 1em;text-align:left}</style>'
)


def write_report(stages: list[Stage], source: str, out: Path, parts: list[int], lost: list[tuple[str, str]]) -> Path:
    """Write ``OUT/report/report.html``, ``.md`` and their pictures, and ``OUT/failed.txt``.

    Args:
        out: Folder of the curation, complete.
        parts: Images in each part.
        lost: Images that could not be read again when they were packed, and why.

    Returns:
        Path of the page.
    """
    reasons, also, failed, samples = Counter(), Counter(), list(lost), defaultdict(list)
    for part in range(len(parts)):
        table = read_part(out, 'decisions', part).to_pylist()
        order = np.random.default_rng(part).permutation(len(table))
        for row in (table[i] for i in order):
            reason = row['reason'] or KEPT
            reasons[reason] += 1
            also.update({*(row['reasons'] or ()), *([reason] if reason != KEPT else [])})
            if row['error']:
                failed.append((row['name'], row['error']))
            elif len(samples[reason]) < (40 if reason == KEPT else 10):
                samples[reason].append(row['ref'])
    write_atomic(out / 'failed.txt', ''.join(f'{name}\t{" ".join(error.split())}\n' for name, error in failed))
    total, folder = sum(parts), out / 'report'
    with replace_when_done(folder, folder=True, sync=False) as temporary:
        rows = [[r, f'{n:,}', f'{n / total:.1%}', f'{also[r]:,}' * (r != KEPT)] for r, n in reasons.most_common()]
        page = [
            '# Curation',
            f'{total:,} images of `{source}`: {reasons[KEPT]:,} kept ({reasons[KEPT] / total:.1%}).',
            '## Why images went',
            _table([['reason', 'images', 'share', 'had this reason, among others'], *rows]),
            _bars(temporary / 'reasons.png', reasons, 'images', flat=True),
        ]
        for stage in stages:
            if isinstance(stage, Boxes):
                counts, what = _counts(out, len(parts), stage), f'{stage.column} in an image'
                page += [f'## {stage.column.capitalize()} in the images kept']
                page += [_bars(temporary / f'{stage.column}.png', counts, 'images', what)]
        page += ['## What a stage costs', _table(_costs(out, len(parts), stages))]
        for reason in [KEPT, *sorted(samples.keys() - {KEPT})]:
            sheet = _sheet(temporary / f'sheet_{safe_stem(reason)}.jpg', samples[reason])
            page += [f'## {reason.capitalize()}', sheet] if sheet else []
        if reasons[UNREADABLE] + reasons[FAILED] + len(lost):
            page += ['## Failed', f'{len(failed):,} images could not be used; `failed.txt` lists them.']
        text = '\n\n'.join(page) + '\n'
        write_atomic(temporary / 'report.md', text)
        body = MarkdownIt('commonmark', {'html': False}).enable('table').render(text)
        write_atomic(temporary / 'report.html', HEAD + body)
    return folder / 'report.html'


def _counts(out: Path, parts: int, stage: Boxes) -> Counter:
    """How many boxes the images kept have above the stage's score, of any size."""
    default = inspect.signature(stage.reason).parameters['min_score'].default
    least = stage.thresholds.get('min_score', default)
    counts: Counter = Counter()
    for part in range(parts):
        decided = read_part(out, 'decisions', part, ['id', 'reason'])
        found = read_part(out, 'scores', part, ['id', stage.column])[stage.column]
        for boxes, reason in zip(found.to_pylist(), decided['reason'].to_pylist(), strict=True):
            if reason is None:
                counts[sum(score > least for score in boxes[4::5])] += 1
    return counts


def _costs(out: Path, parts: int, stages: list[Stage]) -> list[list[str]]:
    """Images seen by each stage and its seconds for one, in its process."""
    rows = [['stage', 'images seen', 'seconds an image', 'images an hour and process']]
    compute = need('pyarrow.compute')
    names = [f'seconds_{stage.name}' for stage in stages]
    tables = [read_part(out, 'scores', part, names) for part in range(parts)]
    for stage, name in zip(stages, names, strict=True):
        seen = sum(len(t) - t[name].null_count for t in tables)
        seconds = sum(compute.sum(t[name]).as_py() or 0 for t in tables) / max(seen, 1)
        rows.append([stage.name, f'{seen:,}', f'{seconds:.4f}', f'{3600 / seconds:,.0f}' if seconds else ''])
    return rows


def _bars(path: Path, counts: Counter, ylabel: str, xlabel: str = '', flat: bool = False) -> str:
    need('matplotlib')
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.4 * len(counts) + 1.2) if flat else (7, 3.5), layout='constrained')
    axes = figure.subplots()
    if flat:
        names, values = zip(*reversed(counts.most_common()), strict=True)
        axes.barh(names, values, color=['#4c9f70' if n == KEPT else '#c8553d' for n in names])
        axes.set_xlabel(ylabel)
    else:
        keys = range(max(counts, default=0) + 1)
        axes.bar(keys, [counts[k] for k in keys], color='#4c9f70')
        axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.locator_params(axis='x' if flat else 'both', integer=True)  # counts
    figure.savefig(path, dpi=110)
    return f'![{ylabel}]({path.name})'


def _sheet(path: Path, references: list[str]) -> str | None:
    """A contact sheet, ten in a row; None if none of the images can be read."""
    tiles, side = [], 160
    for reference in references:
        try:
            image = decode_image(read_image(reference), reference)
        except BAD_SAMPLE:
            continue
        image = scaled(image, side / max(image.shape[:2]))
        tile = np.full((side, side, 3), 255, np.uint8)
        tile[: image.shape[0], : image.shape[1]] = image
        tiles.append(tile)
    if not tiles:
        return None
    write_atomic(path, encode_image(side_by_side(tiles, columns=min(10, len(tiles)), gap=0)))
    return f'![{len(tiles)} images]({path.name})'


def _table(rows: list[list[str]]) -> str:
    head, *rest = ([cell.replace('|', r'\|') for cell in row] for row in rows)
    return '\n'.join(f'| {" | ".join(row)} |' for row in (head, ['---'] * len(head), *rest))
