# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Other clothes, things in front and behind, random looks: what changes, by how much, and what stays."""

import cv2
import numpy as np
import pytest

from sapiens.datasets.transforms import RandomConvolution, RandomDecoy, RandomLight, RandomOccluder, RandomTexture
from sapiens.datasets.transforms.clothes import dye, fabric, sewn
from sapiens.datasets.transforms.color import convolve
from sapiens.datasets.transforms.pieces import hide, random_outline
from sapiens.errors import UserError

IMAGE = np.random.RandomState(0).randint(60, 190, (96, 72, 3)).astype(np.uint8)


def person(stride=1):
    """Somebody in the middle, with labels at a fraction of the image's size and a point in every block of 8 pixels."""
    mask = np.zeros((96, 72), np.uint8)
    mask[16:80, 16:56] = 1
    y, x = (grid.ravel() for grid in np.mgrid[4:96:8, 4:72:8])
    small = mask[(stride - 1) // 2 :: stride, (stride - 1) // 2 :: stride]
    return dict(img=IMAGE, mask=small, part_map=small * 22, depth=small * np.float32(2), part_vocabulary='parts28',
                normals=np.ones((*small.shape, 3), np.float32), keypoints=np.stack([x, y], 1).astype(np.float32),
                keypoints_visible=np.full(len(x), 2, np.float32))  # fmt: skip


def test_convolutions_have_known_results():
    kernels = np.zeros((3, 3, 3, 3), np.float32)
    kernels[[0, 1, 2], [0, 1, 2], 1, 1] = 1
    np.testing.assert_allclose(convolve(IMAGE, kernels, 1.0).astype(int), IMAGE, atol=1)
    assert (convolve(IMAGE, np.random.randn(3, 3, 5, 5).astype(np.float32), 0.0) == IMAGE).all()
    swap = np.eye(3, dtype=np.float32)[[2, 0, 1]][..., None, None]
    np.testing.assert_allclose(convolve(IMAGE, swap, 1.0).astype(int), IMAGE[..., [2, 0, 1]], atol=1)
    smooth = np.zeros((3, 3, 3, 3), np.float32)
    smooth[[0, 1, 2], [0, 1, 2]] = 1 / 9
    out = convolve(IMAGE, smooth, 1.0).astype(float)
    assert abs(out.mean() - IMAGE.mean()) < 2 and abs(out.std() - IMAGE.std()) < 4  # the spread is given back
    assert np.abs(np.diff(out, axis=0)).mean() < 0.7 * np.abs(np.diff(IMAGE.astype(float), axis=0)).mean()


@pytest.mark.parametrize('size', [1, 3, 5])
def test_random_convolutions_change_the_picture_alone(size):
    np.random.seed(size)
    sample = person()
    out = RandomConvolution(1.0, sizes=[size], mix=(0.5, 1.0)).transform(dict(sample))
    assert out['img'].dtype == np.uint8 and np.abs(out['img'].astype(int) - IMAGE).mean() > 5
    assert all(out[name] is sample[name] for name in sample if name != 'img')
    assert RandomConvolution(0.0).transform(dict(sample))['img'] is IMAGE


def test_light_is_smooth():
    np.random.seed(0)
    grey = np.full((96, 72, 3), 100, np.uint8)
    out = RandomLight(1.0, spread=0.3).transform(dict(img=grey))['img'].astype(int)
    assert np.ptp(out) > 20 and max(np.abs(np.diff(out, axis=a)).max() for a in (0, 1)) <= 12
    assert (RandomLight(1.0, spread=0, colour=0).transform(dict(img=IMAGE))['img'] == IMAGE).all()


def test_fabrics_are_of_all_colours_and_patterns():
    np.random.seed(0)
    dyes = np.array([dye() for _ in range(300)])
    assert dyes.min() >= 0 and dyes.max() <= 1
    assert (dyes.min(1) > 0.7).mean() > 0.12 and (dyes.max(1) < 0.2).mean() > 0.08  # white, black
    assert (np.ptp(dyes, axis=1) > 0.4).mean() > 0.15
    cloths = [fabric((40, 30)) for _ in range(100)]
    assert all(c.shape == (40, 30, 3) and c.min() >= -1e-6 and c.max() <= 1 + 1e-6 for c in cloths)
    plain = [np.ptp(c, axis=(0, 1)).max() == 0 for c in cloths]
    assert 15 < sum(plain) < 60


def test_people_without_parts_keep_their_clothes(tmp_path):
    cv2.imwrite(str(tmp_path / 'photo.png'), IMAGE)
    sample = {name: value for name, value in person().items() if name != 'part_map'}
    for folder in (None, str(tmp_path)):
        assert RandomTexture(1.0, background=folder).transform(dict(sample))['img'] is IMAGE
    with pytest.raises(UserError, match="add 'parts' to the data set's labels"):
        RandomTexture(1.0, background=str(tmp_path)).transform(dict(img=IMAGE, img_path='a.png'))
    with pytest.raises(UserError, match='a.png: ids say nothing without a part_vocabulary'):
        RandomTexture(1.0).transform(dict(img=IMAGE, img_path='a.png', part_map=np.ones(IMAGE.shape[:2], np.uint8)))


def test_dark_clothes_become_white_and_keep_their_shade():
    np.random.seed(0)
    image = np.full((60, 40, 3), 40, np.uint8)
    image[:, 20:] = 20
    region = np.zeros((60, 40), bool)
    region[10:50, 10:30] = True
    colours = np.array([np.median(sewn(image, region).reshape(40, 20, 3)[:, :10], (0, 1)) for _ in range(60)])
    assert colours.max() > 200 and colours.min() < 40
    for _ in range(5):
        new = sewn(image, region).reshape(40, 20, 3)
        assert new[:, :10].mean() > 1.2 * new[:, 10:].mean()
    # Without photos clothes are drawn, and nothing else changes.
    sample = dict(img=image, part_map=region.astype(np.uint8) * 22, part_vocabulary='parts28')
    out = RandomTexture(1.0, clothes_prob=1.0, body_prob=1.0).transform(sample)['img']
    assert (out[~region] == image[~region]).all() and (out[region] != image[region]).mean() > 0.8


@pytest.mark.parametrize('stride', [1, 4])
def test_what_stands_in_front_hides_people(stride):
    np.random.seed(0)
    covered, behind = 0, []
    for _ in range(20):
        sample = person(stride)
        out = RandomOccluder(1.0, fabric_prob=1.0).transform(dict(sample))
        gone = (sample['part_map'] > 0) & (out['part_map'] == 0)
        assert (out['part_map'][~gone] == sample['part_map'][~gone]).all()
        assert gone.sum() <= 0.6 * 2 * (sample['part_map'] > 0).sum()
        for name in ('mask', 'depth', 'normals'):
            assert (out[name][gone] == 0).all()
        start = (stride - 1) // 2
        seen = out['img'][start::stride, start::stride][~gone & (sample['mask'] > 0)]
        same = (seen == IMAGE[start::stride, start::stride][~gone & (sample['mask'] > 0)]).all(1)
        assert same.mean() > 0.8  # but for soft edges
        hidden = out['keypoints_visible'] == 1
        assert ((out['keypoints_visible'] == 2) | hidden).all()
        x, y = (sample['keypoints'][hidden].astype(int) // stride).T
        behind += (out['part_map'][y, x] == 0).tolist()
        covered += int(gone.any())
    assert covered > 8 and np.mean(behind) > 0.9
    never = RandomOccluder(1.0, hidden=0.0).transform(person(stride))
    assert (never['part_map'] == person(stride)['part_map']).all()


def test_labels_of_another_size_are_named():
    with pytest.raises(UserError, match='put RandomOccluder behind LoadLabels'):
        hide({**person(), 'depth': np.zeros((50, 50), np.float32)}, np.ones((96, 72), bool))


def test_what_stands_behind_hides_nobody(tmp_path):
    cv2.imwrite(str(tmp_path / 'photo.png'), np.full((50, 50, 3), 255, np.uint8))
    np.random.seed(0)
    changed = np.zeros((96, 72))
    for fabric_prob in (0.0, 1.0):
        for _ in range(10):
            sample = person()
            out = RandomDecoy(1.0, fabric_prob=fabric_prob, background=str(tmp_path)).transform(dict(sample))
            inside = cv2.erode(sample['mask'], np.ones((7, 7))) > 0
            assert (out['img'][inside] == IMAGE[inside]).all()
            assert all(out[name] is sample[name] for name in sample if name != 'img')
            changed += (out['img'] != IMAGE).any(-1)
    assert (changed[person()['mask'] == 0] > 0).mean() > 0.8


def test_outlines_have_the_size_that_was_asked_for():
    np.random.seed(0)
    masks = np.array([random_outline((96, 72), 0.3) for _ in range(200)])
    assert masks.min() >= 0 and masks.max() < 1.001 and masks.dtype == np.float32
    assert 0.02 < np.median(masks.mean((1, 2))) < 0.2
    assert (masks[:, -1].max(1) > 0.9).mean() > 0.05  # tables
