# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Files of results: names that never meet, one merged list, arrays on request, and back through the readers."""

import errno
import json
import tracemalloc

import cv2
import numpy as np
import pytest
from made_photos import photo

from sapiens.apis import DepthMap, ImageResult, Inferencer, KeypointSet, NormalMap, open_frames, save_all
from sapiens.apis.saving import save_result
from sapiens.commands import options
from sapiens.errors import UserError
from sapiens.structures.coco import read_coco
from sapiens.structures.coco_results import read_coco_results
from sapiens.vocabularies import load_keypoints


@pytest.fixture
def pose(make_model):
    return Inferencer(*make_model('pose'), device='cpu', flip_test=False)


@pytest.fixture
def every(make_model):
    return Inferencer(*make_model('pose', 'seg', 'depth', 'normal'), device='cpu', flip_test=False)


def make_files(folder, names):
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), photo(64, 48, i))
    return folder


@pytest.mark.parametrize(
    'names',
    [
        ['a.png', 'a_coco.png'],
        ['a.png', 'a.jpg', 'A.bmp', 'a_1.png', 'a_1_coco.png'],
        ['results.png', 'results_coco.png'],
        ['a_seg.png', 'a.png', 'a_depth.jpg', 'a_pose.jpg'],
        ['x' * 250 + '.png', 'x' * 249 + 'y.png', '人' * 83 + '.png'],
    ],
)
def test_no_file_is_written_twice(every, tmp_path, names):
    folder = make_files(tmp_path / 'photos', names)
    written = []
    for _, files in save_all(every(folder), tmp_path / 'out', arrays=True):
        written += files
    assert len(written) == len(names) * (1 + 1 + 1 + 3 + 4) == len({str(path).casefold() for path in written})
    on_disk = {path.name for path in (tmp_path / 'out').iterdir()}
    assert on_disk == {path.name for path in written} | {'results_coco.json'}
    assert all(len(name.encode()) < 256 for name in on_disk)


def test_folders_in_names_do_not_leave_the_output(pose, tmp_path):
    from sapiens.apis import Frame

    (result,) = pose(Frame(photo(), '../../up'))
    assert {path.parent for path in result.save(tmp_path / 'out')} == {tmp_path / 'out'}


def test_arrays_only_on_request(every, tmp_path):
    result = every.predict(photo(), color='rgb')
    kinds = {
        option: {path.suffix for path in result.save(tmp_path / str(option), arrays=option)}
        for option in (None, True, False)
    }
    assert kinds == {None: {'.json', '.png', '.jpg'}, True: {'.json', '.png', '.jpg', '.npz'}, False: {'.json', '.jpg'}}


def test_depth_can_be_had_back_from_the_picture_and_the_notes(every, tmp_path):
    result = every.predict(photo(), color='rgb')
    result.save(tmp_path)
    level = cv2.imread(str(tmp_path / 'image_depth.png'), cv2.IMREAD_UNCHANGED).astype(np.float64)
    notes = json.loads((tmp_path / 'image.json').read_text())['depth']
    depth = notes['nearest'] + (level - 1) / 65534 * (notes['farthest'] - notes['nearest'])
    valid = result.depth.valid
    np.testing.assert_allclose(depth[valid], result.depth.data[valid], atol=1e-4 * np.ptp(result.depth.data[valid]))


def test_points_that_a_conversion_cannot_make_are_plain_json(tmp_path):
    xy, boxes = np.ones((1, 17, 2), np.float32), np.array([[0, 0, 40, 60]], np.float32)
    xy[0, 3] = np.nan
    people = boxes, np.ones(1, np.float32), np.zeros(1, np.int64)
    points = KeypointSet(xy, np.ones((1, 17), np.float32), *people, load_keypoints('coco17'))
    result = ImageResult(photo(64, 48), 'a', None, 0, None, *people, points)
    for file in save_result(result, tmp_path, pictures=False):
        assert 'NaN' not in file.read_text()
    assert json.loads((tmp_path / 'a.json').read_text())['persons'][0]['keypoints']['left_ear'][:2] == [0, 0]


def test_ids_of_a_tracker_are_drawn(tmp_path):
    xy, boxes = np.full((2, 17, 2), 80, np.float32), np.array([[20, 40, 70, 90], [100, 40, 150, 90]], np.float32)
    people = boxes, np.ones(2, np.float32), np.array([7, -1])
    points = KeypointSet(xy, np.zeros((2, 17), np.float32), *people, load_keypoints('coco17'))
    plain, tracked = (
        ImageResult(photo(120, 200), 'a', None, 0, None, *people, points, tracked=t) for t in (False, True)
    )
    changed = (plain.draw('pose') != tracked.draw('pose')).any(-1)
    assert changed[:, 10:80].any() and not changed[:, 90:].any(), 'a number at the first box, none where nobody is sure'


