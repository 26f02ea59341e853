# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Data sets, transforms and metrics of the OpenMMLab toolkits in our configs (``default_scope = 'sapiens'``)."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, METRICS, MODELS, TRANSFORMS, DefaultScope

from sapiens.openmmlab import TOOLKITS, toolkit_installed
from sapiens.registry import UnknownNameError
from sapiens.structures import HumanDataSample
from sapiens.vocabularies import load_vocabulary

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.openmmlab,
    pytest.mark.skipif(not all(map(toolkit_installed, TOOLKITS)), reason='needs mmpose, mmsegmentation, mmpretrain'),
]


@pytest.fixture(autouse=True)
def our_scope():
    with DefaultScope.overwrite_default_scope('sapiens'):
        yield


def snippets():
    """The Python blocks of the guide."""
    blocks = (ROOT / 'docs' / 'openmmlab.md').read_text(encoding='utf-8').split('```python\n')[1:]
    return [block.split('```')[0] for block in blocks]


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """COCO's folders with one photo, as the guide's config names them."""
    (tmp_path / 'data/coco/annotations').mkdir(parents=True)
    (tmp_path / 'data/coco/val2017').mkdir()
    labels = 'data/coco/annotations/coco_wholebody_val_v1.0.json'
    shutil.copy(ROOT / 'tests/data/coco_785_wholebody.json', tmp_path / labels)
    shutil.copy(ROOT / 'demo/images/000000000785.jpg', tmp_path / 'data/coco/val2017')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_mmpose_data_set_trains_our_model(coco):
    config = Config.fromstring(snippets()[0], '.py')
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert type(dataset).__module__.startswith('mmpose.')
    item = dataset[0]
    sample = item['data_samples']
    assert item['inputs'].shape == (3, 256, 192) and sample.gt_keypoints.shape == (133, 2)
    # The photo's skier lies inside the crop.
    seen = sample.gt_keypoints[sample.gt_keypoints_visible > 0]
    assert len(seen) > 50
    assert float(((seen >= 0) & (seen < torch.tensor([192.0, 256.0]))).all(-1).float().mean()) > 0.9
    model = MODELS.build(
        dict(
            type='HumanEstimator',
            backbone=dict(type='SapiensViT', arch='tiny', img_size=(256, 192)),
            heads=dict(
                pose=dict(
                    type='PoseHead',
                    vocabulary='wholebody133',
                    codec=dict(type='UDPHeatmap'),
                    deconv_channels=(16, 16),
                    conv_channels=(16,),
                )
            ),
        )
    )
    data = model.data_preprocessor(dict(inputs=[item['inputs']], data_samples=[sample]), True)
    loss = model(**data, mode='loss')['pose.loss_kpt']
    loss.backward()
    assert float(loss.detach()) > 0 and model.heads['pose'].final_layer.weight.grad.any()


def test_mmsegs_metric_reads_our_samples():
    snippet = Config.fromstring(snippets()[0], '.py')
    metric = METRICS.build(snippet.part_evaluator)
    assert type(metric).__module__.startswith('mmseg.')
    evaluator = Evaluator([metric])
    names = load_vocabulary('parts20').names
    evaluator.dataset_meta = dict(classes=names)
    truth = torch.randint(0, 20, (40, 40), dtype=torch.uint8)
    guess = truth.clone()
    guess[:10] = 0
    sample = HumanDataSample(gt_part_map=truth, pred_part_map=guess)
    evaluator.process(data_samples=[sample], data_batch=None)
    result = evaluator.evaluate(1)
    iou = [((guess == c) & (truth == c)).sum() / ((guess == c) | (truth == c)).sum() for c in range(20)]
    assert result['mIoU'] == pytest.approx(100 * float(np.mean(iou)), abs=0.01)


def test_mmposes_metric_reads_our_samples():
    metric = METRICS.build(dict(type='mmpose.PCKAccuracy', thr=0.1))
    assert type(metric).__module__.startswith('mmpose.')
    evaluator = Evaluator([metric])
    evaluator.dataset_meta = {}
    sample = HumanDataSample(metainfo=dict(bbox=np.array([0, 0, 100, 100], np.float32), ori_shape=(100, 100)))
    sample.gt_keypoints, sample.gt_keypoints_visible = torch.full((4, 2), 50.0), torch.ones(4)
    sample.pred_keypoints = sample.gt_keypoints + torch.tensor([[0.0, 0], [9, 0], [11, 0], [0, 99]])
    sample.pred_keypoint_scores = torch.ones(4)
    evaluator.process(data_samples=[sample], data_batch=None)
    assert evaluator.evaluate(1)['PCK'] == pytest.approx(0.5)


def test_mmpretrain_data_set_and_transform(coco):
    dataset = DATASETS.build(
        dict(
            type='mmpretrain.CustomDataset',
            data_root=str(coco / 'data/coco/val2017'),
            with_label=False,
            pipeline=[dict(type='FromOpenMMLab'), dict(type='LoadImage'), dict(type='Resize', input_size=(64, 96)),
                      Config.fromstring(snippets()[1], '.py').erase, dict(type='PackHumanInputs')],
        )
    )  # fmt: skip
    assert type(dataset).__module__.startswith('mmpretrain.') and len(dataset) == 1
    dataset.pipeline.transforms[3].erase_prob = 1.0
    item = dataset[0]
    assert item['inputs'].shape == (3, 64, 96) and item['inputs'].dtype == torch.uint8


def test_a_single_transform_of_theirs():
    erase = TRANSFORMS.build(dict(type='mmpretrain.RandomErasing', erase_prob=1.0, mode='const'))
    out = erase(dict(img=np.full((50, 60, 3), 200, np.uint8)))
    assert (out['img'] == 128).any() and (out['img'] == 200).any()


@pytest.mark.parametrize(
    ('where', 'name', 'near'),
    [
        (DATASETS, 'mmpose.CocoWholeBodyDatset', 'mmpose.CocoWholeBodyDataset'),
        (METRICS, 'mmseg.IouMetric', 'mmseg.IoUMetric'),
        (TRANSFORMS, 'mmpretrain.RandomErasin', 'mmpretrain.RandomErasing'),
    ],
)
def test_typos_name_the_nearest_of_that_toolkit(where, name, near):
    with pytest.raises(UnknownNameError, match=f"did you mean '{near}'"):
        where.build(dict(type=name))
