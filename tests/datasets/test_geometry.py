# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Every field moves with the image, by its kind."""

import copy
from pathlib import Path

import numpy as np
import pytest
from scenes import sample, sphere

from sapiens.datasets.transforms import (
    Pad,
    PersonBox,
    RandomAffine,
    RandomBox,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    RandomRotate,
    Resize,
    TopdownAffine,
)
from sapiens.datasets.transforms.dense import rotation_matrix
from sapiens.datasets.transforms.fields import flip_sample, translation, warp_map, warp_points, warp_sample
from sapiens.datasets.transforms.topdown import fit_aspect, udp_matrix
from sapiens.errors import UserError
from sapiens.registry import TRANSFORMS
from sapiens.vocabularies import load_vocabulary

DATA = Path(__file__).parents[1] / 'data'
PARITY = np.load(DATA / 'affine_parity.npz')


def dots(rng, size=(120, 90), count=17):
    """An image with one coloured blob a keypoint, and the keypoints."""
    points = np.stack([rng.uniform(15, size[1] - 15, count), rng.uniform(15, size[0] - 15, count)], -1)
    return points.astype(np.float32)


def draw(points, size):
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8) for px, py in points])


EVERY = [
    RandomFlip(1.0),
    Resize((100, 75)),
    Resize((60, 60), keep_ratio=True),
    Resize((150, 150)),
    Pad((160, 140)),
    Pad((160, 140), center=False),
    RandomCrop((90, 70)),
    RandomRotate(40, prob=1.0),
    RandomAffine((128, 96), rotate_prob=1.0),
    RandomAffine((128, 96), keep_ratio=True),
    RandomResizedCrop((64, 64)),
    'topdown',
]


def name_of(transform):
    """Equal in every process that collects the tests."""
    return transform if isinstance(transform, str) else type(transform).__name__


def run(transform, results):
    if transform == 'topdown':
        results['bbox'] = np.float32([10, 30, 70, 95])
        for step in (PersonBox(), RandomBox(rotate_prob=1.0), TopdownAffine((128, 96))):
            results = step(results)
        return results
    return transform(results)


@pytest.mark.parametrize('transform', EVERY, ids=name_of)
def test_fields_agree_after_every_transform(transform):
    for seed in range(3):
        np.random.seed(seed)
        out = run(transform, sample(**sphere()))
        height, width = out['img_shape']
        for name in ('img', 'part_map', 'mask', 'depth', 'normals'):
            assert out[name].shape[:2] == (height, width) and out[name].flags.c_contiguous, name
        disc = out['mask'] > 0
        assert disc.any()
        part = load_vocabulary('parts28').swap[5] if out['flipped'] else 5
        assert ((out['part_map'] == part) == disc).all()
        assert set(np.unique(out['part_map'])) <= {0, 255, part}
        assert ((out['depth'] > 0) == disc).all()
        known = out['normals'].any(-1)
        assert (known == disc).all()
        np.testing.assert_allclose(np.linalg.norm(out['normals'][known], axis=-1), 1, atol=1e-5)
        # the image's edge is blurred by interpolation: it may differ from the labels by half a pixel
        image = out['img'][..., 0] > 100
        assert (image != disc).sum() <= 0.05 * max(disc.sum(), image.sum()) + 12
        assert out['warp_mat'].shape == (3, 3)


@pytest.mark.parametrize('transform', EVERY, ids=name_of)
def test_keypoints_and_warp_mat_follow_drawn_dots(transform):
    rng = np.random.default_rng(5)
    points = dots(rng)
    for seed in range(3):
        np.random.seed(seed)
        start = sample(img=np.zeros((120, 90, 3), np.uint8), keypoints=points, keypoints_visible=np.full(17, 2.0))
        out = run(transform, start)
        matrix, swap = out['warp_mat'], load_vocabulary('coco17').swap
        expected = warp_points(points, matrix)
        if out['flipped']:
            expected = expected[swap]
        np.testing.assert_allclose(out['keypoints'], expected, atol=1e-4)
        np.random.seed(seed)
        for i in (0, 5, 16):
            np.random.seed(seed)
            blob = draw(points[i : i + 1], (120, 90))[0]
            drawn = run(transform, sample(img=np.uint8(np.repeat(blob[..., None] * 255, 3, -1))))
            x, y = expected[swap[i] if out['flipped'] else i]
            if 3 < x < out['img_shape'][1] - 4 and 3 < y < out['img_shape'][0] - 4:
                weight = drawn['img'][..., 0].astype(float)
                rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
                found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
                np.testing.assert_allclose(found, [x, y], atol=0.35)


