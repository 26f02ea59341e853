# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Maps between vocabularies: they compose, commute with mirroring and carry values."""

import json

import numpy as np
import pytest

from sapiens.datasets import CocoKeypointDataset, HumanManifestDataset
from sapiens.evaluation import PCK
from sapiens.vocabularies import VocabularyError, convert_keypoints, keypoint_map, load_vocabulary

PAIRS = [
    ('keypoints308', 'wholebody133'),
    ('keypoints308', 'coco17'),
    ('keypoints308', 'openpose25'),
    ('wholebody133', 'coco17'),
    ('wholebody133', 'openpose25'),
    ('coco17', 'openpose25'),
]


def points(name, seed=0):
    count = load_vocabulary(name).num_keypoints
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 100, (2, count, 2)).astype(np.float32), rng.uniform(0.1, 1, (2, count)).astype(np.float32)


@pytest.mark.parametrize(('source', 'target'), PAIRS)
@pytest.mark.parametrize('derived', [False, True])
def test_maps_commute_with_the_swap(source, target, derived):
    mapping = keypoint_map(source, target, derived)
    swap_source, swap_target = load_vocabulary(source).swap, load_vocabulary(target).swap
    assert mapping
    for t, sources in mapping.items():
        assert sorted(swap_source[list(sources)].tolist()) == sorted(mapping[int(swap_target[t])])


@pytest.mark.parametrize(('source', 'target'), PAIRS)
def test_names_agree_where_both_have_them(source, target):
    a, b = load_vocabulary(source), load_vocabulary(target)
    for t, sources in keypoint_map(source, target, derived=False).items():
        if b.names[t] in a.names:
            assert a.names[sources[0]] == b.names[t]


def test_identity():
    assert keypoint_map('coco17', 'coco17') == {i: (i,) for i in range(17)}


def test_308_to_17_goes_through_133():
    keypoints, scores = points('keypoints308')
    direct = convert_keypoints(keypoints, scores, 'keypoints308', 'coco17')
    first = convert_keypoints(keypoints, scores, 'keypoints308', 'wholebody133')
    second = convert_keypoints(*first, 'wholebody133', 'coco17')
    for one, two in zip(direct, second, strict=True):
        np.testing.assert_array_equal(one, two)
    names = load_vocabulary('keypoints308').names
    expected = [names.index(name) for name in load_vocabulary('coco17').names]
    np.testing.assert_array_equal(direct[0], keypoints[:, expected])
    np.testing.assert_array_equal(direct[1], scores[:, expected])


def test_308_to_133_values():
    keypoints, scores = points('keypoints308')
    converted, values = convert_keypoints(keypoints, scores, 'keypoints308', 'wholebody133')
    # hand roots stand in for the wrists; the 17 points of the jaw line do not exist among the 308
    np.testing.assert_array_equal(converted[:, 91], keypoints[:, 62])
    np.testing.assert_array_equal(converted[:, 112], keypoints[:, 41])
    missing = np.isnan(converted).any(-1)
    np.testing.assert_array_equal(missing, values == 0)
    np.testing.assert_array_equal(np.flatnonzero(missing[0]), np.arange(23, 40))
    # 133 counts a finger from the hand's root to the tip, 308 from the tip to the base: tip of the right forefinger
    np.testing.assert_array_equal(converted[:, 112 + 8], keypoints[:, 25])
    assert load_vocabulary('keypoints308').names[25] == 'right_forefinger4'


def test_openpose25_values():
    keypoints, scores = points('wholebody133')
    converted, values = convert_keypoints(keypoints, scores, 'wholebody133', 'openpose25')
    np.testing.assert_allclose(converted[:, 1], keypoints[:, 5:7].mean(1), rtol=1e-6)
    np.testing.assert_allclose(converted[:, 8], keypoints[:, 11:13].mean(1), rtol=1e-6)
    np.testing.assert_array_equal(values[:, 1], scores[:, 5:7].min(1))
    np.testing.assert_array_equal(converted[:, 4], keypoints[:, 10])
    assert np.isfinite(converted).all()
    # COCO-17 has no feet
    assert np.isnan(convert_keypoints(keypoints[:, :17], scores[:, :17], 'coco17', 'openpose25')[0][:, 19:]).all()


