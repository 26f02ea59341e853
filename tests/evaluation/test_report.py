# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
import csv
import io
import json

import numpy as np
import pytest
from rich.console import Console

from sapiens.errors import UserError
from sapiens.evaluation import EvaluationReport, Table, print_report, write_reports
from sapiens.evaluation import references as references_module
from sapiens.evaluation.analysis.bootstrap import bootstrap_intervals
from sapiens.evaluation.references import add_reference_file, reference_rows, reference_statements


@pytest.fixture
def report():
    table = Table('Parts', ['Set', 'mIoU', 'count'], [['val', 0.5, 3], ['none', float('nan'), 0]], {'mIoU': 'fraction'})
    table.intervals[('val', 'mIoU')] = (0.25, 0.75)
    return EvaluationReport(
        'PartIoU',
        'seg',
        {'mIoU': 0.5, 'mAcc': float('nan')},
        {'labels': 'three images', 'figures': 'as stated'},
        [table],
        notes=['one class is absent'],
        intervals={'mIoU': (0.25, 0.75)},
        per_image=[{'image': np.int64(3), 'mIoU': np.float32(0.25)}],
    )


@pytest.fixture
def no_user_rows(monkeypatch):
    monkeypatch.setattr(references_module, '_user_files', [])


def printed(report):
    console = Console(file=io.StringIO(), width=160)
    print_report(report, console)
    return console.file.getvalue()


def test_printed_table(report):
    text = printed(report)
    assert 'labels: three images' in text and 'Note: one class is absent' in text
    assert 'mIoU %' in text and '50.00' in text and '25.00-75.00' in text and 'n/a' in text
    assert 'nan' not in text.lower().replace('n/a', '')
    assert 'Published, not ours' in text and '17.1 mIoU' in text


def test_json_has_figures_on_top_and_no_nan(report, tmp_path):
    document = json.loads(write_reports([report], tmp_path / 'a.json').read_text())
    assert document['mIoU'] == 0.5 and document['mAcc'] is None
    assert document['protocol']['labels'] == 'three images'
    assert document['intervals_95'] == {'mIoU': [0.25, 0.75]}
    assert document['per_image'] == [{'image': 3, 'mIoU': 0.25}]
    assert isinstance(document['per_image'][0]['image'], int)
    other = EvaluationReport('DepthMetric', 'depth', {'RMSE': 0.1}, {}, [])
    document = json.loads(write_reports([report, other], tmp_path / 'b.json').read_text())
    assert document['seg/mIoU'] == 0.5 and document['depth/RMSE'] == 0.1 and len(document['reports']) == 2
    assert not list(tmp_path.glob('*.tmp'))


def test_csv_and_markdown(report, tmp_path):
    rows = list(csv.DictReader(io.StringIO(write_reports([report], tmp_path / 'a.csv').read_text())))
    assert rows[0] == {
        'metric': 'PartIoU', 'table': 'Parts', 'row': 'val', 'column': 'mIoU', 'value': '0.5', 'low_95': '0.25',
        'high_95': '0.75',
    }  # fmt: skip
    assert [row['value'] for row in rows] == ['0.5', '3', '', '0']
    text = write_reports([report], tmp_path / 'a.md').read_text()
    assert '| Set | mIoU % | count |' in text and '| val | 50.00 | 3 |' in text and '> Note: one class' in text
    with pytest.raises(UserError, match=r'a\.txt: write results to a \.json, \.csv or \.md file'):
        write_reports([report], tmp_path / 'a.txt')


def test_published_rows_are_marked(report, tmp_path, no_user_rows):
    path = tmp_path / 'rows.json'
    row = {'task': 'seg', 'model': 'Someone', 'data': 'Set-1', 'source': 'A paper, 2030', 'values': {'mIoU': 0.9}}
    path.write_text(json.dumps({'rows': [row]}))
    add_reference_file(path)
    text = printed(report)
    assert 'Someone, Set-1 (published: A paper, 2030)' in text and '90.00' in text
    path.with_name('bad.json').write_text(json.dumps({'rows': [{'task': 'seg'}]}))
    with pytest.raises(UserError, match='each row needs task, model, data, source'):
        add_reference_file(path.with_name('bad.json'))
    with pytest.raises(UserError, match='no such file of reference rows'):
        add_reference_file(tmp_path / 'none.json')


def test_every_shipped_reference_has_a_source():
    for task in ('pose', 'seg', 'depth', 'normal'):
        for text, source in reference_statements(task):
            assert text and 'arXiv 2408.12569' in source
        assert all(row['source'] for row in reference_rows(task, 'any'))


def test_bootstrap_interval_of_a_mean():
    """The interval of a mean of many values is about 1.96 standard errors wide to each side."""
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap_intervals(400, lambda w: {'mean': float(w @ values / w.sum())}, 2000)
    low, high = found['mean']
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert bootstrap_intervals(1, lambda w: {'mean': 1.0}, 100) == {}
    assert bootstrap_intervals(9, lambda w: {'mean': float('nan')}, 100) == {}
