# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sapiens.errors import UserError
from sapiens.evaluation import EvaluationReport, Table, print_report, write_reports
from sapiens.evaluation import tables as tables_module
from sapiens.evaluation.analysis.bootstrap import bootstrap_intervals
from sapiens.evaluation.tables import add_reference_file, published_tables, reference_rows


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
    monkeypatch.setattr(tables_module, '_user_files', [])


def printed(report):
    console = Console(file=io.StringIO(), width=160)
    print_report(report, console)
    return console.file.getvalue()


def test_printed_table(report):
    text = printed(report)
    assert 'labels: three images' in text and 'Note: one class is absent' in text
    assert 'mIoU %' in text and '50.00' in text and '25.00-75.00' in text and 'n/a' in text
    assert 'nan' not in text.lower().replace('n/a', '')
    assert 'Published, not ours: Khirodkar et al.' in text and 'Table 4' in text
    assert re.search(r'Sapiens-2B +81.20 +89.40', text) and 'Table 4; Humans-2K (28 classes)' in text


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


def test_two_metrics_of_one_kind_and_names_with_pipes_lose_nothing(report, tmp_path):
    table = Table('Parts', ['Set', 'mIoU'], [['a|b, "c"', 0.25]], 'fraction')
    other = EvaluationReport('PartIoU', 'seg', {'mIoU': 0.25}, {}, [table])
    paths = [write_reports([report, other], tmp_path / f'a.{kind}') for kind in ('json', 'csv', 'md')]
    document = json.loads(paths[0].read_text())
    assert (document['mIoU'], document['PartIoU_2/mIoU']) == (0.5, 0.25)
    row = list(csv.DictReader(io.StringIO(paths[1].read_text())))[-1]
    assert (row['metric'], row['row'], row['value']) == ('PartIoU_2', 'a|b, "c"', '0.25')
    text = paths[2].read_text()
    assert r'| a\|b, "c" | 25.00 |' in text and '## PartIoU (seg)' in text and '## PartIoU_2 (seg)' in text


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
    assert 'Published, not ours: A paper, 2030; Set-1' in text and re.search(r'Someone +90.00', text)
    ours = text.split('Published, not ours')[0]
    assert 'Someone' not in ours and '90.00' not in ours
    path.with_name('bad.json').write_text(json.dumps({'rows': [{'task': 'seg'}]}))
    with pytest.raises(UserError, match='each row needs task, model, data, source'):
        add_reference_file(path.with_name('bad.json'))
    with pytest.raises(UserError, match='no such'):
        add_reference_file(tmp_path / 'none.json')


PAPER = {
    # Some figures as the paper prints them: task, metric, model, data -> figure, value, unit, table.
    ('pose', 'KeypointAP', 'Sapiens-2B', 'Humans-5K'): ('wholebody_AP', 61.1, 0.01, 3),
    ('pose', 'KeypointAP', 'DWPose-l', 'Humans-5K'): ('hand_AR', 57.4, 0.01, 3),
    ('seg', 'PartIoU', 'Sapiens-0.3B', 'Humans-2K'): ('mAcc', 86.1, 0.01, 4),
    ('depth', 'DepthMetric', 'Sapiens-1B', 'TH2.0-FullBody'): ('RMSE', 0.019, 1, 5),
    ('normal', 'NormalMetric', 'Sapiens-0.6B', 'Hi4D'): ('median', 11.47, 1, 6),
    ('normal', 'NormalMetric', 'ECON', 'THuman2.0'): ('within_30', 69.03, 0.01, 6),
    ('pretraining source', 'any', 'Sapiens-0.3B, Humans-300M (Full)', 'early'): ('seg_mIoU', 66.5, 0.01, 7),
}


@pytest.mark.parametrize('key', PAPER)
def test_the_tables_of_the_paper_are_shipped(key):
    task, metric, model, data = key
    figure, value, unit, table = PAPER[key]
    rows = [r for r in reference_rows(task, metric) if r['model'] == model and r['data'].startswith(data)]
    assert len(rows) == 1 and rows[0]['values'][figure] == pytest.approx(value * unit)
    assert rows[0]['table'] == table and rows[0]['source'].endswith(f'arXiv 2408.12569, Table {table}')


def test_all_rows_are_there_and_only_for_the_metric_that_has_the_figures():
    counts = {'KeypointAP': 13, 'PartIoU': 8, 'DepthMetric': 32, 'NormalMetric': 16}
    tasks = dict(zip(counts, ('pose', 'seg', 'depth', 'normal'), strict=True))
    assert {name: len(reference_rows(tasks[name], name)) for name in counts} == counts
    assert reference_rows('pose', 'PCK') == [] and len(published_tables('pretraining source', '')[0].rows) == 5


def test_shipped_rows_equal_the_given_facts():
    given = Path(__file__).parents[3] / 'shared' / 'paper_tables.json'
    if not given.is_file():
        pytest.skip('the tables of the paper as text are not beside the checkout')
    metrics = {'pose': 'KeypointAP', 'seg': 'PartIoU', 'depth': 'DepthMetric', 'normal': 'NormalMetric'}
    for row in json.loads(given.read_text())['rows']:
        rows = reference_rows(row['task'], metrics.get(row['task'], ''))
        found = [r for r in rows if (r['model'], r['data']) == (row['model'], row['data'])]
        assert len(found) == 1 and found[0]['source'] == row['source'] and found[0].get('input') == row.get('input')
        for name, value in row['values'].items():
            assert found[0]['values'][name] in (pytest.approx(value), pytest.approx(value / 100)), (row, name)


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
