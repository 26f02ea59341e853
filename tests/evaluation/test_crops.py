# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Samples that are one person's crop of an image with many people: only what the network was shown is judged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import run_tool
from test_normal import ball

from sapiens.datasets import ManifestWriter
from sapiens.engine.config import load_config
from sapiens.evaluation import DepthMetric, NormalMetric, PartIoU, SavePredictions
from sapiens.models.heads.frames import map_to_original
from sapiens.registry import DATASETS, METRICS
from sapiens.structures import HumanDataSample
from sapiens.structures.geometry import covered_window

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(p.name for p in (ROOT / 'configs' / 'multitask').glob('sapiens_*.py'))
SHAPE = (120, 200)
CENTRES = [(60, 40), (55, 100), (70, 170)]


@pytest.fixture(scope='module')
def crowd(tmp_path_factory):
    """A manifest with one image of three people who stand apart."""
    normals, depth = np.zeros((*SHAPE, 3), np.float32), np.zeros(SHAPE)
    parts, people = np.zeros(SHAPE, np.uint8), []
    for i, (row, column) in enumerate(CENTRES):
        one, mask = ball(*SHAPE, 26, (row, column))
        normals += np.moveaxis(one, 0, -1)
        depth += mask * (2.0 + i) - one[2] * 0.3
        parts[mask] = np.where(np.arange(SHAPE[0])[:, None] < row, 2 + i, 20 + i).repeat(SHAPE[1], 1)[mask]
        people.append({'bbox': [column - 26, row - 26, 52, 52], 'keypoints': np.full((308, 3), [column, row, 2.0])})
    folder = tmp_path_factory.mktemp('crowd') / 'gt'
    with ManifestWriter(folder, keypoints='keypoints308', parts='parts28', normal_bits=16) as writer:
        writer.write('a', np.full((*SHAPE, 3), 90, np.uint8), parts, depth, normals, parts > 0, persons=people)
    return folder


def oracle(sample: HumanDataSample) -> HumanDataSample:
    """Perfect predictions of the crop, as the heads leave them: nothing outside of it."""
    size = sample.img_shape
    shown = map_to_original(torch.ones(1, *size), torch.as_tensor(sample.warp_mat), sample.ori_shape)[0] > 0.5
    sample.pred_part_map = sample.gt_part_map * shown
    sample.pred_depth = (sample.gt_depth - 0.4) / 7 * shown
    sample.pred_normals = sample.gt_normals * shown
    sample.pred_keypoints = torch.from_numpy(
        np.linalg.solve(sample.warp_mat[:, :2], sample.gt_keypoints.double().numpy().T - sample.warp_mat[:, 2:]).T
    )
    sample.pred_keypoint_scores = torch.ones(308)
    return sample


def perfect_samples(config, folder):
    dataset = DATASETS.build({**config.test_dataloader.dataset, 'data_root': str(folder)})
    return [oracle(dataset[i]['data_samples']) for i in range(len(dataset))]


@pytest.mark.parametrize('name', CONFIGS)
def test_an_oracle_is_perfect_on_images_of_many_people(name, crowd):
    """The metrics of every config that looks at one person at a time, with its own test pipeline."""
    config = load_config(str(ROOT / 'configs' / 'multitask' / name))
    samples = [sample.to_dict() for sample in perfect_samples(config, crowd)]
    assert len(samples) == 3
    found = {}
    for metric in config.test_evaluator:
        metric = METRICS.build(metric)
        metric.process(None, samples)
        found.update(metric.evaluate(3))
        assert not [note for note in metric.report.notes if 'zero or not finite' in note]
        if metric.task != 'pose':
            assert '3 of them crops' in metric.report.protocol['labels']
    for figure in ('seg/mIoU', 'seg/mAcc', 'seg/aAcc', 'depth/delta_1', 'normal/within_5', 'pose/PCK'):
        assert found[figure] == 1, figure
    assert found['depth/RMSE'] < 1e-4 and found['depth/AbsRel'] < 1e-4
    assert found['normal/mean'] < 1e-3 and found['normal/median'] <= 0.005


def test_errors_inside_of_the_crop_still_count(crowd):
    config = load_config(str(ROOT / 'configs' / 'multitask' / CONFIGS[0]))
    samples = []
    for sample in perfect_samples(config, crowd):
        sample.pred_part_map[:] = 0
        sample.pred_normals *= -1
        samples.append(sample.to_dict())
    for metric, figure, expected in ((PartIoU(), 'seg/mAcc', 1 / 7), (NormalMetric(), 'normal/mean', 180)):
        metric.process(None, samples)
        assert metric.evaluate(3)[figure] == pytest.approx(expected, abs=0.02)


