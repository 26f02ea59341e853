# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Backgrounds and panoramas of the user's own."""

import json

import cv2
import numpy as np
import pytest

from sapiens.datasets import Manifest
from sapiens.datasets.image_files import find_files
from sapiens.errors import UserError
from sapiens.synthesis.job import Job, open_writer, run
from sapiens.synthesis.own_pictures import background_files, panorama_files
from sapiens.synthesis.scene import Recipe

RECIPE = dict(size=(64, 64), persons=(1, 1), framings=('full',), samples=1)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / 'pictures'
    (folder / 'sub').mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (80, 90, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / 'a.jpg'), noise)
    cv2.imwrite(str(folder / 'sub/b.jpg'), noise)
    (folder / 'sub/b.jpg').rename(folder / 'sub/B.JPG')
    cv2.imwrite(str(folder / 'sky.hdr'), np.ones((16, 32, 3), np.float32))
    for name in ('a.jpg', 'sky.hdr'):
        (folder / f'._{name}').write_bytes(b'\0\5\26\7Mac OS X')
    return folder


def test_hidden_files_are_no_pictures(pictures):
    assert background_files(pictures) == (str(pictures / 'a.jpg'), str(pictures / 'sub/B.JPG'))
    assert panorama_files(pictures) == (str(pictures / 'sky.hdr'),)
    (pictures / 'circle').symlink_to(pictures)
    assert find_files(pictures, ('.hdr',)) == [pictures / 'sky.hdr']


@pytest.mark.parametrize('name, find', [('page.jpg', background_files), ('page.hdr', panorama_files)])
def test_a_file_that_is_no_picture_is_found_before_the_first_sample(pictures, name, find):
    (pictures / name).write_bytes(b'<html>404</html>')
    with pytest.raises(UserError, match=f'{name}: not a readable .*; remove it'):
        find(pictures)


def test_a_cut_background_is_drawn_again_and_ends_nothing(pictures, tmp_path):
    whole = (pictures / 'a.jpg').read_bytes()
    (pictures / 'sub/B.JPG').write_bytes(whole[: len(whole) // 2])
    job = Job(str(tmp_path / 'set'), 6, 0, 0, Recipe(**RECIPE, backgrounds=background_files(pictures)), 'fixture')
    reasons = set()
    run([job], 1, lambda job, index, rejected: reasons.update(rejected))
    assert any('B.JPG: the image is truncated' in reason for reason in reasons)
    assert len(list(Manifest(tmp_path / 'set').entries())) == 6


def test_other_backgrounds_are_another_set(pictures, tmp_path):
    job = Job(str(tmp_path / 'set'), 1, 0, 0, Recipe(**RECIPE, backgrounds=('x/a.jpg', 'x/b.jpg')), 'fixture')
    open_writer(job).close()
    open_writer(Job(job.folder, 1, 0, 0, Recipe(**RECIPE, backgrounds=('y/a.jpg', 'y/b.jpg')), 'fixture')).close()
    other = Job(job.folder, 1, 0, 0, Recipe(**RECIPE, backgrounds=('x/a.jpg', 'x/c.jpg')), 'fixture')
    with pytest.raises(UserError, match='another background_names; choose another --out'):
        open_writer(other)
    # Folders of before the names were kept go on.
    path = tmp_path / 'set/manifest.json'
    header = json.loads(path.read_text())
    del header['synthesis']['background_names']
    path.write_text(json.dumps(header))
    open_writer(other).close()
