# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Ray, on this machine or on a cluster: what it has, and its errors in one line."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from rich.console import Console

from ..errors import UserError
from .stage import Stage, need

SPARE = 3
"""CPUs that reading, writing and resuming take beside the stages."""


def start_ray(address: str | None, tries: int = 3, **options: Any) -> None:
    """Join the Ray at an address, or start one here. Ray gives its processes 30 seconds: few, on a busy machine.

    Raises:
        MissingPackageError: Ray is not installed.
        UserError: No such cluster, or none that starts.
    """
    ray = need('ray')
    for left in reversed(range(tries)):
        try:
            ray.init(address=address, **options)
            return
        except Exception as error:  # Ray raises nothing narrower for processes that do not come up
            reason = ' '.join(str(error).split())[:160]
            if address is not None:
                how = f'--address {address}: no Ray cluster there ({reason}); start one: ray start'
                raise UserError(how) from None
            ray.shutdown()
            if not left:
                raise UserError(f'Ray does not start on this machine ({reason}); is it too busy?') from None


class Cluster:
    """A running Ray.

    Args:
        address: Of a cluster, ``'auto'`` for the one that this machine belongs to; None starts one here.
        num_cpus: CPUs to use of this machine, where one is started; None = all.
        store_mb: Memory for objects of the one that is started; None = Ray's choice (30 % of the memory).

    Raises:
        MissingPackageError: Ray is not installed.
        UserError: No such cluster, none that would start, or the stages need more than it has.
    """

    def __init__(
        self,
        stages: list[Stage],
        address: str | None = None,
        num_cpus: int | None = None,
        store_mb: int | None = None,
        console: Console | None = None,
    ) -> None:
        self.ray, self.console = need('ray'), console or Console()
        quiet: dict[str, Any] = dict(logging_level=logging.WARNING, log_to_driver=False)
        if address is None:
            self.cpus, self.gpus = num_cpus or os.cpu_count() or 1, torch.cuda.device_count()
            self._share_out(stages)
            # On top of what the stages take: with too few for reading, writing and resuming Ray waits for ever.
            logical = math.ceil(sum(high * needs['num_cpus'] for needs, _, _, high in self.groups)) + SPARE
            store = {} if store_mb is None else dict(object_store_memory=store_mb * 2**20)
            start_ray(None, num_cpus=logical, include_dashboard=False, **store, **quiet)
        else:
            start_ray(address, **quiet)
            has = self.ray.cluster_resources()
            self.cpus, self.gpus = int(has.get('CPU', 0)) - SPARE, int(has.get('GPU', 0))
            self._share_out(stages)
            wanted = sum(low * needs['num_cpus'] for needs, _, low, _ in self.groups)
            if wanted > self.cpus:
                have = f'--address {address}: has {self.cpus + SPARE} CPUs, and {wanted + SPARE:g} are needed'
                raise UserError(f'{have}: give several stages the same resources in the config, or add machines')
        logging.getLogger('ray.data').setLevel(logging.ERROR)
        if not self.gpus and any(stage.resources.get('num_gpus') for stage in stages):
            self.console.print('no GPU here: the stages that want one run on CPUs', style='yellow')

    def _share_out(self, stages: list[Stage]) -> None:
        """Group neighbours that ask for the same; for each group: Ray's arguments, names, least and most processes."""

        def asked(stage: Stage) -> dict[str, Any]:
            return {'num_cpus': 1, **stage.resources, 'num_gpus': stage.resources.get('num_gpus', 0) * bool(self.gpus)}

        groups = [(wants, [s.name for s in members]) for wants, members in itertools.groupby(stages, key=asked)]
        free = self.cpus / max(1, sum(wants['num_cpus'] for wants, _ in groups))
        self.groups = []
        for wants, names in groups:
            gpus, given = wants['num_gpus'], wants.get('workers')
            shared = sum(other['num_gpus'] for other, _ in groups)
            high = given or max(1, int(min(free, self.gpus / shared) if gpus else free))
            low, high = (1 if given is None else high, high) if isinstance(high, int) else high
            needs = {'num_cpus': wants['num_cpus'], 'num_gpus': gpus, 'batch_size': wants.get('batch_size', 16)}
            self.groups.append((needs, names, low, high))

    def run(self, function: Callable, calls: list[tuple], advance: Callable[[], None] = lambda: None) -> list[Any]:
        """Run a function with each of the arguments, a few more at once than there are CPUs; results in their order."""
        remote = self.ray.remote(function).options(num_cpus=1)
        results: dict[int, Any] = {}
        waiting: dict[Any, int] = {}
        for number, arguments in enumerate(calls):
            waiting[remote.remote(*arguments)] = number
            while waiting and (len(waiting) >= self.cpus + 2 or number == len(calls) - 1):
                for ready in self.ray.wait(list(waiting))[0]:
                    results[waiting.pop(ready)] = self.ray.get(ready)
                    advance()
        return [results[number] for number in range(len(calls))]

    def close(self) -> None:
        """Leave the cluster, or end the one that was started."""
        self.ray.shutdown()


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
