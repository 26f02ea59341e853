# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
import numpy as np
import torch

from sapiens.structures import HumanDataSample
from sapiens.structures.geometry import to_original


def make_sample():
    sample = HumanDataSample(
        metainfo=dict(
            img_id=7,
            img_path='a.jpg',
            ori_shape=(60, 50),
            bbox=np.array([10, 5, 30, 55], np.float32),
            bbox_score=0.75,
            warp_mat=np.array([[2.0, 0, 1], [0, 2.0, -3]]),
        )
    )
    sample.gt_keypoints = torch.tensor([[21.0, 17.0], [41.0, 37.0]])
    sample.gt_keypoints_visible = torch.tensor([2.0, 0.0])
    sample.pred_keypoints = torch.tensor([[11.0, 10.0], [20.0, 20.0]])
    sample.pred_keypoint_scores = torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
    sample.pred_part_map = torch.ones(60, 50, dtype=torch.uint8)
    sample.gt_part_map = torch.zeros(60, 50, dtype=torch.uint8)
    sample.gt_depth = torch.ones(1, 60, 50)
    return sample


def test_to_dict_has_our_fields_and_theirs():
    sample = make_sample()
    found = sample.to_dict()
    assert found['pred_part_map'] is sample.pred_part_map
    # Views, not copies.
    assert found['pred_sem_seg']['data'].shape == (1, 60, 50)
    assert found['pred_sem_seg']['data'].data_ptr() == sample.pred_part_map.data_ptr()
    assert found['gt_depth_map']['data'] is sample.gt_depth and 'pred_depth_map' not in found
    labelled, predicted = found['gt_instances'], found['pred_instances']
    assert labelled['keypoints'].shape == (1, 2, 2) and predicted['keypoint_scores'].tolist() == [[0.5, 0.25]]
    np.testing.assert_allclose(labelled['keypoints'][0], [[10, 10], [20, 20]])
    assert labelled['bboxes'].tolist() == [[10, 5, 30, 55]] and labelled['bbox_scores'].tolist() == [0.75]
    annotation = found['raw_ann_info']
    assert annotation['keypoints'] == [10, 10, 2, 0, 0, 0] and annotation['num_keypoints'] == 1
    assert annotation['bbox'] == [10, 5, 20, 50] and annotation['area'] == 20 * 50 * 0.53
    # The sample itself is as it was.
    assert 'pred_sem_seg' not in sample


def test_only_what_the_sample_allows():
    sample = HumanDataSample(metainfo=dict(img_id=1))
    sample.pred_normals = torch.zeros(3, 4, 4)
    assert set(sample.to_dict()) == {'img_id', 'pred_normals'}


def test_identities_differ_between_boxes_of_an_image():
    a, b = make_sample(), make_sample()
    b.set_metainfo(dict(bbox=np.array([0, 0, 9, 9], np.float32)))
    assert a.to_dict()['id'] == make_sample().to_dict()['id'] != b.to_dict()['id']
    a.set_metainfo(dict(ann_id=42))
    assert a.to_dict()['id'] == 42


def test_to_original_inverts_the_warp():
    matrix = np.array([[0.5, 0.2, 3], [-0.1, 0.7, -9], [0, 0, 1]])
    points = np.random.default_rng(0).uniform(0, 100, (4, 5, 2))
    moved = points @ matrix[:2, :2].T + matrix[:2, 2]
    np.testing.assert_allclose(to_original(moved, matrix), points)
    np.testing.assert_allclose(to_original(torch.tensor(moved), torch.tensor(matrix[:2])), points)
    np.testing.assert_array_equal(to_original(points), points)
