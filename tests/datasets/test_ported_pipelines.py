# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Pipelines of mmpose and mmsegmentation whose scope was changed give what the originals give."""

import re
from contextlib import nullcontext
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import TRANSFORMS as ROOT
from mmengine.registry import DefaultScope
from scenes import sphere

from sapiens.datasets import ImageFolderDataset, transforms
from sapiens.datasets.transforms.base import settle
from sapiens.errors import UserError
from sapiens.models.preprocessor import HumanDataPreprocessor
from sapiens.openmmlab import toolkit_installed
from sapiens.registry import TRANSFORMS

needs = pytest.mark.skipif(not all(map(toolkit_installed, ('mmpose', 'mmseg'))), reason='needs mmpose and mmseg')
POSE_TEST = [
    dict(type='LoadImage', backend_args=dict(backend='local')),
    dict(type='GetBBoxCenterScale', padding=1.25),
    dict(type='TopdownAffine', input_size=(48, 64), use_udp=True),
    dict(type='PackPoseInputs'),
]
POSE_TRAIN = [
    *POSE_TEST[:2],
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody', min_total_keypoints=9, upper_prioritized_prob=0.7),
    dict(type='RandomBBoxTransform', shift_factor=0.1, scale_factor=[0.8, 1.2], rotate_factor=45, rotate_prob=0.6),
    POSE_TEST[2],
    dict(type='PhotometricDistortion', brightness_delta=16, contrast_range=(0.8, 1.2), hue_delta=9),
    dict(type='GenerateTarget', encoder=dict(type='UDPHeatmap', input_size=(48, 64))),
    dict(type='PackPoseInputs'),
]
SEG_TRAIN = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=(80, 96)),
    dict(type='RandomCrop', crop_size=(96, 80), cat_max_ratio=0.9),
    dict(type='RandomFlip', prob=0.0, direction=['horizontal']),
    dict(type='RandomRotate', prob=0.9, degree=(10, 30), pad_val=0, seg_pad_val=255),
    dict(type='PackSegInputs'),
]
SEG_TEST = [SEG_TRAIN[0], SEG_TRAIN[2], SEG_TRAIN[1], SEG_TRAIN[-1]]


def run(pipeline, sample, scope):
    for step in pipeline:
        sample = TRANSFORMS.build({**step, 'type': f'{scope}.{step["type"]}'})(sample)
    return sample


@pytest.fixture
def scene(tmp_path):
    made = sphere((120, 90), center=(40.0, 60.0), radius=25.0)
    cv2.imwrite(str(tmp_path / 'a.png'), made['img'][..., ::-1])
    cv2.imwrite(str(tmp_path / 'parts.png'), made['part_map'])
    return tmp_path


def person(folder):
    points = np.random.default_rng(0).uniform(20, 70, (17, 2)).astype(np.float32)
    return dict(img_path=str(folder / 'a.png'), bbox=np.float32([15, 35, 65, 85]), bbox_score=1.0, keypoints=points,
                keypoints_visible=np.full(17, 2, np.float32), keypoint_vocabulary='coco17')  # fmt: skip


@needs
@pytest.mark.openmmlab
def test_mmpose(scene):
    ours = run(POSE_TEST, person(scene), 'sapiens')
    theirs = person(scene)
    theirs.update({name: theirs[name][None] for name in ('bbox', 'keypoints', 'keypoints_visible')})
    theirs.update(bbox_score=np.ones(1, np.float32), id=1, img_id=1, flip_indices=list(range(17)))
    theirs = run(POSE_TEST[:-1], theirs, 'mmpose')
    expected = theirs['transformed_keypoints'][0]
    theirs = run(POSE_TEST[-1:], theirs, 'mmpose')
    assert ours['inputs'].shape == theirs['inputs'].shape == (3, 64, 48)
    assert (ours['inputs'].int() - theirs['inputs'].flip(0).int()).abs().max() <= 1, 'theirs are BGR'
    np.testing.assert_allclose(ours['data_samples'].gt_keypoints, expected, atol=1e-3)


