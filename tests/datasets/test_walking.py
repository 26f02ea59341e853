# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Folders as people have them: links in a circle and to other folders, pipes, links to nothing."""

import os

import cv2
import numpy as np
import pytest

from sapiens.apis.files import find_files
from sapiens.datasets.folders import ImageLabelFolderDataset
from sapiens.datasets.image_files import find_images, list_images


@pytest.fixture
def tree(tmp_path):
    """Images and labels, each in two folders and a linked one, with circles of three kinds."""
    for root in ('photos', 'labels'):
        for place in (root, f'{root}/b', f'else_{root}'):
            (tmp_path / place).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / place / 'x.png'), np.ones((8, 8), np.uint8))
        (tmp_path / root / 'linked').symlink_to(tmp_path / f'else_{root}')
        (tmp_path / root / 'self').symlink_to('.')
        (tmp_path / root / 'b' / 'up').symlink_to('..')
        (tmp_path / f'else_{root}' / 'back').symlink_to(tmp_path / root)
    return tmp_path


EXPECTED = ['x.png', 'b/x.png', 'linked/x.png']


def test_each_image_of_a_folder_is_found_once(tree):
    """Links to other folders are followed; those that lead back are not, whoever asks."""
    photos = tree / 'photos'
    assert [os.path.relpath(path, photos) for path in list_images(photos)] == EXPECTED
    assert [str(path.relative_to(photos)) for path in find_files(str(photos))[0]] == EXPECTED
    pattern = find_files(f'{photos}/**/*.png')[0]
    assert sorted(str(path.relative_to(photos)) for path in pattern) == sorted(EXPECTED)
    assert [str(path.relative_to(photos)) for path in find_files(f'{photos}/**/b/*.p?g')[0]] == ['b/x.png']
    pairs = ImageLabelFolderDataset(data_prefix=dict(img=str(photos), parts=str(tree / 'labels')), labels=['parts'])
    assert [
        os.path.relpath(pair['label_files']['parts'], tree / 'labels') for pair in pairs.load_data_list()
    ] == EXPECTED


def test_pipes_are_left_out_and_dead_links_are_kept_to_be_named(tree):
    """Reading a pipe would wait for ever; a link to nothing is a picture that somebody misses."""
    os.mkfifo(tree / 'photos' / 'pipe.jpg')
    (tree / 'photos' / 'gone.jpg').symlink_to('nowhere.jpg')
    found, note = find_images(tree / 'photos')
    assert [os.path.relpath(path, tree / 'photos') for path in found] == ['gone.jpg', *EXPECTED]
    assert note == ''


@pytest.mark.parametrize('name', ['loop', 'loop.jpg'])
def test_a_link_that_the_system_refuses_to_follow_is_no_end_of_the_search(tree, name):
    """One to itself, or into a folder of somebody else's, ended the run."""
    (tree / 'photos' / name).symlink_to(name)
    found = [os.path.relpath(path, tree / 'photos') for path in find_images(tree / 'photos')[0]]
    assert sorted(found) == sorted([*EXPECTED, *([name] if name == 'loop.jpg' else [])])
