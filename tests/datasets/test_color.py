# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Photometric distortion meets the reference; blur, dropout and background leave labels alone."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import photos, sample, sphere

from sapiens.datasets import ImageFolderDataset
from sapiens.datasets.transforms import CoarseDropout, PhotometricDistortion, RandomBackground, RandomBlur
from sapiens.datasets.transforms.color import distort, line_kernel
from sapiens.datasets.transforms.fields import inside_image, warp_sample
from sapiens.engine.config import load_config
from sapiens.errors import UserError

ROOT = Path(__file__).parents[2]
PARITY = np.load(Path(__file__).parents[1] / 'data/photometric_parity.npz')


@pytest.mark.parametrize('case', range(4))
def test_distortion_meets_the_reference(case):
    """The reference applies contrast twice or never, and hues below 0 leave the circle: both are avoided here."""
    twice, bright, contrast, hsv, swap, shift, factor, saturation, hue = PARITY[f'pose_{case}_flags']
    rgb = np.ascontiguousarray(PARITY['img'][..., ::-1])
    chosen = dict(brightness=shift if bright else 0.0)
    if contrast and twice:
        chosen['contrast'] = factor
    if hsv in (1, 3):
        chosen['saturation'] = saturation
    if hsv in (2, 3):
        chosen['hue'] = int(hue)
    out = distort(rgb, **chosen)
    if contrast and twice:
        out = distort(out, contrast=factor)
    out = out[..., ::-1]
    if swap:
        out = out[..., PARITY[f'pose_{case}_swap']]
    before = cv2.cvtColor(distort(rgb, **{**chosen, 'saturation': 1.0, 'hue': 0}), cv2.COLOR_RGB2HSV)
    on_circle = before[..., 0].astype(int) + chosen.get('hue', 0) >= 0
    assert on_circle.mean() > 0.9
    difference = np.abs(out.astype(int) - PARITY[f'pose_{case}'])[on_circle]
    assert difference.max() <= 2 and difference.mean() < 0.3


@pytest.mark.parametrize('seed', range(4))
def test_draws_meet_the_dense_reference(seed):
    """Same draws in the same order as the reference of the dense tasks."""
    np.random.seed(seed)
    out = PhotometricDistortion().transform({'img': np.ascontiguousarray(PARITY['img'][..., ::-1])})['img'][..., ::-1]
    difference = np.abs(out.astype(int) - PARITY[f'seg_npseed{seed}'])
    # One trip through HSV instead of two: rounding differs by a few levels.
    assert np.percentile(difference, 95) <= 8 and difference.mean() < 1.5


def test_distortion_parameters_stay_in_range_and_do_something():
    np.random.seed(0)
    transform = PhotometricDistortion(swap_prob=0.5)
    drawn = [transform.draw() for _ in range(300)]
    for name, low, high in (
        ('brightness', -32, 32),
        ('contrast', 0.5, 1.5),
        ('saturation', 0.5, 1.5),
        ('hue', -18, 18),
    ):
        values = [d[name] for d in drawn if name in d]
        assert 100 < len(values) < 200 and low <= min(values) < max(values) <= high
    assert 0.3 < np.mean([d['contrast_first'] for d in drawn]) < 0.7


def test_blur_and_dropout_change_pixels_only():
    for transform in (
        RandomBlur(1.0),
        RandomBlur(1.0, motion_prob=1.0),
        CoarseDropout(1.0),
        CoarseDropout(1.0, fill=None),
    ):
        np.random.seed(1)
        start = sample(**sphere())
        start['img'] = np.random.default_rng(0).integers(0, 255, start['img'].shape, np.uint8)
        out = transform(copy.deepcopy(start))
        assert out['img'].shape == start['img'].shape and out['img'].dtype == np.uint8
        assert (out['img'] != start['img']).any()
        for name in ('part_map', 'mask', 'depth', 'normals', 'warp_mat'):
            np.testing.assert_array_equal(out[name], start[name])


def test_line_kernel_is_a_line():
    for length, degrees in ((3, 0), (9, 90), (15, 45)):
        kernel = line_kernel(length, degrees)
        assert kernel.sum() == pytest.approx(1) and (kernel > 0).sum() >= 0.7 * length
        assert kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] > 0
    assert line_kernel(9, 0)[4].sum() == pytest.approx(1), 'a level line stays in its row'


def test_background_is_replaced_and_its_geometry_forgotten(tmp_path):
    cv2.imwrite(str(tmp_path / 'green.png'), np.full((50, 80, 3), (0, 255, 0), np.uint8))
    start = sample(**sphere())
    start['depth'][start['depth'] == 0] = 9
    start['normals'][~start['normals'].any(-1)] = [0, 0, 1]
    out = RandomBackground(str(tmp_path), prob=1.0)(copy.deepcopy(start))
    person = start['mask'] > 0
    inner, outer = cv2.erode(start['mask'], np.ones((7, 7))) > 0, cv2.dilate(start['mask'], np.ones((7, 7))) == 0
    assert (out['img'][inner] == 200).all() and (out['img'][outer] == [0, 255, 0]).all()
    assert (out['depth'][~person] == 0).all() and (out['depth'][person] == start['depth'][person]).all()
    assert not out['normals'][~person].any()
    np.testing.assert_array_equal(out['part_map'], start['part_map'])


