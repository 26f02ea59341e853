# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Frames decoded once, labels at a stride, manifests that list manifests."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from scenes import sphere

from sapiens.datasets import (
    HumanManifestDataset,
    ImageFolderDataset,
    Manifest,
    ManifestWriter,
    ShardImageDataset,
    pack_shards,
)
from sapiens.datasets.label_files import encode_depth
from sapiens.datasets.transforms import LoadLabels
from sapiens.errors import UserError

LABELS = [
    dict(type='PersonBox'),
    dict(type='LoadImage'),
    dict(type='TopdownAffine'),
    dict(type='LoadLabels', stride=4),
    dict(type='PackHumanInputs'),
]


def write(folder, count, size=(64, 48), offset=0):
    with ManifestWriter(folder, keypoints='coco17', parts='parts28') as writer:
        for i in range(count):
            scene = sphere(size, center=(20.0 + i + offset, 30.0), radius=15.0)
            person = {'bbox': [5 + i, 15, 30, 30], 'keypoints': np.full((17, 3), 2.0)}
            writer.write(f'{i:03d}', scene['img'], parts=scene['part_map'], depth=scene['depth'],
                         normals=scene['normals'], mask=scene['mask'], persons=[person])  # fmt: skip
    return folder


def dataset(folder, **options):
    options = dict(sample_per='person', input_size=(64, 48), pipeline=LABELS) | options
    return HumanManifestDataset(data_root=str(folder), **options)


def equal(a, b):
    assert (a['inputs'] == b['inputs']).all()
    for name in ('gt_part_map', 'gt_depth', 'gt_normals', 'gt_mask', 'gt_keypoints'):
        torch.testing.assert_close(a['data_samples'].get(name), b['data_samples'].get(name), rtol=0, atol=0)


def test_cached_samples_are_the_decoded_ones(tmp_path):
    write(tmp_path / 'a', 3)
    plain, cached = dataset(tmp_path / 'a'), dataset(tmp_path / 'a', cache='decoded')
    for _ in range(2):
        for i in range(3):
            equal(plain[i], cached[i])
    # A worker process maps the same files, and needs the pictures no more.
    for path in (tmp_path / 'a/images').iterdir():
        path.unlink()
    equal(pickle.loads(pickle.dumps(cached))[2], cached[2])


@pytest.mark.parametrize('kind', ['images', 'parts', 'depth', 'normals'])
def test_a_file_that_was_replaced_is_decoded_again(tmp_path, kind):
    write(tmp_path / 'a', 1)
    cached = dataset(tmp_path / 'a', cache='decoded')
    cached[0]
    (old,), (new,) = ((write(tmp_path / n, 1, offset=o) / kind).iterdir() for n, o in (('a', 0), ('b', 6)))
    os.replace(new, old)
    equal(cached[0], dataset(tmp_path / 'a')[0])


def test_labels_are_no_photographs(tmp_path):
    """Pretraining on a labelled set, in files or in shards, sees its images and not its part maps."""
    folder, target = write(tmp_path / 'a', 3), tmp_path / 'packed'
    pack_shards(folder, target, 2)
    images = [data['img'] for data in map(dataset(folder, pipeline=[dict(type='LoadImage')]).__getitem__, range(3))]
    options = dict(pipeline=[dict(type='LoadImage')])
    for plain in (
        ImageFolderDataset(data_root=str(folder), **options),
        ImageFolderDataset(data_root=str(target), **options),
        ShardImageDataset(data_root=str(target / 'shards'), **options),
    ):
        assert len(plain) == 3
        for mine, image in zip(map(plain.__getitem__, range(3)), images, strict=True):
            np.testing.assert_array_equal(mine['img'], image)
    (folder / 'manifest.json').write_text('{"name": "of a web page"}')
    assert len(ImageFolderDataset(data_root=str(folder))) > 3


def test_a_cache_grows_with_its_set_and_notices_other_frames(tmp_path):
    first, second = write(tmp_path / 'a', 2), write(tmp_path / 'b', 3, offset=3)
    both = tmp_path / 'both'
    both.mkdir()
    header = json.loads((first / 'manifest.json').read_text())

    def listing(*folders):
        header['files'] = [f'../{name}/manifest.json' for name in folders]
        (both / 'manifest.json').write_text(json.dumps(header))
        return dataset(both, cache='decoded')

    [one] = [listing('a')]
    kept = [one[i] for i in range(2)]
    grown = listing('a', 'b')
    assert len(grown) == 5
    for i in range(2):
        equal(grown[i], kept[i])
    equal(grown[3], dataset(second)[1])
    other = listing('b', 'a')
    equal(other[0], dataset(second)[0])
    equal(other[4], kept[1])


