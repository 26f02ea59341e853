# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A user's own vocabulary is one file; every mistake in it is one line that names the file and the mend."""

import copy
import json

import numpy as np
import pytest

from sapiens.errors import run_cli
from sapiens.vocabularies import VocabularyError, load_vocabulary
from sapiens.vocabularies.names import without_twin


def write(folder, document, name='mine.json'):
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_keypoints_with_defaults(tmp_path):
    document = dict(
        keypoints=[dict(name='tail'), dict(name='paw_l', swap='paw_r'), dict(name='paw_r', swap=1, group='paws')],
        skeleton=[['tail', 'paw_l'], [0, 2]],
    )
    vocabulary = load_vocabulary(write(tmp_path, document))
    assert vocabulary.name == 'mine' and vocabulary.names == ('tail', 'paw_l', 'paw_r')
    np.testing.assert_array_equal(vocabulary.swap, [0, 2, 1])
    np.testing.assert_array_equal(vocabulary.skeleton, [[0, 1], [0, 2]])
    np.testing.assert_allclose(vocabulary.sigmas, 0.05)
    assert {name: ids.tolist() for name, ids in vocabulary.groups.items()} == dict(body=[0, 1], paws=[2])
    assert len({tuple(color) for color in vocabulary.colors.tolist()}) == 3


def test_parts_with_defaults(tmp_path):
    classes = [dict(name='bg', color=[0, 0, 0]), dict(name='coat', weight=2)]
    vocabulary = load_vocabulary(write(tmp_path, dict(name='clothes', classes=classes)))
    assert vocabulary.kind == 'parts' and vocabulary.name == 'clothes' and vocabulary.num_classes == 2
    np.testing.assert_allclose(vocabulary.weights, [1, 2])
    np.testing.assert_array_equal(vocabulary.colors[0], 0)


def test_default_colours_differ(tmp_path):
    vocabulary = load_vocabulary(write(tmp_path, dict(classes=[dict(name=str(i)) for i in range(100)])))
    assert len({tuple(color) for color in vocabulary.colors.tolist()}) == 100


A = dict(name='a')
BAD = {
    'not valid JSON': '{"keypoints": [',
    'is a JSON object': [1],
    "kind 'points' is neither": dict(kind='points', keypoints=[A]),
    'needs a non-empty list "keypoints"': dict(keypoints=[]),
    'needs a non-empty list "classes"': dict(kind='parts', classes=[dict(id=0)]),
    'names must differ; used twice: a': dict(keypoints=[A, A]),
    "'a' has id 3 but stands at 0": dict(keypoints=[dict(name='a', id=3)]),
    "swap of 'a' names 'b', which is not in the vocabulary": dict(keypoints=[dict(name='a', swap='b')]),
    "swap of 'a' names '7'": dict(keypoints=[dict(name='a', swap=7)]),
    'swap must be its own inverse': dict(
        keypoints=[dict(name='a', swap='b'), dict(name='b', swap='c'), dict(name='c', swap='a')]
    ),
    "color of 'a' is [0, 0]": dict(keypoints=[dict(name='a', color=[0, 0])]),
    "color of 'a' is [0, 0, 256]": dict(keypoints=[dict(name='a', color=[0, 0, 256])]),
    "color of 'a' is 'red'": dict(keypoints=[dict(name='a', color='red')]),
    "sigma of 'a' is 'big'": dict(keypoints=[dict(name='a', sigma='big')]),
    'every sigma must be greater than 0': dict(keypoints=[dict(name='a', sigma=0)]),
    "weight of 'a' is -1": dict(classes=[dict(name='a', weight=-1)]),
    'skeleton is a list of pairs': dict(keypoints=[A], skeleton=[[0, 0, 0]]),
    "skeleton names 'b'": dict(keypoints=[A], skeleton=[['a', 'b']]),
    'maps are {target vocabulary': dict(keypoints=[A], maps=dict(coco17=dict(points={'nose': ['a']}))),
    "map to coco17 names 'b'": dict(keypoints=[A], maps=dict(coco17=dict(points={'0': ['b']}))),
}


@pytest.mark.parametrize('message', BAD)
def test_mistakes(tmp_path, message):
    path = write(tmp_path, BAD[message])
    with pytest.raises(VocabularyError) as error:
        load_vocabulary(path)
    assert message in str(error.value) and str(path) in str(error.value)
    assert '\n' not in str(error.value)


def test_missing_file_and_binary_file(tmp_path):
    with pytest.raises(VocabularyError, match='no such vocabulary file'):
        load_vocabulary(tmp_path / 'none.json')
    path = tmp_path / 'binary.json'
    path.write_bytes(b'\xff\xfe\x00')
    with pytest.raises(VocabularyError, match='not UTF-8 text'):
        load_vocabulary(path)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(VocabularyError, match="did you mean 'wholebody133'"):
        load_vocabulary('wholebody-133')
    with pytest.raises(VocabularyError, match='known are coco17, .*or give the path of a .json file'):
        load_vocabulary('zzz')


@pytest.mark.parametrize('name', ['nothing', 'none.json'])
def test_scripts_end_with_one_line_and_code_1(name, capsys):
    with pytest.raises(SystemExit) as stop:
        run_cli(lambda: load_vocabulary(name) and 0)
    assert stop.value.code == 1
    out = capsys.readouterr()
    assert out.out == '' and out.err.startswith('error: ') and out.err.count('\n') == 1


