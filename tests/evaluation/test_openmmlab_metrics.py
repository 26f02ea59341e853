# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""OpenMMLab's metrics, used in our configs as they are, agree with ours where both exist."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from people import FIELDS, read_coco, samples_of, whole_body

from sapiens.openmmlab import toolkit_installed
from sapiens.registry import METRICS
from sapiens.structures import HumanDataSample
from sapiens.vocabularies import load_vocabulary

pytestmark = [
    pytest.mark.openmmlab,
    pytest.mark.skipif(not all(map(toolkit_installed, ('mmpose', 'mmseg'))), reason='needs mmpose and mmsegmentation'),
]
COCO_NAMES = {
    'AP': 'AP', 'AP50': 'AP .5', 'AP75': 'AP .75', 'AP_M': 'AP (M)', 'AP_L': 'AP (L)',
    'AR': 'AR', 'AR50': 'AR .5', 'AR75': 'AR .75', 'AR_M': 'AR (M)', 'AR_L': 'AR (L)',
}  # fmt: skip


def person_samples(document, vocabulary='coco17', noise=0.04):
    samples = []
    for fields in samples_of(document, noise, vocabulary=vocabulary):
        sample = HumanDataSample(metainfo={k: v for k, v in fields.items() if not k.startswith(('pred', 'gt'))})
        for name, value in fields.items():
            if name.startswith(('pred', 'gt')):
                setattr(sample, name, torch.tensor(np.asarray(value), dtype=torch.float32))
        samples.append(sample)
    return samples


def evaluate(metrics, samples, **meta):
    evaluator = Evaluator([METRICS.build(metric) for metric in metrics])
    evaluator.dataset_meta = meta
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.process(samples)
        return evaluator.evaluate(len(samples))


@pytest.mark.parametrize('mode', ['bbox_keypoint', 'keypoint', 'bbox'])
def test_coco_metric(tmp_path, mode):
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(read_coco()))
    samples = person_samples(read_coco())
    for i, sample in enumerate(samples):
        sample.set_metainfo({'bbox_score': 0.5 + 0.03 * i})
    theirs = dict(type='mmpose.CocoMetric', ann_file=str(path), score_mode=mode)
    ours = dict(type='KeypointAP', ann_file=str(path), score_mode=mode)
    sigmas = load_vocabulary('coco17').sigmas
    found = evaluate([theirs, ours], samples, num_keypoints=17, sigmas=sigmas, dataset_name='coco')
    assert 0 < found['pose/AP'] < 1
    for name, their_name in COCO_NAMES.items():
        assert found[f'pose/{name}'] == pytest.approx(found[f'coco/{their_name}'], abs=1e-6), name


def test_coco_metric_from_labels_of_the_samples():
    samples = person_samples(read_coco())
    meta = dict(num_keypoints=17, sigmas=load_vocabulary('coco17').sigmas, dataset_name='own')
    classes = [{'id': 1, 'name': 'person'}]
    found = evaluate([dict(type='mmpose.CocoMetric'), dict(type='KeypointAP')], samples, CLASSES=classes, **meta)
    for name, their_name in COCO_NAMES.items():
        assert found[f'pose/{name}'] == pytest.approx(found[f'coco/{their_name}'], abs=1e-4), name


def test_coco_wholebody_metric(tmp_path):
    document = whole_body(read_coco())
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(document))
    for annotation in document['annotations']:
        annotation['keypoints'] = [number for name in FIELDS for number in annotation[name]]
    samples = person_samples(document, 'wholebody133', 0.02)
    metrics = [
        dict(type='mmpose.CocoWholeBodyMetric', ann_file=str(path)),
        dict(type='KeypointAP', ann_file=str(path), vocabulary='wholebody133'),
    ]
    sigmas = load_vocabulary('wholebody133').sigmas
    found = evaluate(metrics, samples, num_keypoints=133, sigmas=sigmas, dataset_name='whole')
    assert 0 < found['pose/AP'] < 1
    for name, their_name in COCO_NAMES.items():
        assert found[f'pose/{name}'] == pytest.approx(found[f'coco-wholebody/{their_name}'], abs=1e-6), name


