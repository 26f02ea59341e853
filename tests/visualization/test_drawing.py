# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What the pictures show, read back from their pixels."""

import cv2
import numpy as np
import pytest
import torch

from sapiens.structures import HumanDataSample
from sapiens.visualization import (
    INVALID_COLOR,
    HumanVisualizer,
    draw_boxes,
    draw_depth,
    draw_keypoints,
    draw_normals,
    draw_parts,
    put_label,
    side_by_side,
)
from sapiens.vocabularies import load_vocabulary


def test_keypoints_above_the_threshold_are_drawn_where_they_are_and_others_not():
    vocabulary = load_vocabulary('coco17')
    image = np.full((200, 300, 3), 128, np.uint8)
    points = np.full((17, 2), np.nan)
    points[0], points[9], points[10] = (40.2, 60.4), (250, 150), (1e9, -1e9)
    scores = np.zeros(17)
    scores[0], scores[9], scores[10] = 0.9, 0.29, 0.9
    drawn = draw_keypoints(image, points, scores, vocabulary)
    assert (image == 128).all(), 'the input is left alone'
    assert tuple(drawn[60, 40]) == tuple(vocabulary.colors[0])
    ys, xs = np.nonzero((drawn != 128).any(-1))
    assert abs(xs.mean() - 40.2) < 0.5 and abs(ys.mean() - 60.4) < 0.5
    assert tuple(draw_keypoints(image, points, scores, 'coco17', threshold=0.1)[150, 250]) == tuple(
        vocabulary.colors[9]
    )


def test_widths_grow_with_the_image_and_308_points_stay_apart():
    vocabulary = load_vocabulary('keypoints308')
    points = np.random.default_rng(0).uniform(0.1, 0.9, (308, 2))
    small = draw_keypoints(np.zeros((600, 600, 3), np.uint8), points * 600, None, vocabulary)
    large = draw_keypoints(np.zeros((2400, 2400, 3), np.uint8), points * 2400, None, vocabulary)
    share = [float((p != 0).any(-1).mean()) for p in (small, large)]
    assert share[1] == pytest.approx(share[0], rel=0.3)
    face = np.zeros((300, 300, 3), np.uint8)
    scores = np.zeros(308)
    scores[vocabulary.groups['face']] = 1
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(20)), -1).reshape(-1, 2)[:308] * 3.0 + 100
    face = draw_keypoints(face, grid, scores, vocabulary)
    blobs, _ = cv2.connectedComponents((face.max(-1) > 160).astype(np.uint8))
    assert blobs - 1 > 0.8 * scores.sum(), 'points 3 pixels apart do not flow into one another'


def test_several_people_and_torch_like_shapes():
    image = np.zeros((100, 100, 3), np.uint8)
    points = np.random.default_rng(0).uniform(10, 90, (2, 17, 2))
    both = draw_keypoints(image, points, np.ones((2, 17)), 'coco17')
    one = draw_keypoints(image, points[0], np.ones(17), 'coco17')
    assert (both != 0).sum() > (one != 0).sum() > 0


def test_boxes_are_drawn_at_their_edges():
    drawn = draw_boxes(np.zeros((100, 100, 3), np.uint8), [[20, 30, 70, 90]], ['a'], color=(255, 0, 0))
    assert drawn[60, 20, 0] > 200 and drawn[90, 50, 0] > 200 and not drawn[..., 1:].any()
    assert not drawn[60, 40].any()