def test_scripts_succeed_fail_and_stop(capsys, tmp_path):
    def codes(main):
        with pytest.raises(SystemExit) as stop:
            run_cli(main)
        return stop.value.code

    def interrupted():
        raise KeyboardInterrupt

    assert codes(lambda: None) == 0 and codes(lambda: 3) == 3
    assert codes(interrupted) == 130
    assert codes(lambda: len((tmp_path / 'absent.txt').read_text())) == 1
    assert 'absent.txt: No such file or directory' in capsys.readouterr().err
    # Mistakes of the program itself keep their traceback.
    with pytest.raises(ZeroDivisionError):
        run_cli(lambda: 1 // 0)


SIDED = ['nose', 'left_eye', 'right_eye', 'LShoulder', 'RShoulder', 'hip (left)', 'hip (right)', 'left_only']


def write_encoded(tmp_path, encoding='utf-8', **document):
    path = tmp_path / 'mine.json'
    path.write_bytes(json.dumps(document).encode(encoding))
    return path


@pytest.mark.parametrize('key', ['keypoints', 'classes'])
@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_left_and_right_without_swap_are_twins(tmp_path, key, encoding):
    path = write_encoded(tmp_path, encoding, **{key: [{'name': n} for n in SIDED]})
    assert load_vocabulary(path).swap.tolist() == [0, 2, 1, 4, 3, 6, 5, 7]
    entries = [{'name': n, **({'swap': n} if 'eye' in n else {})} for n in SIDED]
    assert load_vocabulary(write_encoded(tmp_path, **{key: entries})).swap.tolist() == [0, 1, 2, 4, 3, 6, 5, 7]


@pytest.mark.parametrize(
    'pairs',
    [
        'lwrist rwrist Lsho Rsho LELB RELB lhand_root rhand_root',
        'linke_schulter rechte_schulter',
        'épaule_gauche épaule_droite',
        'mano_izquierda mano_derecha',
        '左肩 右肩 左目 右目',
        '1_left_eye 2_right_eye 3_l_ear 4_r_ear',
    ],
)
def test_sides_in_one_letter_another_language_or_numbered_names_are_twins(tmp_path, pairs):
    """Otherwise mirrored images would teach that a left wrist is a right one, without a word."""
    names = ['nose', 'lip', *pairs.split()]
    swap = load_vocabulary(write_encoded(tmp_path, keypoints=[{'name': n} for n in names])).swap.tolist()
    assert swap == [0, 1, *(i + 1 if i % 2 == 0 else i - 1 for i in range(2, len(names)))]


def test_numbers_that_tell_points_apart_are_no_counters(tmp_path):
    names = ['left_1', 'left_2', 'right_1', 'right_2', 'left_brow_1', 'left_brow_2', 'right_brow_3', 'right_brow_4']
    vocabulary = load_vocabulary(write_encoded(tmp_path, keypoints=[{'name': n} for n in names]))
    assert vocabulary.swap.tolist() == [2, 3, 0, 1, 4, 5, 6, 7]
    assert without_twin(vocabulary) == names[4:]


def test_skeletons_that_count_from_one(tmp_path):
    points = [{'name': n} for n in 'abc']
    assert load_vocabulary(write_encoded(tmp_path, keypoints=points, skeleton=[[1, 2], [2, 3]])).skeleton.tolist() == [
        [0, 1],
        [1, 2],
    ]
    path = write_encoded(tmp_path, keypoints=points, skeleton=[[0, 1]])
    assert load_vocabulary(path).skeleton.tolist() == [[0, 1]], 'a file that changed is read again'


def test_no_malformed_vocabulary_ends_in_a_traceback(tmp_path):
    values = [None, True, -1, 10**400, float('nan'), '', 'x', [], [[]], {}, {'a': 1}, ['a', 1], [1, [2]], 'left_a']
    whole = {'name': 'm', 'kind': 'keypoints', 'source': 's', 'skeleton': [['a', 'left_b']], 'maps': {'coco17': {
        'points': {'0': ['a'], '1': [0]}, 'derived': {'2': ['a', 'left_b']}}}, 'keypoints': [
            {'id': 0, 'name': 'a', 'sigma': 0.1, 'color': [1, 2, 3], 'group': 'g'}, {'name': 'left_b', 'swap': 2},
            {'name': 'right_b', 'swap': 'left_b'}]}  # fmt: skip
    parts = {'classes': [{'name': 'a', 'weight': 1}, {'name': 'left_b'}, {'name': 'right_b', 'color': [0, 0, 0]}]}
    rng, outcomes = np.random.default_rng(0), [0, 0]
    for _ in range(800):
        document = copy.deepcopy(whole if rng.random() < 0.7 else parts)
        node = document
        while True:
            keys = list(node) if isinstance(node, dict) else range(len(node))
            key = keys[rng.integers(len(keys))]
            if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.3:
                node[key] = copy.deepcopy(values[rng.integers(len(values))])
                break
            node = node[key]
        path = write_encoded(tmp_path, **document)
        try:
            load_vocabulary(path)
            outcomes[0] += 1
        except VocabularyError as error:
            assert str(path) in str(error) and '\n' not in str(error)
            outcomes[1] += 1
    assert min(outcomes) > 100
    for text in ('', '{', '[' * 99999, '9' * 5000, 'null', '[]'):
        path.write_text(text)
        with pytest.raises(VocabularyError, match='mine.json'):
            load_vocabulary(path)
