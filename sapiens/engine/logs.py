# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read the logs of training runs back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import UserError

# Values that describe the machine or the schedule rather than the model.
SPEED_KEYS = ('time', 'data_time', 'memory', 'samples_per_s', 'mfu', 'iter', 'epoch', 'step', 'base_lr', 'lr')


@dataclass
class RunLog:
    """What a work directory logged, all its runs joined: where a run was resumed, the later values count.

    Attributes:
        name: Of the work directory.
        train: Key (``'loss'``, ``'pose.loss_kpt'``, ``'lr'``, ...) -> iteration -> value.
        val: Metric -> iteration -> value.
        broken_lines: Lines that were cut off, e.g. by a kill in mid-write.
    """

    name: str
    train: dict[str, dict[int, float]] = field(default_factory=dict)
    val: dict[str, dict[int, float]] = field(default_factory=dict)
    broken_lines: int = 0


def read_run(work_dir: str | Path) -> RunLog:
    """Join the logs of a work directory.

    Args:
        work_dir: Folder that holds ``<time>/vis_data/scalars.json``, or such a file.

    Raises:
        UserError: There is no log in it.
    """
    path = Path(work_dir)
    files = [path] if path.is_file() else sorted(path.glob('*/vis_data/scalars.json'))
    if not files:
        raise UserError(f'{path}: no log in it (<time>/vis_data/scalars.json); give the work dir of a training')
    run = RunLog(path.parent.parent.parent.name if path.is_file() else path.resolve().name)
    for file in files:
        lines = file.read_text(encoding='utf-8').splitlines()
        items = []
        for line in lines:
            try:
                items.append(json.loads(line))
            except json.JSONDecodeError:
                run.broken_lines += 1
        steps = [item['step'] for item in items if 'loss' in item]
        if steps:
            # A resumed run repeats the steps after its checkpoint: what came later in the run before is void.
            for series in (*run.train.values(), *run.val.values()):
                for step in [s for s in series if s >= min(steps)]:
                    del series[step]
        for item in items:
            table = run.train if 'loss' in item else run.val
            for key, value in item.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool) and (
                    table is run.train or key not in SPEED_KEYS
                ):  # fmt: skip
                    table.setdefault(key, {})[int(item['step'])] = float(value)
    return run


def smooth(values: list[float], window: int) -> list[float]:
    """Running mean over the last ``window`` values."""
    totals = np.convolve(values, np.ones(window))[: len(values)]
    return (totals / np.minimum(np.arange(len(values)) + 1, window)).tolist()
