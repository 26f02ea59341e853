# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The benchmark of GPUs runs whole without one: each kind of row gives a number or says why not."""

import json

import pytest


@pytest.mark.slow
def test_every_kind_of_row_runs_on_a_cpu_or_says_why_not(tmp_path, run_script, monkeypatch):
    # What compilers do is theirs, and takes minutes.
    monkeypatch.setenv('TORCH_COMPILE_DISABLE', '1')
    options = ('--device', 'cpu', '--sizes', 'tiny', '--tasks', 'depth', 'mae', '--batch-size', '1', '--seconds', '0.1')
    done = run_script('benchmarks/gpu.py', *options, '--minutes', '10', '--out', tmp_path)
    assert done.code == 0, done.err
    rows = json.loads((tmp_path / 'results.json').read_text())['rows']
    found = {}
    for row in rows:
        found.setdefault((row['mode'], row['task']), {})[row.get('variant', row.get('job'))] = row
    training = {'eager', 'compiled', 'estimate'}
    kinds = {'eager', 'eager, to results', 'compiled', 'graph', 'compiled graph', 'fp8 compiled', 'estimate'}
    assert {key: set(rows) for key, rows in found.items()} == {
        ('inference', 'depth'): kinds, ('finetune', 'depth'): training, ('pretrain', 'mae'): training,
    }  # fmt: skip
    for (mode, _), variants in found.items():
        for name, row in variants.items():
            if 'graph' in name or 'fp8' in name:
                assert row['note'].startswith('skipped: '), row
            elif name != 'estimate':
                assert row['images_per_s'] > 0 and row['difference'] < 1e-3, (mode, row)
    tables = (tmp_path / 'results.md').read_text()
    assert '## Inference' in tables and '## Finetune' in tables and '## Pretrain' in tables