def test_flipping_twice_changes_nothing():
    start = sample(**sphere(), keypoints=dots(np.random.default_rng(0)), keypoints_visible=np.arange(17) % 3.0)
    out = flip_sample(flip_sample(copy.deepcopy(start)))
    for name, value in start.items():
        if name == 'keypoints':
            np.testing.assert_allclose(out[name], value, atol=1e-5)
        else:
            np.testing.assert_array_equal(out[name], value, name)


def test_flip_names_sides_and_negates_x():
    vocabulary = load_vocabulary('parts28')
    ids = np.arange(28, dtype=np.uint8).reshape(4, 7)
    ids[0, 0] = 255
    normals = np.zeros((4, 7, 3), np.float32)
    normals[1, 2] = [0.6, 0.0, 0.8]
    start = sample(img=np.zeros((4, 7, 3), np.uint8), part_map=ids.copy(), normals=normals)
    start.update(keypoints=np.float32([[i, 1] for i in range(17)]), keypoints_visible=np.arange(17.0))
    out = flip_sample(start)
    mirrored = ids[:, ::-1].astype(int)
    assert (out['part_map'] == np.where(mirrored == 255, 255, vocabulary.swap[np.minimum(mirrored, 27)])).all()
    np.testing.assert_array_equal(out['normals'][1, 4], np.float32([-0.6, 0, 0.8]))
    assert not np.signbit(out['normals'][..., 0][out['normals'][..., 0] == 0]).any()
    assert out['keypoints'][1].tolist() == [6 - 2, 1], 'the mirrored right eye is the new left eye'
    assert out['keypoints_visible'][1] == 2
    assert out['flipped'] is True


def test_flip_without_vocabulary_is_refused():
    start = sample(**sphere())
    start['part_vocabulary'] = None
    with pytest.raises(UserError, match='without a part_vocabulary'):
        flip_sample(start)


@pytest.mark.parametrize('angle', [0, 30, 90, -137])
@pytest.mark.parametrize('zoom', [0.7, 1.0, 1.9])
@pytest.mark.parametrize('mirror', [False, True])
def test_warped_sphere_equals_the_rendered_one(angle, zoom, mirror):
    matrix = translation(30, 25) @ rotation_matrix((120, 90), angle, zoom)
    if mirror:
        matrix = np.diag([-1.0, 1, 1]) @ matrix
        matrix[0, 2] += 160
    size = (190, 160)
    truth = sphere(size, matrix=matrix)
    out = warp_sample(sample(**sphere()), matrix, size)
    inside = (truth['mask'] > 0) & (out['mask'] > 0)
    assert inside.sum() > 0.97 * truth['mask'].sum(), 'most of the sphere is in view'
    # away from the rim, where a fraction of a pixel turns the normal a lot
    core = inside & (truth['normals'][..., 2] > 0.45)
    angles = np.degrees(np.arccos(np.clip((out['normals'] * truth['normals']).sum(-1)[core], -1, 1)))
    assert np.median(angles) < (0.15 if zoom >= 1 else 1.8) and angles.max() < 6
    np.testing.assert_allclose(out['depth'][core], truth['depth'][core], atol=0.012)
    assert out['flipped'] == mirror


def test_wrong_handedness_would_be_seen():
    """The check above does tell y up from y down."""
    matrix = rotation_matrix((120, 90), 30)
    out = warp_sample(sample(**sphere()), matrix, (120, 90))
    wrong = sphere((120, 90), matrix=np.linalg.inv(matrix))
    core = (wrong['normals'][..., 2] > 0.45) & (out['normals'][..., 2] > 0.45)
    assert np.degrees(np.arccos(np.clip((out['normals'] * wrong['normals']).sum(-1)[core], -1, 1))).mean() > 5


def test_warp_and_back():
    start = sample(**sphere(), keypoints=dots(np.random.default_rng(1)), keypoints_visible=np.full(17, 2.0))
    matrix = translation(20, 20) @ rotation_matrix((120, 90), 25, 2.0, np.zeros(2)) @ translation(80, 30)
    out = warp_sample(copy.deepcopy(start), matrix, (480, 480))
    back = warp_sample(out, np.linalg.inv(matrix), (120, 90))
    np.testing.assert_allclose(back['keypoints'], start['keypoints'], atol=1e-3)
    np.testing.assert_allclose(back['warp_mat'], np.eye(3), atol=1e-9)
    for name in ('part_map', 'mask'):
        assert (back[name] != start[name]).mean() < 0.004
    core = start['normals'][..., 2] > 0.4
    np.testing.assert_allclose(back['depth'][core], start['depth'][core], atol=0.01)
    assert (back['normals'] * start['normals']).sum(-1)[core].min() > 0.998