def test_large_maps_are_encoded_in_stripes(tmp_path):
    """Beyond the results themselves and what goes to the file, little memory is used (a photo may have 108 MP)."""
    size = (3000, 2000)
    normals = np.zeros((*size, 3), np.float32)
    normals[..., 2] = 1
    valid = np.ones(size, bool)
    depth = np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size)
    result = ImageResult(np.zeros((*size, 3), np.uint8), 'big')
    result.normals, result.depth = NormalMap(normals, valid, 'none'), DepthMap(depth, valid, 'none')
    tracemalloc.start()
    files = save_result(result, tmp_path, pictures=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [path.name for path in files] == ['big.json', 'big_depth.png', 'big_normal.png']
    assert peak < 1.6 * normals.size * 2, 'the 16-bit picture and stripes'
    coded = cv2.imread(str(tmp_path / 'big_normal.png'), cv2.IMREAD_UNCHANGED)
    assert coded.dtype == np.uint16 and coded[0, 0].tolist() == [65535, 32768, 32768]


def test_one_coco_result_for_a_folder(pose, tmp_path):
    folder = make_files(tmp_path / 'photos', ['000000000007.png', 'b.png', 'c.png'])
    for _ in save_all(pose(folder), tmp_path / 'out'):
        pass
    merged = json.loads((tmp_path / 'out/results_coco.json').read_text())
    single = [json.loads((tmp_path / f'out/{n}_coco.json').read_text())[0] for n in ('000000000007', 'b', 'c')]
    assert merged == single and [e['image_id'] for e in merged] == ['000000000007', 'b', 'c']
    assert merged[1]['file_name'] == 'b.png'
    for _ in save_all(pose(folder / 'b.png'), tmp_path / 'one'):
        pass
    assert not (tmp_path / 'one/results_coco.json').exists()


def annotations(folder, names):
    document = dict(
        images=[dict(id=i, file_name=name, height=64, width=48) for i, name in enumerate(names, 7)],
        annotations=[dict(id=i, image_id=i, category_id=1, bbox=[1, 1, 40, 60], iscrowd=0,
                          keypoints=[5, 5, 2] * 133) for i in range(7, 7 + len(names))],
        categories=[dict(id=1, name='person')],
    )  # fmt: skip
    (folder / 'people.json').write_text(json.dumps(document))
    return folder / 'people.json'


@pytest.mark.parametrize('by', ['name', 'id', 'mapping'])
def test_our_results_are_found_in_the_annotations(pose, tmp_path, by):
    """By the image's name, or with the annotations' ids when those are asked for."""
    names = ['000000000007.png', 'day/b.png', 'night/b.png']
    for name in names:
        make_files((tmp_path / 'photos' / name).parent, [name.rpartition('/')[2]])
    people = annotations(tmp_path, names)
    ids = dict(id=people, name=None, mapping={'000000000007': 7, 'b': 8, 'b_1': 9})[by]
    for _ in save_all(pose(tmp_path / 'photos'), tmp_path / 'out', image_ids=ids):
        pass
    if by == 'name':  # equal names of two folders cannot be told apart by a name alone
        (tmp_path / 'out/b_coco.json').unlink()
        file = tmp_path / 'out/000000000007_coco.json'
        found, _ = read_coco_results(file, 'wholebody133', read_coco(people, 'wholebody133'))
        assert [r.image_id for r in found] == [7]
    else:
        file = tmp_path / 'out/results_coco.json'
        found, _ = read_coco_results(file, 'wholebody133', read_coco(people, 'wholebody133'))
        assert [r.image_id for r in found] == [7, 8, 9]
        assert len(found[0].keypoints) == 133


def test_images_that_the_annotations_do_not_have(pose, tmp_path):
    folder = make_files(tmp_path / 'photos', ['other.png'])
    with pytest.raises(UserError, match='other.png: is none of the images that ids are known of'):
        list(save_all(pose(folder), tmp_path / 'out', image_ids=annotations(tmp_path, ['a.png'])))


def test_a_full_disk_is_one_line(run_script, make_model, tmp_path, monkeypatch):
    folder = make_files(tmp_path / 'photos', ['a.png', 'b.png'])
    write = open

    def full(file, mode='r', *args, **kwargs):
        if 'w' in mode and str(tmp_path / 'out') in str(file):
            raise OSError(errno.ENOSPC, 'No space left on device', str(file))
        return write(file, mode, *args, **kwargs)

    config, checkpoint = make_model('pose')
    monkeypatch.setattr('builtins.open', full)
    done = run_script('demo/image_demo.py', folder, '--config', config, '--checkpoint', checkpoint, '--device', 'cpu',
                      '--out-dir', tmp_path / 'out')  # fmt: skip
    assert done.code == 1 and 'the disk is full' in done.err and 'Traceback' not in done.err
    assert done.err.count('\n') == 1 and not list((tmp_path / 'out').iterdir())


def test_short_words_about_results(every, photos):
    result = every.predict(photos / '3.png')
    for thing in (result, result.keypoints, result.keypoints[0], result.parts, result.depth, result.normals):
        assert 20 < len(repr(thing)) < 1600 and 'array' not in repr(thing), repr(thing)
    assert repr(result.depth) == 'DepthMap(data=float32 (200, 150), valid=bool (200, 150), mask_source=parts)'
    assert repr(result).startswith('ImageResult(image=uint8 (200, 150, 3), name=3, path=')
    result.boxes = np.array([[38.1, 2, 90.25, 120]], np.float32)
    assert 'boxes=[[38.1, 2.0, 90.2, 120.0]], box_scores=' in repr(result)
    (features,) = every.extract(photos / '3.png')
    assert len(repr(features)) < 200
    (frame,) = open_frames(photos / '3.png')
    assert 'data' not in repr(frame)


def test_maps_of_a_head_of_ones_own_come_out(make_model, photos, tmp_path):
    """They were computed and dropped without a word."""
    box = np.array([[20, 30, 70, 100]], np.float32)
    for tasks, detector, inside in ((('matte',), None, 1.0), (('pose', 'matte'), box, None)):
        model = Inferencer(*make_model(*tasks), device='cpu', detector=detector)
        result = model.predict(photos / '0.png')
        matte = result.others['matte']
        assert {*result.others} == {'matte'} and matte.shape == (1, 120, 90) and matte.dtype == np.float32
        assert inside is None or (matte > 0).all()
        assert detector is None or ((matte > 0).mean() > 0.2 and matte[0, :10].max() == 0)
        (array,) = [path for path in result.save(tmp_path / 'out') if path.suffix == '.npz']
        assert np.array_equal(np.load(array)['matte'], matte)
        assert not [path for path in result.save(tmp_path / 'out', arrays=False) if path.suffix == '.npz']
    assert model.predictors[0].predict(result.image)['matte'].shape == (1, 120, 90)
    parser = options.new_parser('Predict.')
    options.add_inference_options(parser)
    assert parser.parse_args(['--task', 'matte']).task == ['matte']


def test_results_are_no_images_of_the_next_run(every, photos):
    """With results in a folder of the images, or beside them, each run took those of the last one for photos."""
    cv2.imwrite(str(photos / 'my_pose.jpg'), photo(64, 48))
    for out in (photos, photos / 'results'):
        assert len([*save_all(every(photos), out)]) == 6
    for source in (photos, str(photos / '*.[jp][pn]g'), str(photos / '**/*.*g')):
        results = every(source)
        assert {result.name for result in results} == {*'01234', 'my_pose'}
        assert len(results.notes) == 1 and 'results of an earlier run' in results.notes[0]
    with pytest.raises(UserError, match='results: left out 42 results of an earlier run, .*; there is nothing else'):
        every.predict(photos / 'results')


@pytest.mark.parametrize('name', ['yoga.json', 'yoga_coco.json', 'yoga_pose.jpg', 'yoga_seg.png', 'yoga.npz'])
def test_files_of_others_are_not_written_over(every, tmp_path, name):
    """With results beside the images, a photo yoga_pose.jpg, a label or the JSON of a labelling tool was lost."""
    cv2.imwrite(str(tmp_path / 'yoga.png'), photo())
    (tmp_path / name).write_bytes(b'{"shapes": []}')
    result = every.predict(tmp_path / 'yoga.png')
    for _ in range(2):  # the first try leaves nothing that makes them look like results
        with pytest.raises(UserError, match=f'{name}: is there already, and no result of an earlier run'):
            result.save(tmp_path, arrays=True)
    assert {file.name for file in tmp_path.iterdir()} == {'yoga.png', name}
    for _ in range(2):
        files = result.save(tmp_path / 'results', arrays=True)
    assert {file.name for file in files} == {file.name for file in (tmp_path / 'results').iterdir()}
