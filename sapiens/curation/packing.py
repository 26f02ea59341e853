# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The third job: thresholds on the scores, the best of duplicates, and tar shards of what stays.

It runs no model: other thresholds need this job alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.base import BAD_SAMPLE
from ..datasets.image_files import decode_image
from ..datasets.label_files import encode_image
from ..utils.files import replace_when_done, write_atomic
from ..utils.progress import progress
from .cluster import Cluster
from .duplicates import choose
from .scoring import read_part
from .sources import read_image, suffix_of
from .stage import Stage, build_stages, need, scaled

UNREADABLE, FAILED, UNSCORED, DUPLICATE = 'unreadable', 'a stage failed', 'not scored', 'duplicate'

RECORD = 'packed.json'
"""What was packed, beside the shards; ``shards.json`` is the index of those who read them."""


def reasons_of(row: Mapping[str, Any], stages: list[Stage]) -> list[str]:
    """Every reason to drop an image, in the order of the stages; none keeps it."""
    if row['error']:
        return [UNREADABLE if row['error'].startswith('read: ') else FAILED]
    found = []
    for stage in stages:
        if any(row[column] is None for column in stage.columns):
            # A gate closed that these thresholds would leave open.
            return found or [UNSCORED]
        if reason := stage.reason(row, **stage.thresholds):
            found.append(reason)
    return found