@needs
@pytest.mark.openmmlab
@pytest.mark.parametrize('pipeline', [SEG_TRAIN, SEG_TEST])
def test_mmseg(scene, pipeline):
    np.random.seed(0)
    sample = dict(img_path=str(scene / 'a.png'), label_files={'parts': str(scene / 'parts.png')})
    ours = run(pipeline, {**sample, 'part_vocabulary': 'parts28'}, 'sapiens')
    np.random.seed(0)
    path = str(scene / 'parts.png')
    theirs = dict(img_path=str(scene / 'a.png'), seg_map_path=path, seg_fields=[], reduce_zero_label=False)
    theirs = run(pipeline, theirs, 'mmseg')
    assert torch.equal(ours['inputs'], theirs['inputs'].flip(0)), 'theirs are BGR'
    assert ours['inputs'].shape == (3, 96, 80)
    a, b = ours['data_samples'].gt_part_map, theirs['data_samples'].gt_sem_seg.data[0]
    assert a.shape == b.shape and (a != b).float().mean() < 0.01, 'ties between pixels fall otherwise'


def test_words_of_older_configs():
    flip = TRANSFORMS.build(dict(type='RandomFlip', flip_ratio=0.3, direction=['horizontal']))
    assert flip.prob == 0.3
    rotate = TRANSFORMS.build(dict(type='RandomRotate', prob=1.0, degree=20, pad_val=3, seg_pad_val=7))
    assert (rotate.degrees, rotate.pad_img, rotate.pad_part) == (20, 3, 7)


