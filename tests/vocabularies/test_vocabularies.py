# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What ships: sizes, symmetry, palettes and published facts."""

import numpy as np
import pytest

from sapiens.vocabularies import available_vocabularies, keypoint_map, load_vocabulary

SIZES = dict(coco17=17, wholebody133=133, keypoints308=308, openpose25=25, parts20=20, parts28=28)
KEYPOINTS = [name for name in SIZES if not name.startswith('parts')]
PARTS = ['parts20', 'parts28']


def test_every_shipped_vocabulary_is_listed():
    assert available_vocabularies() == sorted(SIZES)


@pytest.mark.parametrize('name', SIZES)
def test_sizes_and_swaps(name):
    vocabulary = load_vocabulary(name)
    count = SIZES[name]
    assert len(vocabulary.names) == len(set(vocabulary.names)) == count
    np.testing.assert_array_equal(vocabulary.swap[vocabulary.swap], np.arange(count))
    assert (vocabulary.swap != np.arange(count)).any()
    assert load_vocabulary(vocabulary) is vocabulary
    assert load_vocabulary(name) is vocabulary


@pytest.mark.parametrize('name', KEYPOINTS)
def test_keypoint_tables(name):
    vocabulary = load_vocabulary(name)
    count = vocabulary.num_keypoints
    assert sorted(np.concatenate(list(vocabulary.groups.values()))) == list(range(count))
    assert vocabulary.sigmas.shape == (count,) and (vocabulary.sigmas > 0).all()
    assert vocabulary.colors.shape == (count, 3) and vocabulary.colors.dtype == np.uint8
    assert vocabulary.skeleton.shape[1] == 2 and vocabulary.skeleton.max() < count
    # A mirrored person has a mirrored skeleton: every bone's mirror image is a bone.
    bones = {frozenset(pair) for pair in vocabulary.skeleton.tolist()}
    mirrored = {frozenset(vocabulary.swap[list(bone)].tolist()) for bone in bones}
    assert len(mirrored & bones) >= 0.9 * len(bones)


@pytest.mark.parametrize('name', PARTS)
def test_part_tables(name):
    vocabulary = load_vocabulary(name)
    assert vocabulary.names[0].lower() == 'background' and vocabulary.swap[0] == 0
    assert len({tuple(color) for color in vocabulary.colors.tolist()}) == vocabulary.num_classes
    assert vocabulary.weights.shape == (vocabulary.num_classes,) and (vocabulary.weights > 0).all()
    for i, twin in enumerate(vocabulary.swap):
        left = vocabulary.names[i].lower().replace('_', ' ').replace('-', ' ')
        right = vocabulary.names[twin].lower().replace('_', ' ').replace('-', ' ')
        assert left.replace('left', 'right') == right or left.replace('right', 'left') == right


def test_no_eyeglasses_among_the_28_classes():
    # Later releases insert a class at id 2; the 28 of the paper have none, so ids after 1 differ between them.
    assert not any('glass' in name.lower() for name in load_vocabulary('parts28').names)


def test_coco17_is_the_standard_order_with_the_standard_sigmas():
    vocabulary = load_vocabulary('coco17')
    assert vocabulary.names[:3] == ('nose', 'left_eye', 'right_eye')
    assert vocabulary.names[-1] == 'right_ankle'
    expected = [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]
    np.testing.assert_allclose(vocabulary.sigmas * 1000, expected, rtol=1e-5)


def test_wholebody133_starts_with_coco17():
    small, large = load_vocabulary('coco17'), load_vocabulary('wholebody133')
    assert large.names[:17] == small.names
    np.testing.assert_array_equal(large.swap[:17], small.swap)
    np.testing.assert_allclose(large.sigmas[:17], small.sigmas)
    assert {name: len(ids) for name, ids in large.groups.items()} == dict(
        body=17, foot=6, face=68, left_hand=21, right_hand=21
    )


def test_order_of_the_308():
    vocabulary = load_vocabulary('keypoints308')
    assert vocabulary.names[:9] == load_vocabulary('coco17').names[:9]
    assert [vocabulary.names[i] for i in (9, 10, 13, 14)] == ['left_hip', 'right_hip', 'left_ankle', 'right_ankle']
    assert (vocabulary.names[41], vocabulary.names[62], vocabulary.names[69]) == ('right_wrist', 'left_wrist', 'neck')
    assert vocabulary.swap[41] == 62
    # The whole right hand (21-40) becomes the left one (42-61), finger by finger.
    np.testing.assert_array_equal(vocabulary.swap[21:41], np.arange(42, 62))
    assert (vocabulary.swap == np.arange(308)).sum() == 16


def test_swap_of_the_308_is_not_a_renaming():
    vocabulary = load_vocabulary('keypoints308')

    def renamed(name):
        sides = dict(left='right', right='left', l='r', r='l')
        return '_'.join(sides.get(word, word) for word in name.split('_'))

    other = [i for i, name in enumerate(vocabulary.names) if vocabulary.names[vocabulary.swap[i]] != renamed(name)]
    assert len(other) == 120


def test_114_points_are_common_to_308_and_133():
    common = keypoint_map('keypoints308', 'wholebody133', derived=False)
    groups = load_vocabulary('wholebody133').groups
    counts = {name: len(set(ids.tolist()) & set(common)) for name, ids in groups.items()}
    assert counts == dict(body=17, foot=6, face=51, left_hand=20, right_hand=20)
    assert len(common) == 114 and all(len(sources) == 1 for sources in common.values())
    assert len({sources[0] for sources in common.values()}) == 114
