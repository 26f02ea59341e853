# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Whole pictures composed of several samples: boxes hold what is seen of each person."""

import cv2
import numpy as np
import pytest

from sapiens.datasets import HumanManifestDataset, ManifestWriter
from sapiens.datasets.transforms.crowd import ComposeCrowd, Picture
from sapiens.errors import UserError


@pytest.fixture
def photos(tmp_path):
    """A folder with one black photograph."""
    (tmp_path / 'photos').mkdir()
    cv2.imwrite(str(tmp_path / 'photos/a.png'), np.zeros((60, 80, 3), np.uint8))
    return str(tmp_path / 'photos')


def people(folder, count=3, photographed=False):
    """Bright persons: a whole one in all but the last picture, where the bottom cuts her; with parts or outlined."""
    with ManifestWriter(folder, keypoints='coco17', parts=None if photographed else 'parts28') as writer:
        for i in range(count):
            image, ids = np.zeros((64, 48, 3), np.uint8), np.zeros((64, 48), np.uint8)
            ids[10 : 54 if i < count - 1 else 64, 18:30] = 1
            image[ids > 0] = 230
            label = dict(mask=ids) if photographed else dict(parts=ids * 3)
            writer.write(f'{i}', image, instances=ids, **label, persons=[{'bbox': [18, 10, 12, 44]}])
    return str(folder)


def dataset(root, photos, **options):
    crowd = dict(type='ComposeCrowd', **{'pieces': (0, 0.0), 'texture_prob': 0.0, **options})
    pipeline = [crowd, dict(type='PackHumanInputs')]
    return HumanManifestDataset(root, input_size=(96, 96), background=photos, pipeline=pipeline)


def test_boxes_hold_the_people_that_are_seen(tmp_path, photos):
    np.random.seed(0)
    made = dataset(people(tmp_path / 'people'), photos, empty_prob=0.0, height=(0.3, 1.0))
    counts = []
    for index in range(30):
        sample = made[index % 3]
        image, boxes = sample['inputs'].numpy().max(0), sample['data_samples'].gt_boxes.numpy().astype(int)
        counts.append(len(boxes))
        inside = np.zeros(image.shape, bool)
        for x1, y1, x2, y2 in boxes:
            inside[y1 : y2 + 1, x1 : x2 + 1] = True
            seen = image[y1 : y2 + 1, x1 : x2 + 1] > 20
            # The box is tight: the person is near every side of it.
            assert all(side.any() for side in (seen[:3], seen[-3:], seen[:, :3], seen[:, -3:])), index
        outside = cv2.erode(np.uint8(~inside), np.ones((5, 5)))
        assert ((image > 120) & (outside > 0)).sum() < 0.04 * image.size  # only slivers of people count as nobody
    assert max(counts) >= 3 and min(counts) >= 1


def test_photographs_with_outlines_alone_make_crowds_too(tmp_path, photos):
    np.random.seed(0)
    root = people(tmp_path / 'people', photographed=True)
    made = dataset(root, photos, empty_prob=0.0, texture_prob=1.0, height=(0.3, 1.0))
    images = [made[index % 3]['inputs'].numpy() for index in range(12)]
    assert all((image == 0).mean() + (image > 150).mean() > 0.8 for image in images)  # no cloth has a texture
    sizes = {len(dataset(root, photos, empty_prob=0.0, whole_prob=1.0)[1]['data_samples'].gt_boxes) for _ in range(8)}
    assert sizes <= {1, 2} and 1 in sizes


def test_a_picture_that_stays_is_cropped_at_all_sides(photos):
    ids = np.tile(np.uint8([1, 2]).repeat(50), (80, 1))
    rows, columns = np.mgrid[:80, :100]
    image = np.stack([rows, columns, columns], -1).astype(np.uint8)
    np.random.seed(0)
    for _ in range(10):
        picture = Picture.whole([photos + '/a.png'], image, ids, (96, 96))
        rows, columns = np.ptp(picture.image[..., 0]), np.ptp(picture.image[..., 1])
        assert 46 <= rows <= 80 and 58 <= columns <= 100 and max(picture.size) == 96
        assert abs(picture.size[0] / picture.size[1] - (rows + 1) / (columns + 1)) < 0.06  # not stretched
        assert picture.areas[1:] == [int((picture.ids == i).sum()) for i in (1, 2)][: len(picture.areas) - 1]


def test_nobody_and_many(tmp_path, photos):
    root = people(tmp_path / 'people')
    np.random.seed(1)
    assert not len(dataset(root, photos, empty_prob=1.0)[0]['data_samples'].gt_boxes)
    few, many = (dataset(root, photos, empty_prob=0.0, whole_prob=0.0, groups=groups) for groups in (1, 6))
    few, many = (np.mean([len(made[0]['data_samples'].gt_boxes) for _ in range(15)]) for made in (few, many))
    assert few <= 1 and many > 2


def test_people_whom_their_render_cuts_reach_the_border_or_something_in_front(photos):
    ids = np.zeros((64, 48), np.uint8)
    ids[10:, 18:30] = 1
    image = np.repeat(ids[..., None] * np.uint8(230), 3, -1)
    np.random.seed(0)
    at_border = 0
    for _ in range(20):
        picture = Picture([photos + '/a.png'], (96, 96))
        picture.paste(image, ids, 0.5)
        at_border += picture.ids[-1].any()
    assert 8 <= at_border < 20


def test_what_it_needs_is_said(tmp_path, photos):
    root = people(tmp_path / 'people')
    with pytest.raises(UserError, match='ComposeCrowd needs the data set to have background=FOLDER'):
        dataset(root, None)[0]
    data = dataset(root, photos)
    (transform,) = (step for step in data.pipeline.transforms if isinstance(step, ComposeCrowd))
    transform.empty_prob, drawn = 0.0, transform.draw
    transform.draw = lambda: {**drawn(), 'label_files': {}}  # of a data set of which some samples have none
    with pytest.raises(UserError, match='has no instances, which ComposeCrowd needs'):
        [data[0] for _ in range(20)]
