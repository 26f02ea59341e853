# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The first job: every stage looks at every image, and all that they find is kept."""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..datasets.base import BAD_SAMPLE
from ..errors import UserError
from ..utils.files import write_atomic
from ..utils.progress import progress
from .cluster import Cluster
from .sources import read_image
from .stage import Item, Stage, build_stages, need, open_item


def as_column(values: list, kind: str) -> Any:
    """Arrow array of what a stage found (or None), of a kind of `Stage.columns`."""
    pa = need('pyarrow')
    if kind in ('floats', 'halfs'):
        dtype = np.float32 if kind == 'floats' else np.float16
        arrays = [None if v is None else np.asarray(v, dtype) for v in values]
        return pa.array(arrays, pa.list_(pa.from_numpy_dtype(dtype)))
    return pa.array(values, {'float': pa.float32(), 'int': pa.int64(), 'str': pa.string()}[kind])


def read_batch(batch: Any) -> Any:
    """Add the bytes of the images to a batch of the list; what cannot be read gets an error instead.

    Args:
        batch: Arrow table with ``id``, ``name`` and ``ref``.
    """
    pa = need('pyarrow')
    data, errors = [], []
    for reference in batch['ref'].to_pylist():
        try:
            data.append(read_image(reference))
            errors.append(None)
        except BAD_SAMPLE as error:
            data.append(None)
            errors.append(f'read: {error}')
    batch = batch.select(['id', 'name']).append_column('data', pa.array(data, pa.large_binary()))
    batch = batch.append_column('error', pa.array(errors, pa.string()))
    return batch.append_column('stopped', pa.nulls(len(data), pa.string()))


class Worker:
    """Some stages in a process of Ray's.

    Beside what the stages find, rows get ``error`` (of an image that could not be read, or in a stage), ``stopped``
    (the stage whose gate closed, so that later ones have nothing) and ``seconds_STAGE``.

    Args:
        names: Which stages.
        last: None follow, so the bytes of the images are no longer needed.
        notes: Folder of the `CrashNotes`.
    """

    def __init__(self, config: Mapping[str, Any], names: list[str], last: bool, notes: str) -> None:
        self.stages = [stage for stage in build_stages(config) if stage.name in names]
        self.view, self.max_pixels, self.last = config.get('view', 1280), config.get('max_pixels', 2e8), last
        self.max_failed, self.seen, self.failed = config.get('max_failed', 0.2), Counter(), Counter()
        self.notes = CrashNotes(Path(notes), '+'.join(names))
        threads = max(1, int(self.stages[0].resources.get('num_cpus', 1)))
        cv2.setNumThreads(threads)
        torch.set_num_threads(threads)
        for stage in self.stages:
            stage.load()

    def __call__(self, batch: Any) -> Any:
        """Score a batch, an Arrow table; rows come out in their order, each exactly once."""
        rows = batch.select(['id', 'name', 'data', 'error', 'stopped']).to_pylist()
        ids = [row['id'] for row in rows]
        killers = self.notes.begin(ids)
        for row in rows:
            if row['id'] in (killers or ()):
                row['error'] = f'{"+".join(s.name for s in self.stages)}: the process died on it'
        # After a death one by one, so that the next one, if it comes, is one image's.
        for part in [rows] if killers is None else [[row] for row in rows]:
            self.notes.at([row['id'] for row in part])
            self._score(part)
        self.notes.end()
        batch = batch.drop_columns(['error', 'stopped'] + ['data'] * self.last)
        kinds = {'error': 'str', 'stopped': 'str'}
        for stage in self.stages:
            kinds |= {**stage.columns, f'seconds_{stage.name}': 'float'}
        for column, kind in kinds.items():
            batch = batch.append_column(column, as_column([row.get(column) for row in rows], kind))
        return batch

    def _score(self, rows: list[dict[str, Any]]) -> None:
        alive = [(row, self._open(row)) for row in rows if not row['error'] and not row['stopped']]
        for stage in self.stages:
            alive = [(row, item) for row, item in alive if not row['error'] and not row['stopped']]
            if not alive:
                break
            begin = time.perf_counter()
            self.seen[stage.name] += len(alive)
            found = self._run(stage, [item for _, item in alive])
            seconds = (time.perf_counter() - begin) / len(alive)
            for (row, _), values in zip(alive, found, strict=True):
                row.update({'error': f'{stage.name}: {values}'} if isinstance(values, str) else values)
                row[f'seconds_{stage.name}'] = seconds
                if stage.gate is not None and not row['error'] and stage.reason(row, **stage.gate):
                    row['stopped'] = stage.name

    def _open(self, row: dict[str, Any]) -> Item | None:
        try:
            return open_item(row['name'], row['data'], self.view, self.max_pixels)
        except BAD_SAMPLE as error:
            row['error'] = f'read: {error}'
            return None

    def _run(self, stage: Stage, items: list[Item]) -> list[dict[str, Any] | str]:
        """Values for each image, or what went wrong with it.

        Images of the world make any library fail in any way, and one of a million must not end the run: here, and only
        here, every exception is an image's.

        Raises:
            UserError: A stage failed on so many images that it, and not they, must be wrong.
        """
        try:
            return stage.score(items)
        except Exception as error:
            if len(items) == 1:
                reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
                self.failed[stage.name] += 1
                if self.failed[stage.name] > max(self.max_failed * self.seen[stage.name], 8):
                    raise UserError(f"stage '{stage.name}' fails on too many images (max_failed): {reason}") from None
                return [reason]
        return [self._run(stage, [item])[0] for item in items]


