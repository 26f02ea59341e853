# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Whatever stands in a file of a data set, reading it ends in one line that names the file, never in a traceback."""

import json

import cv2
import numpy as np
import pytest
from mutations import mutate

from sapiens.datasets import (
    CocoKeypointDataset,
    HumanManifestDataset,
    ImageFolderDataset,
    ImageLabelFolderDataset,
    ShardImageDataset,
    pack_shards,
)
from sapiens.errors import UserError

POINTS = np.c_[np.random.default_rng(0).uniform(2, 30, (17, 2)), np.full(17, 2)]
PIPELINE = [dict(type='PersonBox'), dict(type='LoadImage'), dict(type='TopdownAffine', input_size=(32, 24))]


def texts(document, count, rng):
    """Mutated documents, cut ones, and text that is none."""
    whole = json.dumps(document).encode()
    yield from (json.dumps(mutate(document, rng)).encode() for _ in range(count))
    yield from (whole[: len(whole) * i // 12] for i in range(12))
    yield from (b'[' * 100000, b'\xff\xfe\x00', b'9' * 5000, b'null', b'\x00' * 9, whole.decode().encode('utf-16'))


def outcomes(files, read):
    """How many files are read and how many are refused by one line."""
    counts = [0, 0]
    for path, data in files:
        path.write_bytes(data)
        try:
            read()
            counts[0] += 1
        except UserError as error:
            assert str(path.parent.name) in str(error) or path.name in str(error), error
            assert '\n' not in str(error)
            counts[1] += 1
    return counts


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / 'some_data'
    folder.mkdir()
    for name in ('a', 'b'):
        cv2.imwrite(str(folder / f'{name}.png'), np.zeros((40, 30, 3), np.uint8))
    return folder


def take_all(data):
    return [data[i] for i in range(len(data))]


@pytest.fixture(params=[30, pytest.param(300, marks=pytest.mark.slow)])
def count(request):
    """Damaged files of each kind."""
    return request.param


def test_annotations_and_detections(folder, count):
    rng = np.random.default_rng(1)
    images = [{'id': i, 'file_name': f'{n}.png', 'height': 40, 'width': 30} for i, n in enumerate('ab')]
    persons = [{'id': i, 'image_id': i, 'bbox': [1, 2, 20, 30], 'keypoints': POINTS.ravel().tolist()} for i in (0, 1)]
    document = {'images': images, 'annotations': persons, 'categories': [{'id': 1, 'name': 'person'}]}
    options = dict(data_prefix=dict(img=str(folder)), pipeline=PIPELINE, test_mode=True)
    read, refused = outcomes(
        ((folder / 'ann.json', data) for data in texts(document, count, rng)),
        lambda: take_all(CocoKeypointDataset(str(folder / 'ann.json'), **options)),
    )
    assert min(read, refused) > count // 30
    (folder / 'ann.json').write_text(json.dumps(document))
    boxes = [{'image_id': i, 'bbox': [1, 2, 20, 30], 'score': 0.5, 'category_id': 1} for i in (0, 1)]
    options['bbox_file'] = str(folder / 'boxes.json')
    read, refused = outcomes(
        ((folder / 'boxes.json', data) for data in texts(boxes, count, rng)),
        lambda: take_all(CocoKeypointDataset(str(folder / 'ann.json'), **options)),
    )
    assert min(read, refused) > count // 30


@pytest.mark.parametrize('sample_per', ['image', 'person'])
def test_manifests(folder, sample_per, count):
    rng = np.random.default_rng(2)
    header = {'format': 'sapiens-manifest/1', 'keypoints': 'coco17', 'parts': 'parts28', 'depth_scale': 0.001,
              'normal_axes': 'opencv', 'files': ['manifest.jsonl']}  # fmt: skip
    line = {'id': 'a', 'image': 'a.png', 'height': 40, 'width': 30, 'mask': 'b.png', 'camera': {'K': [[1]]},
            'persons': [{'bbox': [1, 2, 20, 30], 'keypoints': POINTS.tolist()}]}  # fmt: skip
    labels = [dict(type='LoadImage'), dict(type='LoadLabels', optional=True)]

    def read():
        take_all(HumanManifestDataset(str(folder), sample_per=sample_per, pipeline=labels, test_mode=True))

    (folder / 'manifest.jsonl').write_text(json.dumps(line))
    read_headers = outcomes(((folder / 'manifest.json', data) for data in texts(header, count, rng)), read)
    (folder / 'manifest.json').write_text(json.dumps(header))
    read_lines = outcomes(((folder / 'manifest.jsonl', data) for data in texts(line, count, rng)), read)
    assert min(*read_headers, *read_lines) > 2


def test_shards(folder):
    rng = np.random.default_rng(3)
    (folder / 'manifest.json').write_text(json.dumps({'format': 'sapiens-manifest/1'}))
    (folder / 'manifest.jsonl').write_text('\n'.join(json.dumps({'id': n, 'image': f'{n}.png'}) for n in 'ab'))
    pack_shards(folder, folder)
    whole = (folder / 'shards/000000.tar').read_bytes()

    def damaged():
        for _ in range(100):
            data = bytearray(whole)
            for _ in range(rng.integers(1, 6)):
                data[rng.integers(512 if rng.random() < 0.5 else len(data))] = rng.integers(256)
            yield (
                folder / 'shards/000000.tar',
                bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data),
            )

    def read():
        labels = [dict(type='LoadImage')]
        take_all(HumanManifestDataset(str(folder), pipeline=labels, test_mode=True))
        take_all(ShardImageDataset(str(folder / 'shards'), pipeline=labels, test_mode=True))

    assert min(outcomes(damaged(), read)) > 5


def test_lists(folder):
    lists = (b'', b'\xff\xfe\x00', b'\xef\xbb\xbfa.png', b'a.png\r\nb.png', 'a.png'.encode('utf-16'), b'\x00',
             b'a' * 300, 'gr\xf6\xdfe.png'.encode('latin-1'), b'# only a comment')  # fmt: skip
    path = folder / 'list.txt'
    for kind in (ImageFolderDataset, ImageLabelFolderDataset):
        options = dict(data_prefix=dict(img=str(folder)), pipeline=[dict(type='LoadImage')], test_mode=True)
        counts = outcomes(((path, data) for data in lists), lambda k=kind, o=options: take_all(k(str(path), **o)))
        assert counts == [3, 6]
