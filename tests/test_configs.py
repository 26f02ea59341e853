# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Every config of the grid builds; every tiny one trains a few steps and validates."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sapiens.engine.cli import build_runner
from sapiens.engine.config import load_config
from sapiens.models.complexity import count_parameters
from sapiens.registry import DATASETS, METRICS, MODELS
from sapiens.vocabularies import load_vocabulary

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tests/e2e'))
from made_people import make_person, write_people  # noqa: E402

CONFIGS = sorted(p for p in ROOT.glob('configs/*/*.py') if p.parent.name not in ('_base_', 'curation'))
SIZES = {'0.3b': 0.3e9, '0.6b': 0.6e9, '1b': 1.1e9, '2b': 2.1e9, 'tiny': 1.85e6}
SMALL = {'small': 2e7}  # of all tasks in one only
GRID = {
    'pretrain': ['mae'],
    'pose': ['17kpt', '133kpt', '308kpt'],
    'seg': ['20cls', '28cls'],
    'depth': ['depth'],
    'normal': ['normal'],
    'multitask': ['4tasks'],
}


def test_the_grid_is_complete():
    expected = {f'{folder}/sapiens_{size}_{task}' for folder, tasks in GRID.items() for task in tasks for size in SIZES}
    assert expected <= {f'{p.parent.name}/{p.stem}' for p in CONFIGS}


def leaves(dataset):
    """The data sets inside concatenations and repetitions."""
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    return (leaf for item in inner for leaf in leaves(item)) if inner else iter([dataset])


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_builds_on_the_meta_device(path):
    assert len(path.read_text().splitlines()) <= 30, 'could more be inherited?'
    config = load_config(path)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    sizes = SIZES | SMALL
    size = next(size for size in sizes if f'_{size}_' in path.stem)
    assert sizes[size] < count_parameters(model) < 3 * sizes[size]
    for loader in filter(None, (config.get(f'{mode}_dataloader') for mode in ('train', 'val', 'test'))):
        for dataset in leaves(loader.dataset):
            assert DATASETS.get(dataset.type) is not None
            assert tuple(dataset.input_size) == tuple(model.backbone.img_size)
    evaluators = config.get('val_evaluator') or []  # detectors are judged on photographs, tools/zoo/evaluate.py
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    assert all(METRICS.get(evaluator.type) is not None for evaluator in evaluators)
    for head in getattr(model, 'heads', {}).values():
        if hasattr(head, 'vocabulary'):
            dataset = next(leaves(config.train_dataloader.dataset))
            used = {dataset.get(key) for key in ('keypoint_vocabulary', 'part_vocabulary')}
            assert head.vocabulary.name in used


def test_large_jpegs_are_decoded_as_large_as_the_smallest_window_needs():
    """Windows may be magnified 2.58 times; decoding was told 2.3."""
    for path in ('pretrain/sapiens_tiny_mae.py', 'depth/sapiens_tiny_depth.py'):
        pipeline = load_config(ROOT / 'configs' / path).train_dataloader.dataset.pipeline
        (load,) = [step for step in pipeline if step.type == 'LoadImage']
        for step in pipeline:
            if step.type == 'RandomResizedCrop':
                assert load.max_zoom == pytest.approx((step.area[0] * min(step.aspect[0], 1 / step.aspect[1])) ** -0.5)
            if step.type == 'RandomAffine':
                assert load.max_zoom == step.scale[1]
        assert load.max_zoom >= 2


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Small data in the formats that the default configs read."""
    root = tmp_path_factory.mktemp('data')
    people = write_people(root / 'people', count=4)
    # LIP's layout: photos and label maps of the same stem.
    import cv2

    rng = np.random.default_rng(0)
    for i in range(2):
        person = make_person(rng, (96, 72))
        labels = np.minimum(person['parts'], load_vocabulary('parts20').num_classes - 1)
        for folder, picture in (('images', person['image'][..., ::-1]), ('labels', labels)):
            (root / 'lip' / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / 'lip' / folder / f'{i}.{"jpg" if folder == "images" else "png"}'), picture)
    coco = dict(data_root='', data_prefix=dict(img=str(ROOT / 'demo/images')))
    return {
        'coco17': dict(coco, ann_file=str(ROOT / 'tests/data/coco_785.json')),
        'wholebody133': dict(coco, ann_file=str(ROOT / 'tests/data/coco_785_wholebody.json')),
        'parts20': dict(data_root=str(root / 'lip'), data_prefix=dict(img='images', parts='labels')),
        'photos': dict(data_root=str(ROOT / 'demo/images')),
        'people': dict(data_root=str(people)),
        'crowds': dict(data_root=str(people), background=str(ROOT / 'demo/images')),
    }


def own_data(config, data):
    """Data that fit a config, by what it reads."""
    dataset = config.train_dataloader.dataset
    if dataset.pipeline[0].type == 'ComposeCrowd':
        return data['crowds']
    for key in (dataset.get('keypoint_vocabulary'), dataset.get('part_vocabulary')):
        if key in data:
            return data[key]
    return data['photos'] if dataset.type == 'ImageFolderDataset' else data['people']


# Renders and photographs are mixed in tests/datasets/test_concat.py.
ALONE = [p for p in CONFIGS if '_tiny_' in p.stem and '_own_' not in p.stem and '_photos' not in p.stem]


@pytest.mark.parametrize('path', ALONE, ids=lambda p: p.stem)
def test_tiny_configs_train_and_validate(path, data, tmp_path):
    config = load_config(path)
    changes = own_data(config, data)
    for loader in filter(None, (config.train_dataloader, config.get('val_dataloader'))):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.update(changes)
    evaluators = config.get('val_evaluator') or []  # detectors are judged on photographs, tools/zoo/evaluate.py
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    for evaluator in evaluators:
        if 'ann_file' in evaluator:
            evaluator.ann_file = changes['ann_file']
    config.train_cfg.update(max_iters=2, val_interval=2)
    config.param_scheduler = []
    config.default_hooks.checkpoint.update(interval=2, save_best=None)
    config.work_dir = str(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        build_runner(config).train()
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / 'iter_2.pth').is_file()
    (scalars,) = tmp_path.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert not evaluators or any(any('/' in key for key in row) for row in rows), 'validation wrote no figure'
    assert all(np.isfinite(value) for row in rows for key, value in row.items() if 'loss' in key)
