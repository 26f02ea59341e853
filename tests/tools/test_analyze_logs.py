# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The table that compares runs."""

import importlib.util
from pathlib import Path

import pytest

from sapiens.engine.logs import RunLog

ROOT = Path(__file__).parents[2]


@pytest.fixture
def analyze_logs():
    spec = importlib.util.spec_from_file_location('analyze_logs', ROOT / 'tools/analyze_logs.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_log(name, count):
    train = {'loss': {1: 2.5, 100: 0.5}, 'time': {1: 1.0, 100: 1.0}, 'samples_per_s': {1: 30.0, 100: 32.0}}
    metrics = {f'keypoint/AP_of_some_part_{i}': {100: 0.1 * i} for i in range(count)}
    return RunLog(name, train, metrics)


@pytest.mark.parametrize('count', [1, 3, 9])
def test_it_reads_at_80_columns(analyze_logs, capsys, count):
    runs = [run_log(f'sapiens_tiny_133kpt_trial_{i}', 12) for i in range(count)]
    analyze_logs.print_table(runs, width=80)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = '\n'.join(lines)
    for run in runs:
        assert run.name in text, 'names are not broken'
    for i in range(12):
        (row, *more) = [line for line in lines if f'keypoint/AP_of_some_part_{i} ' in line]
        assert f'{0.1 * i:.4f}' in row
        # No row is folded: a table of figures has one line each.
        assert len(more) < count
    assert sum('iterations' in line for line in lines) == sum('keypoint/AP_of_some_part_7' in line for line in lines)
