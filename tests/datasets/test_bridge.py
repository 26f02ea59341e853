# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Data sets of mmpose and mmseg give our samples."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope, init_default_scope

from sapiens.datasets import CocoKeypointDataset
from sapiens.datasets.transforms import FromOpenMMLab
from sapiens.errors import UserError
from sapiens.registry import DATASETS

ROOT = Path(__file__).parents[2]
POSE = [
    dict(type='PersonBox'),
    dict(type='LoadImage'),
    dict(type='TopdownAffine', input_size=(64, 48)),
    dict(type='RandomFlip', prob=1.0),
    dict(type='PackHumanInputs'),
]


@pytest.fixture(autouse=True)
def scope():
    """As a Runner with `default_scope='sapiens'` sets it."""
    init_default_scope('sapiens')
    DefaultScope.get_instance(f'bridge-{id(object())}', scope_name='sapiens')


@pytest.mark.openmmlab
@pytest.mark.parametrize(
    ('name', 'vocabulary', 'file'),
    [('CocoWholeBodyDataset', 'wholebody133', 'coco_785_wholebody'), ('CocoDataset', 'coco17', 'coco_785')],
)
def test_mmpose_data_set_equals_ours(name, vocabulary, file):
    pytest.importorskip('mmpose')
    common = dict(data_root=str(ROOT), ann_file=f'tests/data/{file}.json', data_prefix=dict(img='demo/images/'))
    bridge = dict(type='FromOpenMMLab', keypoint_vocabulary=vocabulary)
    theirs = DATASETS.build(dict(type=f'mmpose.{name}', data_mode='topdown', pipeline=[bridge, *POSE], **common))
    ours = CocoKeypointDataset(keypoint_vocabulary=vocabulary, pipeline=POSE, **common)
    assert len(theirs) == len(ours) == 1
    a, b = theirs[0], ours[0]
    np.testing.assert_array_equal(a['inputs'], b['inputs'])
    np.testing.assert_allclose(a['data_samples'].gt_keypoints, b['data_samples'].gt_keypoints, atol=1e-3)
    assert ((a['data_samples'].gt_keypoints_visible > 0) == (b['data_samples'].gt_keypoints_visible > 0)).all()
    assert a['data_samples'].img_id == 785 and a['data_samples'].flipped


@pytest.mark.openmmlab
def test_mmseg_data_set_gives_parts(tmp_path):
    pytest.importorskip('mmseg')
    (tmp_path / 'images').mkdir()
    (tmp_path / 'labels').mkdir()
    cv2.imwrite(str(tmp_path / 'images/a.jpg'), np.full((40, 30, 3), 90, np.uint8))
    parts = np.zeros((40, 30), np.uint8)
    parts[:, 20:] = 14
    cv2.imwrite(str(tmp_path / 'labels/a.png'), parts)
    pipeline = [
        dict(type='FromOpenMMLab', part_vocabulary='parts20'),
        dict(type='LoadImage'),
        dict(type='LoadLabels', kinds=('parts', 'mask')),
        dict(type='RandomFlip', prob=1.0),
        dict(type='PackHumanInputs'),
    ]
    config = dict(type='mmseg.LIPDataset', data_root=str(tmp_path), pipeline=pipeline,
                  data_prefix=dict(img_path='images', seg_map_path='labels'))  # fmt: skip
    sample = DATASETS.build(config)[0]['data_samples']
    assert (sample.gt_part_map[:, :10] == 15).all() and (sample.gt_part_map[:, 10:] == 0).all()
    assert sample.gt_mask.shape == (1, 40, 30) and sample.gt_mask.sum() == 400


def test_records_are_checked_and_renamed():
    record = dict(img_path='a.jpg', bbox=np.zeros((1, 4)), keypoints=np.zeros((1, 17, 2)), id=3,
                  keypoints_visible=np.ones((1, 17, 2)))  # fmt: skip
    out = FromOpenMMLab('coco17')(record)
    assert out['keypoints'].shape == (17, 2) and out['keypoints_visible'].shape == (17,) and out['ann_id'] == 3
    with pytest.raises(UserError, match="a.jpg: has 17 keypoints, 'wholebody133' has 133"):
        FromOpenMMLab('wholebody133')(record)
    with pytest.raises(UserError, match="use data_mode='topdown'"):
        FromOpenMMLab('coco17')({**record, 'keypoints': np.zeros((2, 17, 2))})
    table = FromOpenMMLab(part_vocabulary='parts20')(
        dict(img_path='a', seg_map_path='b', reduce_zero_label=True, label_map={0: 5})
    )['label_map']
    assert table[[0, 1, 2, 255]].tolist() == [255, 5, 1, 255], 'the zero label goes first, then names are mapped'