def test_parts_take_their_colours_and_leave_the_background():
    vocabulary = load_vocabulary('parts28')
    image = np.full((60, 60, 3), 200, np.uint8)
    parts = np.zeros((60, 60), np.int64)
    parts[10:30, 10:50], parts[40:50, 10:50] = 5, 255
    drawn = draw_parts(image, parts, vocabulary, alpha=1.0)
    assert tuple(drawn[20, 30]) == tuple(vocabulary.colors[5])
    assert (drawn[parts == 0] == 200).all() and (drawn[parts == 255] == 200).all()
    half = draw_parts(image, parts, vocabulary, alpha=0.5)[20, 30]
    assert np.abs(half - (200 + vocabulary.colors[5].astype(float)) / 2).max() <= 1
    for wrong in (28, 256, -1):  # of which the last two would be another id as a byte
        parts[0, 0] = wrong
        with pytest.raises(ValueError, match=f'part id {wrong} is outside'):
            draw_parts(image, parts, vocabulary)
    with pytest.raises(ValueError, match='the part map is'):
        draw_parts(image, parts[1:], vocabulary)


def test_near_is_bright_and_invalid_is_grey():
    depth = np.tile(np.linspace(1, 3, 50, dtype=np.float32), (20, 1))
    depth[0, 0] = np.nan
    mask = np.ones((20, 50), bool)
    mask[-1] = False
    drawn = draw_depth(depth[None], mask)
    luminance = drawn[5].astype(float) @ [0.3, 0.6, 0.1]
    assert luminance[0] > luminance[25] > luminance[49]
    assert tuple(drawn[0, 0]) == INVALID_COLOR and (drawn[-1] == INVALID_COLOR).all()
    assert (draw_depth(depth, np.zeros_like(mask)) == INVALID_COLOR).all()
    assert np.ptp(draw_depth(np.full((4, 4), 2.0)).reshape(-1, 3), axis=0).max() == 0


def test_normals_are_blue_violet_towards_the_camera():
    normals = np.zeros((3, 10, 12), np.float32)
    normals[2, :, :4] = 1
    normals[0, :, 4:8] = 1
    drawn = draw_normals(normals)
    assert tuple(drawn[5, 1]) == (127, 127, 255)
    assert tuple(drawn[5, 5]) == (255, 127, 127)
    assert tuple(drawn[5, 10]) == INVALID_COLOR
    assert (draw_normals(normals.transpose(1, 2, 0)) == drawn).all()
    with pytest.raises(ValueError, match='normals are'):
        draw_normals(normals[0])


def test_layouts():
    red, blue = np.full((40, 60, 3), (255, 0, 0), np.uint8), np.full((80, 60, 3), (0, 0, 255), np.uint8)
    row = side_by_side([red, blue, red], gap=4)
    assert row.shape == (40, 60 + 4 + 30 + 4 + 60, 3)
    assert tuple(row[20, 80]) == (0, 0, 255) and tuple(row[20, 61]) == (255, 255, 255)
    assert side_by_side([red, red, red], ['a', 'b', 'c'], columns=2, gap=4).shape == (84, 124, 3)
    with pytest.raises(ValueError, match='3 images and 1 titles'):
        side_by_side([red, red, red], ['a'])
    assert (put_label(red, 'hello' * 9) != red).any()


def test_floats_are_refused():
    with pytest.raises(TypeError, match='uint8 RGB'):
        draw_boxes(np.zeros((10, 10, 3), np.float32), np.zeros((0, 4)))


def test_visualizer_draws_every_field_of_a_sample(tmp_path):
    sample = HumanDataSample()
    sample.pred_keypoints = torch.rand(17, 2) * 50
    sample.pred_keypoint_scores = torch.ones(17)
    sample.pred_part_map = torch.ones(50, 50, dtype=torch.uint8)
    sample.pred_depth = torch.rand(1, 50, 50)
    sample.pred_normals = torch.nn.functional.normalize(torch.randn(3, 50, 50), dim=0)
    visualizer = HumanVisualizer('test_drawing', keypoint_vocabulary='coco17', part_vocabulary='parts20')
    image = np.zeros((50, 50, 3), np.uint8)
    assert set(visualizer.draw_sample(image, sample)) == {'pose', 'seg', 'depth', 'normal'}
    visualizer.add_datasample('x', image, sample, out_file=str(tmp_path / 'x.png'))
    assert cv2.imread(str(tmp_path / 'x.png')).shape[1] > 5 * 50