def test_background_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match='no such folder'):
        RandomBackground(str(tmp_path / 'none'))
    with pytest.raises(UserError, match='holds no image'):
        RandomBackground(str(tmp_path))
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(UserError, match='needs a mask or parts'):
        RandomBackground(str(tmp_path), prob=1.0)(sample(img=np.zeros((9, 9, 3), np.uint8)))
    plain = sample(img=np.zeros((9, 9, 3), np.uint8))
    assert RandomBackground(None, prob=1.0)(plain) is plain


def test_background_covers_padding_when_only_parts_are_loaded(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((50, 40, 3), (0, 255, 0), np.uint8))
    for fields in ('part_map',), ('part_map', 'mask'):
        scene = sphere()
        scene['img'][...] = 200
        scene['part_map'][0, 0] = 255
        start = sample(**{name: scene[name] for name in ('img', *fields)})
        start = warp_sample(start, np.array([[0.5, 0, 30], [0, 0.5, 30], [0, 0, 1]]), (120, 90))
        padding = ~inside_image(start)
        assert padding.mean() > 0.5 and (start['img'][padding] < 200).all()
        out = RandomBackground(str(tmp_path), prob=1.0, feather=0)(start)
        assert (out['img'][padding] == [0, 255, 0]).all(), 'no black padding is left'
        assert (out['img'][start['part_map'] == 5] == 200).all()
        ignored = (start['part_map'] == 255) & ~padding
        assert ignored.any() and ((out['img'][ignored] == 200).all() == (len(fields) == 1))


def test_a_folder_of_backgrounds_may_be_missing_and_the_log_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / 'photos', 2)
    step = dict(type='RandomBackground', folder='data/backgrounds', optional=True, prob=1.0)
    data = ImageFolderDataset(data_root='photos', pipeline=[dict(type='LoadImage'), step])
    assert data[0]['img'].shape == (40, 30, 3)
    note = 'data/backgrounds: no such folder, so RandomBackground changes nothing'
    assert data.pipeline.transforms[1].note.startswith(note)
    photos(tmp_path / 'data/backgrounds', 1)
    assert RandomBackground('data/backgrounds', optional=True).note == ''
    for config in ('seg/sapiens_tiny_28cls', 'depth/sapiens_tiny_depth', 'normal/sapiens_tiny_normal'):
        pipeline = load_config(str(ROOT / f'configs/{config}.py')).train_dataloader.dataset.pipeline
        assert [t.folder for t in pipeline if t.type == 'RandomBackground'] == ['data/backgrounds']


def test_bad_cameras_change_pixels_and_nothing_else():
    from sapiens.datasets.transforms import RandomCamera

    np.random.seed(0)
    image = np.random.randint(0, 256, (40, 30, 3)).astype(np.uint8)
    always = dict(white_balance_prob=1, gamma_prob=1, grey_prob=0, low_resolution_prob=1, noise_prob=1, jpeg_prob=1)
    sample = RandomCamera(**always).transform(dict(img=image, keypoints=1))
    assert sample['img'].shape == image.shape and sample['img'].dtype == np.uint8 and sample['keypoints'] == 1
    assert sample['img'].std() < image.std()  # what is reduced and compressed loses detail
    off = dict.fromkeys(always, 0)
    never = RandomCamera(**off)
    assert (never.transform(dict(img=image))['img'] == image).all()
    grey = RandomCamera(**{**off, 'grey_prob': 1})
    out = grey.transform(dict(img=image))['img']
    assert (out == out[..., :1]).all() and not (image == image[..., :1]).all()
    warm = RandomCamera(**{**off, 'white_balance_prob': 1}).transform(dict(img=image))['img']
    assert (warm[..., 1] == image[..., 1]).all() and (warm[..., 0] != image[..., 0]).any()


def test_people_wear_photographs_and_keep_their_light(tmp_path):
    from sapiens.datasets.transforms import RandomTexture

    np.random.seed(1)
    import cv2

    checks = np.kron((np.indices((16, 16)).sum(0) % 2), np.ones((8, 8)))[..., None] * np.ones(3) * 200 + 20
    cv2.imwrite(str(tmp_path / 'photo.png'), checks.astype(np.uint8))
    image = np.full((60, 40, 3), 120, np.uint8)
    image[:, 20:] = 60  # shade
    parts = np.zeros((60, 40), np.uint8)
    parts[10:50, 10:30] = 22  # upper clothing
    sample = dict(img=image, part_map=parts, part_vocabulary='parts28')
    dress = RandomTexture(1, clothes_prob=1, body_prob=0, strength=(1.0, 1.0), fabric_prob=0, background=str(tmp_path))
    for _ in range(4):
        out = dress.transform(dict(sample))['img'].astype(float)
        assert (out[parts == 0] == image[parts == 0]).all()
        lit, shade = out[10:50, 10:20], out[10:50, 20:30]
        assert lit.std() > 20 and lit.mean() > 1.3 * shade.mean()
    assert (RandomTexture(prob=0, background=str(tmp_path)).transform(dict(sample))['img'] == image).all()
