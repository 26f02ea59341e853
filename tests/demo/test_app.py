# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The page: what its buttons do, and once in a real browser with a real upload."""

import importlib.util
import os
import shutil
import sys
import zipfile
from functools import partial

import cv2
import numpy as np
import pytest
from made_photos import photo

from sapiens.apis import DepthMap, ImageResult, Inferencer
from sapiens.apis.page import ModelShelf, build_page, describe, run_once
from sapiens.commands.app import labels_of
from sapiens.errors import MissingPackageError, UserError

BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


@pytest.fixture
def shelf(make_model):
    made = {name: make_model(*name.split('+')) for name in ('pose+seg', 'depth', 'normal')}
    makers = {name: partial(Inferencer, *pair, device='cpu') for name, pair in made.items()}
    return ModelShelf(makers, {name: tuple(name.split('+')) for name in made})


def test_models_by_task_one_in_memory(shelf):
    assert shelf.names('seg') == ['pose+seg'] and shelf.names('depth') == ['depth']
    first = shelf.get('depth')
    assert shelf.get('depth') is first
    shelf.get('normal')
    assert shelf.get('depth') is not first
    with pytest.raises(UserError, match="no model 'x' here; there are pose"):
        shelf.get('x')


@pytest.mark.parametrize(('task', 'name', 'words'), [('pose', 'pose+seg', '1 person'), ('seg', 'pose+seg', '90 x 120'),
                                                     ('depth', 'depth', 'no part model ran')])  # fmt: skip
def test_one_run_gives_picture_sentence_and_files(shelf, tmp_path, task, name, words):
    before, after, archive, result = run_once(shelf, photo(), task, name, tmp_path)
    assert (before == photo()).all() and after.shape == before.shape and (after != before).any()
    assert words in describe(result, task)
    with zipfile.ZipFile(archive) as files:
        assert f'image_{task}.jpg' in files.namelist() and 'image.json' in files.namelist()
    assert [str(path) for path in tmp_path.iterdir()] == [archive]


def test_nobody_is_not_said_to_be_everywhere():
    nothing = DepthMap(np.full((4, 4), np.nan, np.float32), np.zeros((4, 4), bool), 'none')
    assert describe(ImageResult(np.zeros((4, 4, 3), np.uint8), 'a', depth=nothing), 'depth') == '4 x 4: nobody'


@pytest.mark.parametrize(
    ('models', 'labels'),
    [
        ([('c/depth.py', 'a/last.pth'), ('c/depth.py', 'b/last.pth'), ('pose_308', None)],
         ['c/depth (a/last.pth)', 'c/depth (b/last.pth)', 'pose_308']),
        ([('a/own.py', None), ('b/own.py', None)], ['a/own', 'b/own']),
        ([(None, 'a/iter_9.pth'), (None, 'b/iter_9.pth')], ['a/iter_9 (a/iter_9.pth)', 'b/iter_9 (b/iter_9.pth)']),
        ([('a/own.py', 'a/one.pth'), ('a/own.py', 'a/two.pth')], ['own (one.pth)', 'own (two.pth)']),
    ],
)  # fmt: skip
def test_models_of_one_name_are_told_apart(models, labels):
    """The page kept the last of them alone."""
    assert labels_of(models) == labels


def test_what_counts_as_a_keypoint_is_the_users_choice(shelf, tmp_path):
    pictures = [run_once(shelf, photo(), 'pose', 'pose+seg', tmp_path, threshold)[1] for threshold in (0.0, 2.0)]
    assert (pictures[0] != pictures[1]).any() and (pictures[1] == photo()).all()
    result = run_once(shelf, photo(), 'pose', 'pose+seg', tmp_path)[3]
    assert ', 0 keypoints above 2' in describe(result, 'pose', 2.0)


def test_zips_that_were_handed_out_are_deleted(shelf, tmp_path):
    archives = []
    for _ in range(3):
        archives.append(run_once(shelf, photo(), 'depth', 'depth', tmp_path)[2])
        os.utime(archives[-1], (0, 0))
    assert [str(path) for path in tmp_path.iterdir()] == archives[-1:]


@pytest.mark.skipif(importlib.util.find_spec('gradio') is None, reason='gradio is not installed')
def test_the_page_deletes_its_folder(shelf):
    page = build_page(shelf)
    folder = page.files.name
    assert os.path.isdir(folder) and page.delete_cache[0] and page.delete_cache[1]
    page.files.cleanup()
    assert not os.path.exists(folder)


def test_nothing_uploaded(shelf, tmp_path):
    with pytest.raises(UserError, match='upload an image first'):
        run_once(shelf, None, 'depth', 'depth', tmp_path)


def test_without_gradio(shelf, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(MissingPackageError, match="pip install 'sapiens-toolkit\\[demo\\]'"):
        build_page(shelf)


@pytest.mark.skipif(importlib.util.find_spec('gradio') is None, reason='gradio is not installed')
@pytest.mark.skipif(importlib.util.find_spec('playwright') is None, reason='playwright is not installed')
@pytest.mark.skipif(BROWSER is None, reason='no Chromium on this machine')
def test_upload_in_a_browser(shelf, tmp_path):
    from playwright.sync_api import sync_playwright

    cv2.imwrite(str(tmp_path / 'photo.png'), photo(160, 120)[..., ::-1])
    page_of_server = build_page(shelf, 'Tiny models.')
    _, url, _ = page_of_server.launch(prevent_thread_lock=True, quiet=True, server_name='127.0.0.1', server_port=None)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=BROWSER, args=['--no-sandbox', '--disable-gpu'])
            page = browser.new_page(accept_downloads=True, viewport={'width': 1200, 'height': 1000})
            # The page works without the internet: nothing but this server is asked.
            page.route('**/*', lambda route: route.continue_() if url.rstrip('/') in route.request.url
                       or route.request.url.startswith(('data:', 'blob:')) else route.abort())  # fmt: skip
            page.goto(url)
            page.locator('#photo input[type=file]').set_input_files(str(tmp_path / 'photo.png'))
            page.get_by_label('Depth').check()
            page.wait_for_function("document.querySelector('#model input')?.value === 'depth'")
            page.locator('#photo img').wait_for()
            page.get_by_role('button', name='Run').click()
            page.wait_for_function(
                "document.querySelector('#status textarea')?.value.includes('120 x 160')", timeout=600000
            )
            page.wait_for_function("document.querySelectorAll('#compare img').length >= 2")
            picture = os.environ.get('SAPIENS_TEST_SCREENSHOT')
            if picture:
                page.screenshot(path=picture)
            with page.expect_download() as download:
                page.locator('#files a[download], #files a').first.click()
            download.value.save_as(str(tmp_path / 'all.zip'))
            browser.close()
    finally:
        page_of_server.close()
    with zipfile.ZipFile(tmp_path / 'all.zip') as files:
        arrays = np.load(files.open('image.npz'), allow_pickle=False)
        assert arrays['depth'].shape == (160, 120)