class CrashNotes:
    """Which images a process works on, so that the one that kills it (a fault in a decoder) is known.

    Ray starts a dead process anew and gives it the same batch; without the notes the two would go on for ever.

    Args:
        folder: One folder a run.
        group: Name of the kind of process.
    """

    def __init__(self, folder: Path, group: str) -> None:
        self.folder, self.group, self.killers = folder, group, set()
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self, ids: list[int]) -> set[int] | None:
        """Images of a batch that earlier processes died on; None if none died in this batch."""
        self.path = self.folder / f'{self.group}-{ids[0]}-{ids[-1]}.json'
        if not self.path.is_file():
            self.killers = set()
            return None
        killers, at_work = json.loads(self.path.read_text())
        self.killers = {*killers, *(at_work if len(at_work) == 1 else ())}
        return self.killers

    def at(self, ids: list[int]) -> None:
        """The images that come next."""
        write_atomic(self.path, json.dumps([sorted(self.killers), ids]))

    def end(self) -> None:
        """The batch is done."""
        self.path.unlink()


def load_models(config: Mapping[str, Any]) -> None:
    """Load the models of all stages once, one after the other: one process downloads, and what is missing is known.

    Left to the processes that score, all would download, and a missing library would be told in Ray's many lines.

    Raises:
        UserError: A model that cannot be had, or a library that is not installed.
    """
    stages = build_stages(config)
    while stages:
        stages.pop(0).load()


def run_scoring(config: Mapping[str, Any], cluster: Cluster, out: Path, parts: list[int]) -> None:
    """Score all parts that are not done.

    Args:
        out: Folder of the curation, with its list.
        parts: Images in each part.

    Raises:
        UserError: A model cannot be loaded, or a stage fails on too many images.
    """
    done_of = {part: out / 'scores' / f'{part:05d}.done' for part in range(len(parts))}
    missing = [part for part, done in done_of.items() if not done.is_file()]
    if not missing:
        return
    cluster.run(load_models, [(dict(config),)])
    with progress('score', sum(parts[part] for part in missing), console=cluster.console) as advance:
        for part in missing:
            with _counting(out / 'scores' / f'{part:05d}', parts[part], advance):
                _score_part(config, cluster, out, part)
            write_atomic(done_of[part], json.dumps({'images': parts[part]}))
            shutil.rmtree(out / 'checkpoint', ignore_errors=True)


@contextmanager
def _counting(folder: Path, total: int, advance: Callable[..., None]) -> Iterator[None]:
    """Let a bar advance by the rows of the parquet files that appear in a folder, in the end by ``total``."""
    parquet, ended, rows = need('pyarrow.parquet'), threading.Event(), dict[Path, int]()

    def follow() -> None:
        while not ended.wait(1):
            for path in set(folder.glob('*.parquet')) - set(rows):
                with suppress(OSError, ValueError):  # not yet whole
                    rows[path] = parquet.read_metadata(path).num_rows
                    advance(count=rows[path])

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    advance(count=total - sum(rows.values()))


def _score_part(config: Mapping[str, Any], cluster: Cluster, out: Path, part: int) -> None:
    ray = need('ray.data')
    notes = out / 'checkpoint' / f'notes-{uuid.uuid4().hex}'  # of this run alone: a killed run accuses nobody
    context = ray.DataContext.get_current()
    context.checkpoint_config = need('ray.data.checkpoint').CheckpointConfig(
        id_column='id', checkpoint_path=str(out / 'checkpoint' / f'{part:05d}'), delete_checkpoint_on_success=False
    )
    context.target_max_block_size = int(config.get('block_mb', 64) * 2**20)
    context.enable_progress_bars = False
    data = ray.read_parquet(str(out / 'list' / f'{part:05d}'))
    data = data.map_batches(read_batch, batch_size=32, batch_format='pyarrow', num_cpus=0.5)  # it waits for the disk
    for number, (needs, names, low, high) in enumerate(cluster.groups):
        data = data.map_batches(
            Worker,
            fn_constructor_args=(dict(config), names, number == len(cluster.groups) - 1, str(notes)),
            batch_format='pyarrow',
            compute=ray.ActorPoolStrategy(min_size=low, max_size=high),
            **needs,
        )
    data.write_parquet(str(out / 'scores' / f'{part:05d}'))


def read_part(out: Path, what: str, part: int, columns: list[str] | None = None) -> Any:
    """Arrow table of a part's ``'list'``, ``'scores'`` or ``'decisions'``, by id if that is among the columns."""
    folder = out / what / f'{part:05d}'
    files = sorted(map(str, folder.glob('*.parquet'))) or [f'{folder}.parquet']
    table = need('pyarrow.dataset').dataset(files).to_table(columns=columns)
    return table.sort_by('id') if 'id' in table.column_names else table