def decide_part(config: Mapping[str, Any], out: Path, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Write the decisions on a part as they are without duplicates: ``id, name, ref, error, reason, reasons``.

    Returns:
        Which of its images pass, ``(N,)`` bool, and the value of each beside its copies, ``(N,)`` float64.
    """
    pa, parquet = need('pyarrow'), need('pyarrow.parquet')
    stages = build_stages(config)
    columns = ['id', 'name', 'error'] + [c for s in stages for c in s.columns if s.columns[c] != 'halfs']
    whole = {c for s in stages for c in s.columns if s.columns[c] == 'halfs'}
    scores = read_part(out, 'scores', part, [*columns, *whole])
    for name in whole:  # whether they are there is all that counts
        present = need('pyarrow.compute').is_valid(scores[name]).to_pylist()
        scores = scores.drop_columns([name]).append_column(name, pa.array([True if p else None for p in present]))
    rows = scores.to_pylist()
    reasons = [reasons_of(row, stages) for row in rows]
    table = pa.table({
        'id': scores['id'], 'name': scores['name'], 'ref': read_part(out, 'list', part, ['id', 'ref'])['ref'],
        'error': scores['error'], 'reason': pa.array([r[0] if r else None for r in reasons], pa.string()),
        'reasons': pa.array(reasons, pa.list_(pa.string())),
    })  # fmt: skip
    path = out / 'decisions' / f'{part:05d}.parquet'
    with replace_when_done(path, sync=False) as temporary:
        parquet.write_table(table, temporary)
    # Of copies the largest is the best, then that of the most bytes.
    sides = [[row.get(name) or 0 for name in ('height', 'width', 'bytes')] for row in rows]
    return np.array([not r for r in reasons], bool), np.array([h * w + size / 2**40 for h, w, size in sides], float)


def finish_part(out: Path, part: int, original: np.ndarray) -> int:
    """Add the duplicates to the decisions on a part; how many images stay."""
    pa, parquet = need('pyarrow'), need('pyarrow.parquet')
    path = out / 'decisions' / f'{part:05d}.parquet'
    table = parquet.read_table(path)
    reasons = [DUPLICATE if o >= 0 else r for o, r in zip(original, table['reason'].to_pylist(), strict=True)]
    column = pa.array([int(o) if o >= 0 else None for o in original], pa.int64())
    table = table.set_column(table.column_names.index('reason'), 'reason', pa.array(reasons, pa.string()))
    table = table.append_column('duplicate_of', column)
    with replace_when_done(path, sync=False) as temporary:
        parquet.write_table(table, temporary)
    return sum(r is None for r in reasons)


def pack_shard(out: Path, target: Path, part: int, number: int, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write one shard of a part if it is not there; images that cannot be read any more are left out and returned.

    Images of a part are shuffled over its shards, each image file as it is or, with ``short_side``, shrunk to it.
    """
    path = target / f'{part:05d}-{number:05d}.tar'
    if path.is_file():
        return []
    table = read_part(out, 'decisions', part, ['id', 'ref', 'reason'])
    table = table.filter(need('pyarrow.compute').is_null(table['reason']))
    order = np.arange(len(table))
    if settings.get('shuffle', True):
        order = np.random.default_rng([settings.get('seed', 0), part]).permutation(len(table))
    size = settings.get('samples', 1000)
    members, lost = table.take(order[number * size : (number + 1) * size]).to_pylist(), []
    with replace_when_done(path, sync=False) as temporary, tarfile.open(temporary, 'w') as tar:
        for member in members:
            try:
                data = read_image(member['ref'])
                suffix = suffix_of(member['ref']) or _suffix(data)
                if settings.get('short_side'):
                    data, suffix = _shrink(data, suffix, member['ref'], settings)
            except BAD_SAMPLE as error:
                lost.append((member['ref'], str(error)))
                continue
            info = tarfile.TarInfo(f'{member["id"]:012d}{suffix}')
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return lost


def _suffix(data: bytes) -> str:
    kinds = {b'\x89PNG': '.png', b'RIFF': '.webp', b'BM': '.bmp', b'II*\0': '.tif', b'MM\0*': '.tif'}
    return next((suffix for head, suffix in kinds.items() if data.startswith(head)), '.jpg')


def _shrink(data: bytes, suffix: str, name: str, settings: Mapping[str, Any]) -> tuple[bytes, str]:
    """An image as JPEG whose shorter side is at most that; smaller ones as they are."""
    image = decode_image(data, name)
    scale = settings['short_side'] / min(image.shape[:2])
    if scale >= 1:
        return data, suffix
    return encode_image(scaled(image, scale), '.jpg', settings.get('quality', 90)), '.jpg'


def run_packing(config: Mapping[str, Any], cluster: Cluster, out: Path, parts: list[int]) -> dict[str, Any]:
    """Decide on all images and pack those that stay into ``OUT/shards``.

    A run that was killed goes on where it was; shards of other thresholds are replaced when the new ones are complete.

    Returns:
        ``kept``, ``shards`` and ``lost`` (images that could not be read any more).
    """
    settings, duplicates = dict(config.get('pack', {})), dict(config.get('duplicates', {}))
    decided = cluster.run(decide_part, [(dict(config), out, part) for part in range(len(parts))])
    passing, value = map(np.concatenate, zip(*decided, strict=True))
    table = need('pyarrow.parquet').read_table(out / 'pairs.parquet')
    pairs = {name: table[name].to_numpy() for name in table.column_names}
    bits, cosine = duplicates.get('max_bits', 4), duplicates.get('min_cosine', 0.95)
    original = choose(sum(parts), passing, value, pairs, bits, cosine)
    slices = np.split(original, np.cumsum(parts)[:-1])
    kept = cluster.run(finish_part, [(out, part, s) for part, s in enumerate(slices)])
    shards = [-(-count // settings.get('samples', 1000)) for count in kept]
    stays = np.packbits(passing & (original < 0)).tobytes()
    state = hashlib.sha256(stays + json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    target, final = out / f'.shards-{state}', out / 'shards'
    record = final / RECORD
    if record.is_file() and (known := json.loads(record.read_text()))['state'] == state:
        return known
    calls = [(out, target, part, n, settings) for part, count in enumerate(shards) for n in range(count)]
    with progress('pack', len(calls), console=cluster.console) as advance:
        lost = [pair for found in cluster.run(pack_shard, calls, advance) for pair in found]
    target.mkdir(parents=True, exist_ok=True)
    known = dict(state=state, kept=sum(kept), shards=sum(shards), lost=lost)
    write_atomic(target / RECORD, json.dumps(known))
    if final.is_dir():
        os.replace(final, old := out / f'.shards-{json.loads(record.read_text())["state"]}')
        os.replace(target, final)
        shutil.rmtree(old)
    else:
        os.replace(target, final)
    return known