def test_metrics_of_openmmlab_see_the_crop_too(crowd):
    config = load_config(str(ROOT / 'configs' / 'multitask' / CONFIGS[0]))
    for sample in perfect_samples(config, crowd):
        sample = sample.to_dict()
        label, found = sample['gt_sem_seg']['data'], sample['pred_sem_seg']['data']
        assert ((label == found) | (label == 255)).all() and (label == 255).any() and (label == found).any()
        assert ((sample['gt_depth_map']['data'] > 0) <= (sample['pred_depth_map']['data'] != 0)).all()
    assert sample['gt_part_map'].max() < 255


@pytest.mark.parametrize('angle', [0, 30])
def test_the_window_is_what_the_heads_cover(angle):
    """Turned crops and crops that reach beyond the image, against the heads' own resampling."""
    turn = np.array([[np.cos(np.radians(angle)), -np.sin(np.radians(angle))],
                     [np.sin(np.radians(angle)), np.cos(np.radians(angle))]])  # fmt: skip
    for scale, shift in ((1.3, (-40, -20)), (0.4, (5, -9)), (1.0, (900, 0))):
        warp = np.concatenate([turn * scale, np.array(shift, float)[:, None]], 1)
        window, shown = covered_window(warp, (48, 36), (60, 70))
        covered = np.zeros((60, 70), bool)
        covered[window] = True if shown is None else shown
        expected = map_to_original(torch.ones(1, 48, 36), torch.from_numpy(warp), (60, 70))[0] > 0.5
        np.testing.assert_array_equal(covered, expected.numpy())


def test_a_crop_of_nothing_adds_nothing():
    """A box beyond the image: no pixel, no crash."""
    whole = {'img_id': 0, 'gt_depth': np.ones((1, 8, 8)) * np.arange(1, 9), 'pred_depth': np.ones((1, 8, 8))}
    away = {**whole, 'img_id': 1, 'warp_mat': np.array([[1.0, 0, 99], [0, 1, 99]]), 'img_shape': (8, 8)}
    metric = DepthMetric()
    metric.process(None, [whole, away])
    metric.evaluate(2)
    assert any('1 of 2 images have fewer' in note for note in metric.report.notes)
    labels = {'gt_part_map': np.ones((8, 8), np.uint8), 'pred_part_map': np.ones((8, 8), np.uint8)}
    normals = {'gt_normals': np.ones((3, 8, 8)), 'pred_normals': np.ones((3, 8, 8))}
    for metric in (PartIoU(boundary=True), NormalMetric()):
        metric.process(None, [{**whole, **labels, **normals}, {**away, **labels, **normals}])
        assert metric.evaluate(2)


@pytest.mark.parametrize('task', ['seg', 'depth', 'normal'])
def test_saved_crops_are_scored_as_the_live_ones(crowd, tmp_path, task):
    """Every person keeps a map of its own, which is judged where the network saw the image."""
    config = load_config(str(ROOT / 'configs' / 'multitask' / CONFIGS[0]))
    random, samples = np.random.default_rng(0), []
    for sample in perfect_samples(config, crowd):
        sample.pred_part_map[::3] = 5
        sample.pred_depth += torch.from_numpy(random.normal(0, 0.02, (1, *SHAPE)).astype(np.float32))
        sample.pred_normals += torch.from_numpy(random.normal(0, 0.2, (3, *SHAPE)).astype(np.float32))
        samples.append(sample.to_dict())
    metric = {'seg': PartIoU, 'depth': DepthMetric, 'normal': NormalMetric}[task]()
    saver = SavePredictions(tmp_path / 'results', task)
    for part in (metric, saver):
        part.process(None, samples)
    expected = metric.evaluate(3)
    assert saver.evaluate(3) == {'saved/count': 3}
    done = run_tool('eval_results.py', tmp_path / 'results', '--ann-file', crowd, '--task', task, '--json',
                    tmp_path / 'o.json', '--show-worst', 3, '--show-dir', tmp_path / 'worst')  # fmt: skip
    assert done.code == 0, done.error
    written = json.loads((tmp_path / 'o.json').read_text())
    for name, value in expected.items():
        assert written[name.split('/')[1]] == pytest.approx(value, rel=1e-6), name
    assert len(written['per_image']) == 3 and len(list((tmp_path / 'worst').iterdir())) == 3