@pytest.mark.parametrize('name', ['img', 'part_map', 'depth', 'normals'])
@pytest.mark.parametrize('turned', [False, True])
def test_sides_beyond_32767_pixels(name, turned):
    """OpenCV warps no more, so panoramas and scans ended in its error."""
    values = np.random.default_rng(0).integers(1, 255, (9, 8)).repeat(5000, 1)
    values = values[..., None].repeat(3, -1) if name in ('img', 'normals') else values
    long = values.astype(np.uint8 if name in ('img', 'part_map') else np.float32)
    long = np.ascontiguousarray(long.swapaxes(0, 1) if turned else long)
    size, axis = ((40, 9), 0) if turned else ((9, 40), 1)
    near = np.eye(3)
    near[1 - axis, 2] = -34979.7
    part = long[34000:36000] if turned else long[:, 34000:36000]
    expected = warp_map(name, np.ascontiguousarray(part), near @ translation(*np.eye(2)[1 - axis] * 34000), size)
    np.testing.assert_allclose(warp_map(name, long, near, size), expected, atol=1e-5)
    whole = np.eye(3)
    whole[1 - axis] = [0.001, 0, 0.0005 - 0.5] if axis else [0, 0.001, 0.0005 - 0.5]
    picked = np.take(long, np.arange(40) * 1000 + 500, axis)
    np.testing.assert_allclose(warp_map(name, long, whole, size), picked, atol=1e-5)


def test_depth_never_mixes_surfaces():
    depth = np.zeros((40, 60), np.float32)
    depth[:, 20:40], depth[:, 40:] = 2.0, 7.0
    for angle, zoom in ((0, 3.3), (33, 1.0), (12, 0.6)):
        out = warp_map('depth', depth, rotation_matrix((40, 60), angle, zoom), (40, 60))
        assert set(np.unique(out)) <= {np.float32(0), np.float32(2), np.float32(7)}


def test_growing_surfaces_have_no_steps():
    ramp = np.tile(np.linspace(2, 2.6, 60, dtype=np.float32), (40, 1))
    out = warp_map('depth', ramp, rotation_matrix((40, 60), 0, 4), (40, 60))
    steps = np.diff(out[20, 2:-2])
    assert steps.min() > 0 and steps.max() < 1.5 * np.median(steps)


def test_depth_keeps_metres_unless_asked():
    matrix = rotation_matrix((120, 90), 0, 1.5, (40, 62))
    plain = warp_sample(sample(**sphere()), matrix, (120, 90))
    scaled = warp_sample(sample(**sphere()), matrix, (120, 90), depth_scale_compensation=True)
    assert abs(plain['depth'].max() - 3) < 0.04
    np.testing.assert_allclose(scaled['depth'], plain['depth'] / 1.5, rtol=1e-6)


def test_udp_affine_meets_the_reference():
    for i, (box, rotation) in enumerate(zip(PARITY['bboxes_xyxy'], PARITY['rotation_deg'], strict=True)):
        for width, size in ((96, (128, 96)), (768, (1024, 768))):
            results = PersonBox()(dict(bbox=box))
            np.testing.assert_allclose(results['bbox_center'], PARITY[f'{i}_center'][0], rtol=1e-6)
            np.testing.assert_allclose(results['bbox_scale'], PARITY[f'{i}_scale_padded'][0], rtol=1e-6)
            scale = fit_aspect(results['bbox_scale'], size)
            np.testing.assert_allclose(scale, PARITY[f'{i}_{width}_scale_fixed'][0], rtol=1e-6)
            matrix = udp_matrix(results['bbox_center'], scale, size, rotation)
            np.testing.assert_allclose(matrix[:2], PARITY[f'{i}_{width}_warp'], rtol=1e-4, atol=1e-4)
            points = warp_points(PARITY['keypoints'][i, 0], matrix)
            np.testing.assert_allclose(points, PARITY[f'{i}_{width}_kpts'][0], rtol=1e-4, atol=2e-3)
        results['bbox_rotation'] = rotation
        out = TopdownAffine((128, 96))({**sample(img=PARITY['img']), **results})
        difference = np.abs(out['img'].astype(int) - PARITY[f'{i}_96_img'])
        # OpenCV 4 interpolates in steps of 1/32 pixel, OpenCV 5 exactly; the image is noise.
        assert difference.max() <= 8 and difference.mean() < 0.8


