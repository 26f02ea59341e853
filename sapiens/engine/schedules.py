# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Schedules of a continued run: where they were, on the course that the config has now."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.optim import ReduceOnPlateauParamScheduler

from .unpickle import to_plain

# What changes with each step; all else is how a schedule was made.
_PROGRESS = ('last_step', '_global_step', '_last_value')


def restore(scheduler: Any, state: Mapping) -> None:
    """Continue a schedule; its functions, which a file of plain data does not hold, stay."""
    scheduler.load_state_dict(
        {key: value for key, value in state.items() if not callable(getattr(scheduler, key, None))}
    )


def same_course(schedulers: Sequence[Any], states: Sequence[Mapping]) -> bool:
    """Whether schedules were made as those of a checkpoint, from the same values of the optimiser."""

    def course(state: Mapping) -> dict:
        return {key: value for key, value in state.items() if key not in _PROGRESS}

    def made(scheduler: Any) -> dict:
        return to_plain({k: v for k, v in scheduler.state_dict().items() if not callable(v)})

    if any(isinstance(scheduler, ReduceOnPlateauParamScheduler) for scheduler in schedulers):
        return len(schedulers) == len(states)  # its course is what was measured
    return len(schedulers) == len(states) and all(
        course(now) == {key: value for key, value in course(state).items() if key in now}
        for now, state in zip(map(made, schedulers), states, strict=True)
    )


def scheduled(schedulers: Sequence[Any]) -> list[dict]:
    """What schedules have set in each group of their optimiser."""
    names = {key for s in schedulers for key in (s.param_name, f'initial_{s.param_name}')}
    groups = schedulers[0].optimizer.param_groups if schedulers else []
    return [{name: group[name] for name in names} for group in groups]


def replay(schedulers: Sequence[Any], start: list[dict], iterations: int, epoch_length: int) -> None:
    """Take new schedules through all steps of a run, since each value is made of the one before.

    Args:
        start: As `scheduled` gives it for schedules that have just been built.
        iterations: Steps of the run.
        epoch_length: Iterations of an epoch; 0 for a run without epochs.
    """
    groups = schedulers[0].optimizer.param_groups if schedulers else []  # a loaded state has made new ones
    for group, values in zip(groups, start, strict=True):
        group.update(values)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # that no step of the optimiser comes between
        for iteration in range(1, iterations + 1):
            ends = epoch_length and iteration % epoch_length == 0
            for scheduler in schedulers:
                if ends or not scheduler.by_epoch:
                    scheduler.step()
