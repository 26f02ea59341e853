# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The base configs of the data sets build and give samples, on data laid out as they say."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from scenes import photos, sphere

from sapiens.datasets import ManifestWriter
from sapiens.engine.config import load_config
from sapiens.registry import DATASETS, METRICS, TRANSFORMS

ROOT = Path(__file__).parents[2]
NAMES = ['coco17', 'wholebody133', 'human308', 'parts20', 'parts28', 'depth', 'normal', 'mae']


def lay_out(folder):
    """The data that the configs name, tiny."""
    coco = folder / 'data/coco'
    (coco / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        (coco / f'{split}2017').mkdir()
        shutil.copy(ROOT / 'demo/images/000000000785.jpg', coco / f'{split}2017')
        for source, target in (
            ('coco_785', 'person_keypoints_{}2017'),
            ('coco_785_wholebody', 'coco_wholebody_{}_v1.0'),
        ):
            shutil.copy(ROOT / f'tests/data/{source}.json', coco / f'annotations/{target.format(split)}.json')
        scene = sphere()
        with ManifestWriter(folder / f'data/synthetic/{split}', keypoints='keypoints308', parts='parts28') as writer:
            person = {'bbox': [15, 37, 50, 50], 'keypoints': np.full((308, 3), 2.0)}
            writer.write('a', image=scene['img'], parts=scene['part_map'], depth=scene['depth'],
                         normals=scene['normals'], persons=[person])  # fmt: skip
        photos(folder / f'data/lip/TrainVal_images/{split}_images', 2)
        labels = folder / f'data/lip/TrainVal_parsing_annotations/{split}_segmentations'
        labels.mkdir(parents=True)
        for i in range(2):
            cv2.imwrite(str(labels / f'{i:03d}.png'), np.full((40, 30), 13, np.uint8))
    photos(folder / 'data/pretrain', 3)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp('world')
    lay_out(folder)
    return folder


@pytest.mark.parametrize('name', NAMES)
def test_base_config_gives_samples(world, name, monkeypatch):
    config = load_config(ROOT / f'configs/_base_/datasets/{name}.py')
    monkeypatch.chdir(world)
    size = (64, 64) if name == 'mae' else (64, 48)
    for split in ('train', 'val', 'test'):
        loader = config[f'{split}_dataloader']
        loader.dataset.input_size = size
        data = DATASETS.build(loader.dataset)
        # Pretraining skips unreadable images also in validation.
        assert len(data) > 0 and data.test_mode == (split != 'train' and name != 'mae')
        np.random.seed(0)
        out = data[0]
        # Bytes leave the workers: images are normalised on the device.
        assert out['inputs'].shape == (3, *size) and str(out['inputs'].dtype) == 'torch.uint8'
        sample = out['data_samples']
        expected = {
            'coco17': {'gt_keypoints': (17, 2)},
            'wholebody133': {'gt_keypoints': (133, 2)},
            'human308': {'gt_keypoints': (308, 2)},
            'parts20': {'gt_part_map': (40, 30), 'gt_mask': (1, 40, 30)},
            'parts28': {'gt_part_map': (120, 90), 'gt_mask': (1, 120, 90)},
            'depth': {'gt_depth': (1, 120, 90), 'gt_mask': (1, 120, 90)},
            'normal': {'gt_normals': (3, 120, 90), 'gt_mask': (1, 120, 90)},
            'mae': {},
        }[name]
        for field, shape in expected.items():
            if split == 'train' and 'keypoints' not in field:
                shape = (*shape[:-2], *size)
            assert tuple(sample.get(field).shape) == shape, field
        assert sample.warp_mat.shape == (2, 3) and sample.img_shape == size
        assert loader.sampler.shuffle == (split == 'train')
    evaluators = config.val_evaluator if isinstance(config.val_evaluator, list) else [config.val_evaluator]
    for evaluator in evaluators:
        METRICS.build(evaluator)


def test_transforms_build_under_a_default_scope_too():
    from mmengine.dataset import Compose

    init_default_scope('sapiens')
    assert len(Compose([dict(type='LoadImage'), dict(type='Resize', input_size=(8, 8))]).transforms) == 2
    assert TRANSFORMS.get('Resize').__module__.startswith('sapiens.'), 'ours, not the one of mmcv'
    assert json.dumps(load_config(ROOT / 'configs/_base_/datasets/coco17.py').to_dict())