def test_frames_may_differ_in_size_and_labels(tmp_path):
    write(tmp_path / 'a', 1)
    with ManifestWriter(tmp_path / 'a', keypoints='coco17', parts='parts28') as writer:
        scene = sphere((32, 48))
        person = {'bbox': [5, 5, 30, 20], 'keypoints': np.full((17, 3), 2.0)}
        writer.write('z', scene['img'], parts=scene['part_map'], persons=[person])
    steps = [*LABELS[:3], dict(type='LoadLabels', optional=True), LABELS[4]]
    plain, cached = (dataset(tmp_path / 'a', pipeline=steps, cache=cache) for cache in (None, 'decoded'))
    for _ in range(2):
        assert (plain[1]['data_samples'].gt_part_map == cached[1]['data_samples'].gt_part_map).all()
        assert (plain[1]['inputs'] == cached[1]['inputs']).all() and 'gt_depth' not in cached[1]['data_samples']
        assert 'gt_depth' in cached[0]['data_samples']
    # A label that comes later is seen.
    line = (tmp_path / 'a/manifest.jsonl').read_text().splitlines()
    record = json.loads(line[1])
    record['depth'] = json.loads(line[0])['depth'].replace('000', 'z')
    (tmp_path / 'a' / record['depth']).write_bytes(encode_depth(scene['depth']))
    (tmp_path / 'a/manifest.jsonl').write_text(f'{line[0]}\n{json.dumps(record)}\n')
    assert 'gt_depth' in dataset(tmp_path / 'a', pipeline=steps, cache='decoded')[1]['data_samples']


def test_a_manifest_lists_only_manifests_of_its_kind(tmp_path):
    write(tmp_path / 'a', 2)
    header = json.loads((tmp_path / 'a/manifest.json').read_text())
    for changes, message in ((dict(keypoints='keypoints308'), 'another keypoints'), ({}, 'itself')):
        (tmp_path / 'manifest.json').write_text(
            json.dumps({**header, 'files': ['a/manifest.json' if changes else 'manifest.json'], **changes})
        )
        with pytest.raises(UserError, match=message):
            list(Manifest(tmp_path).entries())


def test_labels_at_a_stride_lie_in_the_middle_of_their_blocks(tmp_path):
    """The sphere again, drawn at a quarter of the size: positions, depths and turned normals agree."""
    write(tmp_path / 'a', 1)
    fine = dataset(tmp_path / 'a', pipeline=[LABELS[0], LABELS[1], LABELS[2], dict(type='LoadLabels'), LABELS[4]])[0]
    coarse = dataset(tmp_path / 'a')[0]
    fine, coarse = fine['data_samples'], coarse['data_samples']
    assert coarse.gt_part_map.shape == (16, 12) and coarse.gt_normals.shape == (3, 16, 12)
    assert (fine.gt_keypoints == coarse.gt_keypoints).all()
    # Each is one of the four pixels around the middle of its block of 4 x 4.
    around = [fine.gt_part_map[y::4, x::4] for y in (1, 2) for x in (1, 2)]
    assert torch.stack([coarse.gt_part_map == a for a in around]).any(0).all()
    both = (coarse.gt_mask[0]) & (fine.gt_mask[0, 1::4, 1::4])
    assert both.sum() > 20
    assert (coarse.gt_depth[0] - fine.gt_depth[0, 1::4, 1::4])[both].abs().max() < 0.05
    assert (coarse.gt_normals * fine.gt_normals[:, 1::4, 1::4]).sum(0)[both].min() > 0.9
    ys, xs = torch.meshgrid(torch.arange(16.0), torch.arange(12.0), indexing='ij')
    fy, fx = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing='ij')
    for c, f in ((ys, fy), (xs, fx)):
        assert 4 * c[coarse.gt_mask[0]].mean() + 1.5 == pytest.approx(float(f[fine.gt_mask[0]].mean()), abs=0.5)


def test_a_stride_is_for_training():
    with pytest.raises(UserError, match="frame='original' leave it out"):
        LoadLabels(stride=4, frame='original')