def test_pck_nme():
    samples = person_samples(read_coco(), noise=0.08)
    metrics = [dict(type='mmpose.PCKAccuracy', thr=0.05, prefix='theirs'), dict(type='PCK', thresholds=[0.05])]
    found = evaluate(metrics, samples)
    assert 0 < found['pose/PCK'] < 1
    assert found['pose/PCK'] == pytest.approx(found['theirs/PCK'], abs=1e-6)
    epe = evaluate([dict(type='mmpose.EPE', prefix='theirs'), dict(type='PCK')], samples)
    assert epe['pose/EPE'] == pytest.approx(epe['theirs/EPE'], rel=1e-5)


def test_iou_metric():
    random = np.random.default_rng(0)
    samples = []
    for i in range(4):
        label = random.integers(0, 18, (30, 40))
        sample = HumanDataSample(metainfo=dict(img_id=i, img_path=f'{i}.jpg'))
        sample.pred_part_map = torch.tensor(np.where(random.random(label.shape) < 0.6, label, 4), dtype=torch.uint8)
        label[:2] = 255
        sample.gt_part_map = torch.tensor(label, dtype=torch.uint8)
        samples.append(sample)
    metrics = [dict(type='mmseg.IoUMetric', prefix='theirs'), dict(type='PartIoU', vocabulary='parts20')]
    found = evaluate(metrics, samples, classes=load_vocabulary('parts20').names)
    for name in ('mIoU', 'mAcc', 'aAcc'):
        # Theirs are percentages with two decimals.
        assert found[f'seg/{name}'] * 100 == pytest.approx(found[f'theirs/{name}'], abs=0.0051), name


def test_depth_metric():
    random = np.random.default_rng(0)
    samples = []
    for i in range(3):
        sample = HumanDataSample(metainfo=dict(img_id=i, img_path=f'{i}.jpg'))
        label = random.uniform(0.5, 4, (1, 20, 30))
        sample.pred_depth = torch.tensor(label * random.uniform(0.7, 1.4, label.shape), dtype=torch.float32)
        label[:, :3] = 0
        sample.gt_depth = torch.tensor(label, dtype=torch.float32)
        samples.append(sample)
    metrics = [dict(type='mmseg.DepthMetric', prefix='theirs'), dict(type='DepthMetric', alignment='none')]
    found = evaluate(metrics, samples)
    names = {'RMSE': 'rmse', 'AbsRel': 'abs_rel', 'SqRel': 'sq_rel', 'log10': 'log10', 'delta_1': 'd1', 'delta_2': 'd2'}
    for ours, theirs in names.items():
        assert found[f'depth/{ours}'] == pytest.approx(found[f'theirs/{theirs}'], rel=1e-4), ours


def renamed(metric):
    """A metric of a ported config: the same words, another scope."""
    scope, _, name = metric['type'].partition('.')
    return [metric, {**metric, 'type': f'sapiens.{name}', 'prefix': 'ported'}]


@pytest.mark.parametrize(
    'options',
    [dict(), dict(score_mode='keypoint', nms_mode='none'), dict(use_area=False, keypoint_score_thr=0.5, nms_thr=0.7)],
)
def test_a_ported_config_gives_the_same_figures(tmp_path, options):
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps(read_coco()))
    samples = person_samples(read_coco())
    sigmas = load_vocabulary('coco17').sigmas
    metrics = renamed(dict(type='mmpose.CocoMetric', ann_file=str(path), **options))
    found = evaluate(metrics, samples, num_keypoints=17, sigmas=sigmas, dataset_name='coco')
    assert 0 < found['ported/AP'] < 1
    for name, their_name in COCO_NAMES.items():
        assert found[f'ported/{name}'] == pytest.approx(found[f'coco/{their_name}'], abs=1e-6), name
    found = evaluate(renamed(dict(type='mmpose.PCKAccuracy', thr=0.1, norm_item='bbox')), samples)
    assert found['ported/PCK'] == pytest.approx(found['PCK'], abs=1e-6) and 0 < found['PCK'] <= 1
