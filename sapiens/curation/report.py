# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What was kept and why the rest was not, for people: pictures and tables, as an HTML page and as markdown."""

from __future__ import annotations

import html
import inspect
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..datasets.bad_samples import BAD_SAMPLE
from ..datasets.image_files import decode_image
from ..utils.files import replace_when_done, write_atomic
from .packing import FAILED, UNREADABLE
from .persons import Boxes
from .scoring import read_scores
from .sources import read_image
from .stage import Stage, need

KEPT = 'kept'


def write_report(stages: list[Stage], source: str, out: Path, parts: list[int], lost: list[tuple[str, str]]) -> Path:
    """Write ``OUT/report/report.html``, ``.md`` and their pictures, and ``OUT/failed.txt``.

    Args:
        stages: As the config says.
        source: What was curated.
        out: Folder of the curation, complete.
        parts: Images in each part.
        lost: Images that could not be read again when they were packed, and why.

    Returns:
        Path of the page.
    """
    reasons, also, failed, samples = Counter(), Counter(), list(lost), defaultdict(list)
    for part in range(len(parts)):
        table = need('pyarrow.parquet').read_table(out / 'decisions' / f'{part:05d}.parquet').to_pylist()
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
        page = [('text', f'{total:,} images of `{source}`: {reasons[KEPT]:,} kept ({reasons[KEPT] / total:.1%}).')]
        rows = [
            [r, f'{n:,}', f'{n / total:.1%}', f'{also[r]:,}' if r != KEPT else ''] for r, n in reasons.most_common()
        ]
        page += [
            ('title', 'Why images went'),
            ('table', [['reason', 'images', 'share', 'had this reason, among others'], *rows]),
            ('picture', _bars(temporary / 'reasons.png', reasons, 'images', flat=True)),
        ]
        for stage in stages:
            if isinstance(stage, Boxes):
                counts = _counts(out, len(parts), stage)
                what = f'{stage.column} in an image'
                page += [('title', f'{stage.column.capitalize()} in the images kept')]
                page += [('picture', _bars(temporary / f'{stage.column}.png', counts, 'images', what))]
        page += [('title', 'What a stage costs'), ('table', _costs(out, len(parts), stages))]
        for reason in [KEPT, *sorted(samples.keys() - {KEPT})]:
            sheet = _sheet(temporary / f'sheet_{reason.replace(" ", "_")}.jpg', samples[reason])
            if sheet:
                page += [('title', reason.capitalize()), ('picture', sheet)]
        if reasons[UNREADABLE] + reasons[FAILED] + len(lost):
            page += [
                ('title', 'Failed'),
                ('text', f'{len(failed):,} images could not be used; `failed.txt` lists them.'),
            ]
        write_atomic(temporary / 'report.md', _markdown(page))
        write_atomic(temporary / 'report.html', _html(page))
    return folder / 'report.html'


def _counts(out: Path, parts: int, stage: Boxes) -> Counter:
    """How many boxes the images kept have above the stage's score, of any size."""
    default = inspect.signature(stage.reason).parameters['min_score'].default
    least = stage.thresholds.get('min_score', default)
    counts: Counter = Counter()
    for part in range(parts):
        decided = (
            need('pyarrow.parquet')
            .read_table(out / 'decisions' / f'{part:05d}.parquet', columns=['id', 'reason'])
            .sort_by('id')
        )
        found = read_scores(out / 'scores' / f'{part:05d}', ['id', stage.column]).sort_by('id')[stage.column]
        for boxes, reason in zip(found.to_pylist(), decided['reason'].to_pylist(), strict=True):
            if reason is None:
                counts[sum(score > least for score in boxes[4::5])] += 1
    return counts


def _costs(out: Path, parts: int, stages: list[Stage]) -> list[list[str]]:
    """Images seen by each stage and its seconds for one, in its process."""
    rows = [['stage', 'images seen', 'seconds an image', 'images an hour and process']]
    compute = need('pyarrow.compute')
    names = [f'seconds_{stage.name}' for stage in stages]
    tables = [read_scores(out / 'scores' / f'{part:05d}', names) for part in range(parts)]
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
    figure.savefig(path, dpi=110)
    return path.name


def _sheet(path: Path, references: list[str], side: int = 160, columns: int = 10) -> str | None:
    """A contact sheet; None if none of the images can be read."""
    tiles = []
    for reference in references:
        try:
            image = decode_image(read_image(reference), reference)
        except BAD_SAMPLE:
            continue
        scale = side / max(image.shape[:2])
        size = [max(1, round(s * scale)) for s in image.shape[1::-1]]
        tile = np.full((side, side, 3), 255, np.uint8)
        tile[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        tiles.append(tile)
    if not tiles:
        return None
    columns = min(columns, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    write_atomic(path, cv2.imencode('.jpg', np.concatenate(rows)[..., ::-1])[1].tobytes())
    return path.name


def _markdown(page: list[tuple[str, Any]]) -> str:
    lines = ['# Curation']
    for kind, value in page:
        if kind == 'table':
            head, *rows = value
            lines += ['', *(f'| {" | ".join(row)} |' for row in (head, ['---'] * len(head), *rows))]
        else:
            lines += ['', {'title': '## {}', 'picture': '![]({})', 'text': '{}'}[kind].format(value)]
    return '\n'.join(lines) + '\n'


def _html(page: list[tuple[str, Any]]) -> str:
    style = 'body{font-family:sans-serif;margin:2em auto;max-width:1700px}td,th{padding:.2em 1em;text-align:left}'
    parts = [f'<!DOCTYPE html><meta charset="utf-8"><title>Curation</title><style>{style}</style><h1>Curation</h1>']
    for kind, value in page:
        if kind == 'table':
            rows = [''.join(f'<td>{html.escape(cell)}</td>' for cell in row) for row in value]
            parts.append(f'<table>{"".join(f"<tr>{row}</tr>" for row in rows)}</table>')
        else:
            form = {'title': '<h2>{}</h2>', 'picture': '<img src="{}">', 'text': '<p>{}</p>'}[kind]
            parts.append(form.format(html.escape(value)))
    return '\n'.join(parts) + '\n'