def test_flip_meets_the_reference():
    start = sample(img=PARITY['img'])
    vocabulary = 'coco17'
    keypoints = np.zeros((17, 2), np.float32)
    keypoints[:9] = PARITY['keypoints'][0, 0]
    start.update(keypoints=keypoints, keypoints_visible=np.ones(17), keypoint_vocabulary=vocabulary)
    out = flip_sample(start)
    assert (out['img'] == PARITY['flip_img']).all()
    swap, flip = load_vocabulary(vocabulary).swap, PARITY['flip_indices']
    np.testing.assert_allclose(out['keypoints'][swap][:9], PARITY['flip_kpts'][0][np.argsort(flip)], atol=1e-4)


def test_dense_transforms_meet_the_reference():
    z = np.load(DATA / 'dense_parity.npz')
    scene = dict(img=z['img'], depth=z['depth'], normals=z['normal'], mask=np.uint8(z['mask'] > 0), part_map=z['label'])
    out = Resize((64, 48))(sample(**scene))
    assert np.abs(out['img'].astype(int) - z['dr_img']).max() <= 1
    # The reference's nearest neighbour takes the pixel at the left upper corner of a new pixel, which is up to half a
    # pixel off the image; ours takes the one under its centre.
    rows = np.clip(np.floor((np.arange(64) + 0.5) * 90 / 64), 0, 89).astype(int)
    columns = np.clip(np.floor((np.arange(48) + 0.5) * 70 / 48), 0, 69).astype(int)
    for name, source in (('part_map', 'label'), ('depth', 'depth')):
        assert (out[name] != z[source][rows][:, columns]).mean() < 0.05, name
    out = RandomRotate((30.0, 30.0), prob=1.0, pad_part=0)(sample(**scene))
    assert z['rot_angle'] == 30
    difference = np.abs(out['img'].astype(int) - z['rot_img'])
    assert difference.max() <= 8 and difference.mean() < 0.8
    assert (out['part_map'] != z['rot_seg']).mean() < 0.002
    out = flip_sample(sample(**scene))
    assert (out['img'] == z['flip_img']).all() and (out['part_map'] == z['flip_seg']).all()


def test_seeded_runs_repeat():
    def once():
        np.random.seed(3)
        return run('topdown', sample(**sphere()))

    first, second = once(), once()
    assert (first['img'] == second['img']).all() and (first['warp_mat'] == second['warp_mat']).all()


def test_random_crop_avoids_plain_windows():
    parts = np.zeros((100, 100), np.uint8)
    parts[40:60, 40:60] = 3
    np.random.seed(0)
    shares = []
    for _ in range(20):
        out = RandomCrop((40, 40), max_share=0.9)(sample(img=np.zeros((100, 100, 3), np.uint8), part_map=parts))
        shares.append((out['part_map'] == 0).mean())
    assert np.mean(np.array(shares) < 0.9) > 0.8


def test_affine_zooms_at_people():
    scene = sphere((200, 200), center=(30, 170), radius=8)
    np.random.seed(0)
    seen = 0
    for _ in range(20):
        zoomed = RandomAffine((100, 100), scale=(4, 4), rotate=0, shift=0, focus_prob=1.0)(sample(**scene))
        seen += zoomed['mask'][40:60, 40:60].any()
    assert seen == 20


def test_boxes_by_the_names_of_mmpose():
    box = TRANSFORMS.build(dict(type='GetBBoxCenterScale', padding=1.5))({'bbox': np.float32([10, 20, 30, 60])})
    assert box['bbox_scale'].tolist() == [30, 60]
    theirs = TRANSFORMS.build(dict(type='RandomBBoxTransform', shift_prob=1.0, rotate_prob=1.0, rotate_factor=45))
    ours = TRANSFORMS.build(dict(type='RandomBox', shift=0.08, shift_prob=1.0, rotate=45.0, rotate_prob=1.0))
    for seed in range(3):
        made = []
        for transform in (theirs, ours):
            np.random.seed(seed)
            made.append(transform(dict(box)))
        for key in ('bbox_center', 'bbox_scale', 'bbox_rotation'):
            np.testing.assert_array_equal(made[0][key], made[1][key])
