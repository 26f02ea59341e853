# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Renders with every label and photographs with some points, in one training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from scenes import photos, sphere

from sapiens.datasets import ConcatDataset, HumanManifestDataset, ImageFolderDataset, ManifestWriter
from sapiens.engine import load_config
from sapiens.engine.complete import check_agreement
from sapiens.errors import UserError
from sapiens.registry import DATASETS, MODELS
from sapiens.vocabularies import load_vocabulary

ROOT = Path(__file__).parents[2]
CONFIG = """
_base_ = '{root}/configs/multitask/sapiens_tiny_4tasks_128x96.py'
own = dict(pipeline={{{{_base_.train_pipeline}}}})
renders = dict(own, type='HumanManifestDataset', sample_per='person', data_root='{renders}', background='{photos}')
photos = dict(
    own,
    type='CocoKeypointDataset',
    data_root='{root}',
    ann_file='tests/data/coco_785.json',
    data_prefix=dict(img='demo/images'),
    file_vocabulary='coco17',
    labels=[],
)
train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[renders, photos]))
vocabulary = ['keypoints308', 'parts28']
"""


@pytest.fixture
def mixed(tmp_path):
    """The data set of a config that mixes both, and the config."""
    scene = sphere((64, 48), center=(24.0, 30.0), radius=15.0)
    person = {'bbox': [8, 14, 32, 32], 'keypoints': np.full((308, 3), 20.0)}
    with ManifestWriter(tmp_path / 'renders', keypoints='keypoints308', parts='parts28') as writer:
        writer.write('0', scene['img'], parts=scene['part_map'], depth=scene['depth'], normals=scene['normals'],
                     mask=scene['mask'], persons=[person])  # fmt: skip
    behind = photos(tmp_path / 'photos', 2)
    (tmp_path / 'mixed.py').write_text(CONFIG.format(root=ROOT, renders=tmp_path / 'renders', photos=behind))
    config = load_config(tmp_path / 'mixed.py')
    return DATASETS.build(config.train_dataloader.dataset), config


def test_one_batch_of_both_trains_all_heads(mixed):
    data, config = mixed
    np.random.seed(0)
    batch = pseudo_collate([data[0], data[1]])
    render, photo = batch['data_samples']
    dense = ['gt_depth', 'gt_mask', 'gt_normals', 'gt_part_map']
    assert all(name in render and name not in photo for name in dense)
    names = load_vocabulary('keypoints308').names
    seen = [names[i] for i in np.flatnonzero(photo.gt_keypoints_visible)]
    assert set(seen) <= set(load_vocabulary('coco17').names) and 'left_shoulder' in seen
    config.model.backbone.arch = dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=32)
    model = MODELS.build(config.model)
    check_agreement(model, data)
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name.split('.')[1]).backward()
    assert {name.split('.')[0] for name in losses} == {'pose', 'seg', 'depth', 'normal'}
    for task, head in model.heads.items():
        grads = [p.grad for p in head.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in grads) and any(g.any() for g in grads), task


def test_no_transform_of_the_pipeline_asks_photographs_for_labels(mixed):
    _, config = mixed
    for dataset in config.train_dataloader.dataset.datasets:
        for step in dataset.pipeline:
            if 'prob' in step:
                step.prob = 1.0
    data = DATASETS.build(config.train_dataloader.dataset)
    for index in range(2):
        assert data[index]['inputs'].shape == (3, 128, 96)


def test_photographs_alone_cost_other_heads_nothing(mixed):
    data, config = mixed
    config.model.backbone.arch = dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=32)
    model = MODELS.build(config.model)
    losses = model(**model.data_preprocessor(pseudo_collate([data[1], data[1]]), True), mode='loss')
    assert losses['pose.loss_kpt'] > 0
    assert all(v == 0 for name, v in losses.items() if 'loss' in name and not name.startswith('pose'))


def test_what_all_have_in_common_and_what_not(mixed, tmp_path):
    data, config = mixed
    assert (data.metainfo['keypoint_vocabulary'], data.metainfo['part_vocabulary']) == ('keypoints308', 'parts28')
    plain = ImageFolderDataset(data_root=str(tmp_path / 'photos'))
    joined = ConcatDataset([plain, dict(type='RepeatDataset', times=2, dataset=data.datasets[1])], lazy_init=True)
    assert joined.metainfo['dataset_name'] == 'ImageFolderDataset'
    assert joined.metainfo['keypoint_vocabulary'] == 'keypoints308'
    joined.full_init()
    assert len(joined) == 4
    photo = config.train_dataloader.dataset.datasets[1]
    del photo['file_vocabulary'], photo['keypoint_vocabulary']
    model = MODELS.build(config.model)
    with pytest.raises(UserError, match="has keypoints 'coco17'.*the head pose 'keypoints308'"):
        check_agreement(model, DATASETS.build(config.train_dataloader.dataset))


def test_the_message_says_what_to_write(mixed):
    _, config = mixed
    del config.train_dataloader.dataset.datasets[1]['labels']
    data = DATASETS.build(config.train_dataloader.dataset)
    with pytest.raises(UserError, match=r"785.jpg: has no parts.*leave 'parts' out of the data set's labels=\[...\]"):
        data[1]


def test_a_manifest_of_fewer_points(tmp_path):
    with ManifestWriter(tmp_path, keypoints='coco17') as writer:
        points = np.concatenate([np.arange(34).reshape(17, 2), np.full((17, 1), 2)], 1)
        writer.write('0', np.zeros((40, 40, 3), np.uint8), persons=[{'bbox': [1, 1, 30, 30], 'keypoints': points}])
    for name in ('keypoints308', 'wholebody133'):
        info = HumanManifestDataset(str(tmp_path), 'person', keypoint_vocabulary=name).get_data_info(0)
        where = [load_vocabulary(name).names.index(n) for n in load_vocabulary('coco17').names]
        np.testing.assert_array_equal(info['keypoints'][where], points[:, :2])
        assert (info['keypoints_visible'] > 0).sum() == 17 and np.isfinite(info['keypoints']).all()


def test_people_without_points_are_left_out_unless_there_is_more_to_learn(tmp_path):
    scene = sphere((64, 48), center=(24.0, 30.0), radius=15.0)
    with ManifestWriter(tmp_path) as writer:
        writer.write('0', scene['img'], mask=scene['mask'], persons=[{'bbox': [8, 14, 32, 32]}])
    choice = dict(sample_per='person', keypoint_vocabulary='keypoints308')
    assert len(HumanManifestDataset(str(tmp_path), labels=['mask'], **choice)) == 1
    for labels in (None, []):
        with pytest.raises(UserError, match='is empty'):
            HumanManifestDataset(str(tmp_path), labels=labels, **choice)
