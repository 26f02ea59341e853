# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Ray, on this machine or on a cluster: what it has, how far a job is, and its errors in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import UserError
from .stage import need


class Cluster:
    """A running Ray.

    Args:
        groups: Resources of the groups of stages that will run at once.
        address: Of a cluster, ``'auto'`` for the one that this machine belongs to; None starts one here.
        num_cpus: Logical CPUs of the one that is started; None = those of the machine.
        store_mb: Its memory for objects; None = Ray's choice (30 % of the memory).
        console: Where progress is shown.

    Raises:
        MissingPackageError: Ray is not installed.
        UserError: No such cluster, or the stages need more than it has.
    """

    def __init__(
        self,
        groups: list[dict],
        address: str | None = None,
        num_cpus: int | None = None,
        store_mb: int | None = None,
        console: Console | None = None,
    ) -> None:
        self.ray, self.console = need('ray'), console or Console()
        need('pyarrow')
        cpus = num_cpus or os.cpu_count() or 1
        quiet: dict[str, Any] = dict(logging_level=logging.WARNING, log_to_driver=False)
        if address is None:
            # Reading, writing and resuming take a CPU each beside one for each group; where a machine has fewer, they
            # share. With too few Ray waits for ever, and says nothing.
            needed = sum(group.get('num_cpus', 1) for group in groups) + 3
            store = {} if store_mb is None else dict(object_store_memory=store_mb * 2**20)
            self.ray.init(num_cpus=int(max(cpus, needed)), include_dashboard=False, **store, **quiet)
            self.cpus = cpus
        else:
            try:
                self.ray.init(address=address, **quiet)
            except (ConnectionError, ValueError, RuntimeError) as error:
                reason = ' '.join(str(error).split())[:160]
                raise UserError(f'--address {address}: no Ray cluster there ({reason}); start one: ray start') from None
            self.cpus = int(self.ray.cluster_resources().get('CPU', 0))
        self.gpus = self.ray.cluster_resources().get('GPU', 0)
        logging.getLogger('ray.data').setLevel(logging.WARNING)
        self.groups = [self.needs(group) for group in groups]
        lack = sum(g['num_cpus'] for g in self.groups) + 3 - self.ray.cluster_resources().get('CPU', 0)
        if lack > 0:
            raise UserError(f'the cluster has {self.cpus} CPUs and the stages need {self.cpus + lack:g}: give several '
                            'the same resources in the config, or add machines')  # fmt: skip
        if not self.gpus and any(group.get('num_gpus') for group in groups):
            self.console.print('no GPU here: the stages that want one run on CPUs', style='yellow')
        self.share = 0.5  # of a CPU, for tasks that mostly wait for a disk

    def needs(self, resources: Mapping[str, Any]) -> dict[str, float]:
        """Ray's arguments; GPUs count where there are any."""
        return dict(num_cpus=resources.get('num_cpus', 1), num_gpus=resources.get('num_gpus', 0) if self.gpus else 0)

    def workers(self, resources: Mapping[str, Any]) -> tuple[int, int]:
        """Least and most processes of a group: as said, else as many as the machine has CPUs or GPUs for."""
        given = resources.get('workers')
        if given:
            return (given, given) if isinstance(given, int) else (given[0], given[1])
        need_of = self.needs(resources)
        if need_of['num_gpus']:
            return 1, max(1, int(self.gpus / need_of['num_gpus']))
        return 1, max(1, int(self.cpus / max(need_of['num_cpus'], 0.1)))

    @contextlib.contextmanager
    def progress(self, name: str, total: int) -> Iterator[_Bar]:
        """A bar with rate and time left."""
        columns = (
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('{task.fields[rate]}'),
        )
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console) as progress:
            bar = _Bar(progress, progress.add_task(name, total=total, rate=''))
            try:
                yield bar
            finally:
                bar.stop()

    def run(self, function: Callable, calls: list[tuple], bar: _Bar | None = None) -> list[Any]:
        """Run a function with each of the arguments, a few more at once than there are CPUs; results in their order."""
        remote = self.ray.remote(function).options(num_cpus=1)
        results: dict[int, Any] = {}
        waiting: dict[Any, int] = {}
        for number, arguments in enumerate(calls):
            waiting[remote.remote(*arguments)] = number
            while waiting and (len(waiting) >= self.cpus + 2 or number == len(calls) - 1):
                for ready in self.ray.wait(list(waiting))[0]:
                    results[waiting.pop(ready)] = self.ray.get(ready)
                    if bar is not None:
                        bar.advance_to(len(results))
        return [results[number] for number in range(len(calls))]

    def close(self) -> None:
        """Leave the cluster, or end the one that was started."""
        self.ray.shutdown()


class _Bar:
    """A progress bar that can follow the files which Ray writes."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self.progress, self.task, self.base = progress, task, 0
        self.folder: Path | None = None
        self.counted: dict[Path, int] = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def watch(self, folder: Path) -> None:
        """Count the rows of the parquet files in a folder from now on."""
        self.counted, self.folder = {}, folder

    def advance_to(self, value: int) -> None:
        """So many are done."""
        self.folder, self.base = None, value
        self._show(value)

    def stop(self) -> None:
        """No more."""
        self.ended.set()
        self.thread.join()

    def _show(self, value: int) -> None:
        speed = self.progress.tasks[0].speed
        self.progress.update(self.task, completed=value, rate=f'{speed:.1f}/s' if speed else '')

    def _follow(self) -> None:
        parquet = need('pyarrow.parquet')
        while not self.ended.wait(1):
            folder = self.folder
            if folder is None or not folder.is_dir():
                continue
            for path in set(folder.glob('*.parquet')) - set(self.counted):
                with contextlib.suppress(OSError, ValueError):  # not yet whole
                    self.counted[path] = parquet.read_metadata(path).num_rows
            self._show(self.base + sum(self.counted.values()))


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what Ray reports of its processes into one line.

    Raises:
        UserError: Of a stage that could not be made, or of a full disk.
    """
    ray = need('ray')
    try:
        yield
    except ray.exceptions.RayError as error:
        if os.environ.get('SAPIENS_TRACEBACK'):
            raise
        # The text holds the tracebacks of all processes on the way; the last line is the cause.
        told = re.findall(r'^(?:[\w.]*\.)?(\w*(?:Error|Exception)): (.+)$', str(error), re.MULTILINE)
        kind, message = told[-1] if told else (type(error).__name__, ' '.join(str(error).split())[-300:])
        shown = message if kind in ('UserError', 'MissingPackageError', 'UnknownNameError') else f'{kind}: {message}'
        raise UserError(f'{shown} (SAPIENS_TRACEBACK=1 shows where)') from None