@pytest.mark.parametrize('turned', [False, True])
@pytest.mark.parametrize(
    'resize',
    [
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(type='Resize', scale=(96, 64), interpolation='bicubic'),
        dict(type='RandomResize', scale=(96, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomResize', scale=[(64, 90), (90, 64)]),
        dict(type='RandomChoiceResize', scales=[(64, 48), (90, 30)], keep_ratio=True),
    ],
    ids=lambda step: step['type'],
)
def test_their_resizes(scene, resize, turned):
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    cv2.imwrite(str(scene / 'b.png'), np.rot90(image) if turned else image)
    seen = []
    for scope in ('sapiens', 'mmengine'):
        np.random.seed(3)
        with DefaultScope.overwrite_default_scope(scope):
            sample = dict(img_path=str(scene / 'b.png'))
            for step in (dict(type='LoadImageFromFile'), resize):
                sample = (TRANSFORMS if scope == 'sapiens' else ROOT).build(dict(step))(sample)
        seen.append(sample['img'].shape)
    assert seen[0] == seen[1]


def test_every_word_of_a_training_pipeline_is_known(scene):
    sample = run(POSE_TRAIN, person(scene), 'sapiens')
    assert sample['inputs'].shape == (3, 64, 48) and sample['data_samples'].gt_keypoints.shape == (17, 2)
    box = TRANSFORMS.build(POSE_TRAIN[4])
    assert (box.shift, box.scale, box.rotate, box.rotate_prob) == (0.05, (0.8, 1.2), 45.0, 0.6)
    assert TRANSFORMS.build(dict(type='PhotoMetricDistortion', hue_delta=9)).hue == 9
    still = TRANSFORMS.build(dict(type='PhotoMetricDistortion', hue_delta=0))
    assert not any('hue' in still.draw() for _ in range(9))
    for kind in ('Resize', 'RandomResizedCrop'):
        with pytest.raises(UserError, match="interpolation 'nearest' is none of 'linear', "):
            TRANSFORMS.build(dict(type=kind, input_size=(8, 8), interpolation='nearest'))
    with pytest.raises(UserError, match="type='mmpose.TopdownAffine' has the other one"):
        TRANSFORMS.build(dict(type='TopdownAffine', input_size=(48, 64), use_udp=False))


def test_a_photo_is_not_reduced_before_its_person_is_looked_at(tmp_path):
    """mmpose reads the image first: a small person in a large photo keeps all its pixels."""
    photo = np.random.default_rng(0).integers(0, 255, (1024, 768, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.jpg'), photo)
    seen = {}
    for order in ((0, 1), (1, 0)):
        steps = [TRANSFORMS.build(POSE_TEST[i]) for i in order]
        settle(steps, input_size=(64, 48))
        sample = dict(img_path=str(tmp_path / 'a.jpg'), bbox=np.float32([100, 100, 148, 164]))
        for step in steps:
            sample = step(sample)
        seen[order] = sample['img'].shape[:2]
    assert seen == {(0, 1): (1024, 768), (1, 0): (1024, 768)}


@pytest.mark.parametrize(
    ('transform', 'message'),
    [
        (dict(type='sapiens.RandomBlur', sigma=2.0), 'RandomBlur: sigma is 2.0; give two numbers'),
        (dict(type='sapiens.RandomBox', scale_factor=[0.5]), r'RandomBox: scale is \(0.5,\); give two numbers'),
        (dict(type='sapiens.CoarseDropout', holes=(1, '3')), r"CoarseDropout: holes is \(1, '3'\); give two numbers"),
        (dict(type='sapiens.ComposeCrowd', pieces=3), 'ComposeCrowd: pieces is 3; give two numbers'),
        (dict(type='sapiens.RandomLight', spread='wide'), "RandomLight: spread is 'wide'; give a number"),
        (dict(type='sapiens.RandomFlip', prob=[0.5]), r'RandomFlip: prob is \[0.5\]; give a number'),
        (dict(type='sapiens.RandomConvolution', sizes=256), 'RandomConvolution: sizes is 256; give a list of numbers'),
        (dict(type='sapiens.RandomConvolution', sizes='3'), "RandomConvolution: sizes is '3'; give a list of numbers"),
        (dict(type='sapiens.CoarseDropout', fill=0), 'CoarseDropout: fill is 0; give a list of numbers'),
        (dict(type='sapiens.RandomRotate', degrees='wide'), "degrees is 'wide'; give a number or a list of numbers"),
        (dict(type='sapiens.Pad', pad_img='black'), "Pad: pad_img is 'black'; give a number or three numbers"),
        (dict(type='sapiens.PackHumanInputs', meta_keys='bbox'), "meta_keys is 'bbox'; give a list of names"),
        *((dict(type=f'sapiens.{kind}', input_size=256), f'{kind}: input_size is 256; give two numbers')
          for kind in ('LoadImage', 'TopdownAffine', 'Resize', 'RandomCrop', 'RandomAffine')),
        (dict(type='sapiens.Pad', input_size=(256,)), r'Pad: input_size is \(256,\); give two numbers'),
    ],
)  # fmt: skip
def test_what_is_no_number_is_said_before_the_first_sample(transform, message):
    with pytest.raises(UserError, match=message):
        ImageFolderDataset(data_root='tests/data', pipeline=[dict(type='RandomApply', transforms=[transform])])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(input_size=256), 'ImageFolderDataset: input_size is 256; give two numbers'),
        (dict(input_size='64'), "ImageFolderDataset: input_size is '64'; give two numbers"),
        (dict(pipeline=dict(type='LoadImage')), "ImageFolderDataset: pipeline is {'type': 'LoadImage'}; give a list"),
    ],
)
def test_one_thing_where_a_data_set_takes_several_is_said(options, message):
    with pytest.raises(UserError, match=message):
        ImageFolderDataset(data_root='tests/data', **options)


@pytest.mark.parametrize('image', [{}, {'img': np.zeros((8, 8, 3), np.uint8)}], ids=['file', 'array'])
@pytest.mark.parametrize('kind', transforms.__all__)
def test_a_transform_that_a_pipeline_lacks_is_named(kind, image):
    """Some need nothing; all others ended in a KeyError."""
    step = getattr(transforms, kind)()
    settle([step], input_size=(8, 8))
    for name in vars(step):
        if name.endswith('prob'):
            setattr(step, name, 1.0)
    needed = {'RandomBox': 'PersonBox', 'TopdownAffine': 'PersonBox'}.get(kind, 'LoadImage')
    try:
        step({'img_path': 'a.jpg', **image})
    except UserError as error:
        others = ('no such file', 'has no person box', 'background=FOLDER')
        named = f'a.jpg: {kind} needs .*, which {needed} makes; put {needed} before it into the pipeline'
        assert re.search('|'.join((*others, named)), str(error))


@pytest.mark.parametrize(('left_out', 'named'), [(0, 'which LoadImage makes'), (1, 'which PersonBox makes'),
                                                 (2, ''), (3, 'end the pipeline with PackHumanInputs')])  # fmt: skip
def test_a_data_set_whose_pipeline_lacks_a_transform(tmp_path, left_out, named):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((90, 80, 3), np.uint8))
    steps = [dict(type=kind) for kind in ('LoadImage', 'PersonBox', 'TopdownAffine', 'PackHumanInputs')]
    del steps[left_out]
    boxed = partial(dict.__or__, {'bbox': np.float32([9, 9, 60, 70])})
    data = ImageFolderDataset(data_root=str(tmp_path), pipeline=[boxed, *steps], input_size=(64, 48), test_mode=True)
    with pytest.raises(UserError, match=named) if named else nullcontext():
        HumanDataPreprocessor()(pseudo_collate([data[0]]))