def test_mirroring_before_or_after_is_the_same():
    keypoints, scores = points('keypoints308')
    a, b = load_vocabulary('keypoints308').swap, load_vocabulary('openpose25').swap
    before = convert_keypoints(keypoints[:, a], scores[:, a], 'keypoints308', 'openpose25')
    after = convert_keypoints(keypoints, scores, 'keypoints308', 'openpose25')
    np.testing.assert_allclose(before[0], after[0][:, b])
    np.testing.assert_array_equal(before[1], after[1][:, b])


def test_a_single_person_and_batches_give_the_same():
    keypoints, scores = points('coco17')
    batch = convert_keypoints(keypoints, scores, 'coco17', 'openpose25')
    single = convert_keypoints(keypoints[1], scores[1], 'coco17', 'openpose25')
    np.testing.assert_array_equal(batch[0][1], single[0])


def test_no_map_is_an_error():
    with pytest.raises(VocabularyError, match="no map from vocabulary 'coco17' to 'keypoints308'"):
        keypoint_map('coco17', 'keypoints308')


@pytest.mark.parametrize('reader', ['coco', 'manifest', 'metric'])
def test_two_files_of_one_name_are_not_one_vocabulary(tmp_path, reader):
    """The points of an older order were taken as they stood: every one had another's place."""
    for folder, names in (('old', 'ab'), ('new', 'ba')):
        (tmp_path / folder).mkdir()
        document = {'name': 'mine', 'keypoints': [{'name': n} for n in names]}
        (tmp_path / folder / 'mine.json').write_text(json.dumps(document))
    old, new = (str(tmp_path / folder / 'mine.json') for folder in ('old', 'new'))
    (tmp_path / 'manifest.json').write_text(json.dumps({'format': 'sapiens-manifest/1', 'keypoints': old}))
    build = {
        'coco': lambda: CocoKeypointDataset('a.json', keypoint_vocabulary=new, file_vocabulary=old),
        'manifest': lambda: HumanManifestDataset(str(tmp_path), keypoint_vocabulary=new),
        'metric': lambda: PCK(new, gt_vocabulary=old),
    }[reader]
    with pytest.raises(VocabularyError, match="^two vocabularies are called 'mine', but number 0 is "):
        build()


def test_wrong_count_is_an_error():
    with pytest.raises(VocabularyError, match="'wholebody133' has 133 keypoints"):
        convert_keypoints(np.zeros((17, 2)), np.zeros(17), 'wholebody133', 'coco17')


def test_a_users_map(tmp_path):
    path = tmp_path / 'mine.json'
    entries = [dict(name=n) for n in ('head', 'ear_l', 'ear_r')]
    document = dict(keypoints=entries, maps=dict(coco17=dict(points={'0': ['head']}, derived={'3': ['ear_l', 2]})))
    path.write_text(json.dumps(document))
    keypoints = np.array([[1, 2], [3, 4], [5, 8]], np.float32)
    converted, scores = convert_keypoints(keypoints, np.array([0.5, 0.2, 0.9]), str(path), 'coco17')
    np.testing.assert_allclose(converted[[0, 3]], [[1, 2], [4, 6]])
    np.testing.assert_allclose(scores[[0, 3]], [0.5, 0.2])
    assert keypoint_map(str(path), 'coco17', derived=False) == {0: (0,)}
    # and on from there
    assert keypoint_map(str(path), 'openpose25', derived=False) == {0: (0,)}


def test_a_map_beyond_the_target(tmp_path):
    path = tmp_path / 'mine.json'
    path.write_text(json.dumps(dict(keypoints=[dict(name='a')], maps=dict(coco17=dict(points={'17': [0]})))))
    with pytest.raises(VocabularyError, match="makes point 17, but 'coco17' has 17"):
        keypoint_map(str(path), 'coco17')
