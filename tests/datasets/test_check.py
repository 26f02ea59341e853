# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""`tools/check_dataset.py` finds each kind of mistake, and nothing in a good data set."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from scenes import sphere

from sapiens.commands import check_data
from sapiens.datasets import CocoKeypointDataset, HumanManifestDataset, ManifestWriter, label_files
from sapiens.datasets.check import check_dataset, check_sample
from sapiens.datasets.check_maps import check_depth, check_normals
from sapiens.datasets.check_persons import check_keypoints, swapped_sides
from sapiens.errors import run_cli
from sapiens.structures.coco_entries import read_keypoints
from sapiens.vocabularies import load_vocabulary

ROOT = Path(__file__).parents[2]
ANNOTATION = json.loads((ROOT / 'tests/data/coco_785_wholebody.json').read_text())['annotations'][0]


@pytest.fixture
def folder(tmp_path):
    scene = sphere()
    with ManifestWriter(tmp_path / 'data', keypoints='wholebody133', parts='parts28') as writer:
        for key in 'abcdef':
            person = {'bbox': [15, 37, 50, 50], 'keypoints': np.c_[np.full((133, 2), 40.0), np.full(133, 2)]}
            writer.write(key, image=scene['img'], parts=scene['part_map'], depth=scene['depth'],
                         normals=scene['normals'], mask=scene['mask'], persons=[person])  # fmt: skip
    return tmp_path / 'data'


def kinds(folder, **options):
    data = HumanManifestDataset(str(folder), **options)
    return {data.get_data_info(i)['img_id']: [p[0] for p in check_sample(data, i)] for i in range(len(data))}


def rewrite(folder, sample, **fields):
    lines = [json.loads(line) for line in (folder / 'manifest.jsonl').read_text().splitlines()]
    for line in lines:
        if line['id'] == sample:
            line.update(fields)
    (folder / 'manifest.jsonl').write_text('\n'.join(map(json.dumps, lines)))


def test_a_good_data_set_has_no_problems(folder):
    assert set(map(tuple, kinds(folder).values())) == {()}
    assert set(map(tuple, kinds(folder, sample_per='person').values())) == {()}


def test_every_mistake_is_found(folder):
    scene = sphere()
    (folder / 'images/a.jpg').unlink()
    (folder / 'images/b.jpg').write_bytes((folder / 'images/b.jpg').read_bytes()[:300])
    wrong = scene['part_map'].copy()
    wrong[0, 0] = 200
    (folder / 'parts/c.png').write_bytes(label_files.encode_ids(wrong))
    (folder / 'depth/c.png').write_bytes(label_files.encode_depth(scene['depth'][:50]))
    (folder / 'mask/d.png').write_bytes(label_files.encode_ids(np.zeros((120, 90))))
    (folder / 'depth/d.png').unlink()
    depth = scene['depth'].copy()
    depth[0, :2] = np.nan, -1
    (folder / 'depth/e.npz').write_bytes(label_files.encode_npz(depth))
    (folder / 'normals/e.npz').write_bytes(label_files.encode_npz(scene['normals'] * 0.7))
    rewrite(folder, 'e', depth='depth/e.npz', normals='normals/e.npz')
    (folder / 'normals/f.npz').write_bytes(label_files.encode_npz(scene['normals'] * np.float32([1, -1, -1])))
    (folder / 'depth/f.png').write_bytes(label_files.encode_depth(np.zeros((120, 90))))
    rewrite(folder, 'f', normals='normals/f.npz')
    assert kinds(folder) == {
        'a': ['missing file'],
        'b': ['unreadable image'],
        'c': ['label outside the vocabulary', 'shape mismatch'],
        'd': ['missing file', 'empty mask'],
        'e': ['NaN depth', 'negative depth', 'non-unit normals'],
        'f': ['empty depth', 'normals point away'],
    }


def test_bad_persons_are_found(folder):
    rewrite(folder, 'a', persons=[{'bbox': [0, 0, 9, 9], 'keypoints': [[1, 2, 2]]}])
    rewrite(folder, 'b', persons=[{'keypoints': [[1, 2, 2]] * 133}])
    rewrite(folder, 'c', persons=[{'bbox': [0, 0, 9, 9], 'keypoints': [[900, 2, 2]] * 133}])
    data = HumanManifestDataset(str(folder), sample_per='person')
    found = [list(check_sample(data, i)) for i in range(2)]
    assert [f[0][0] for f in found] == ['malformed annotation', 'keypoints off the image']
    assert 'person 0 has 1 keypoints, the vocabulary has 133' in found[0][0][2]
    assert data.notes[0] == '5 of 6 persons used: 1 with no box and without keypoints'
    assert (
        data.notes[1].startswith('persons with no box and without keypoints are dropped: 1')
        and 'line 2: person 0' in data.notes[1]
    )


def points_785():
    joined = read_keypoints(ANNOTATION, 133, '')
    return joined[:, :2], joined[:, 2] > 0


@pytest.mark.parametrize('turn', [0, 60, 170])
def test_swapped_sides_are_suspected_on_a_real_person(turn):
    vocabulary = load_vocabulary('wholebody133')
    points, visible = points_785()
    angle = np.deg2rad(turn)
    points = points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert swapped_sides(points, visible, vocabulary) is None
    assert 'left eye' in swapped_sides(points[vocabulary.swap], visible[vocabulary.swap], vocabulary)
    hips = points.copy()
    hips[[11, 12]] = hips[[12, 11]]
    assert 'opposite order' in swapped_sides(hips, visible, vocabulary)
    mirrored = points * [-1, 1]
    assert swapped_sides(mirrored[vocabulary.swap], visible[vocabulary.swap], vocabulary) is None, 'a proper mirror'


def test_profiles_and_strange_vocabularies_are_not_suspected():
    vocabulary = load_vocabulary('coco17')
    points = np.zeros((17, 2))
    visible = np.zeros(17, bool)
    visible[:3] = True
    points[0], points[1], points[2] = [10, 10], [9.2, 6], [10, 6]
    assert swapped_sides(points, visible, vocabulary) is None
    # Seen from below the chin the nose lies a little beyond the eyes; exchanged eyes of a face lie well below them.
    points[:3] = [163.4, 65.4], [166.8, 72.6], [158.4, 61.4]
    assert swapped_sides(points, visible, vocabulary) is None
    points[:3] = [10, 10], [7, 6], [13, 6]
    assert 'left eye' in swapped_sides(points, visible, vocabulary)
    assert list(check_keypoints(dict(keypoints=np.full((17, 2), np.nan), keypoints_visible=np.ones(17),
                                     keypoint_vocabulary='coco17'), (9, 9)))[0][0] == 'NaN keypoints'  # fmt: skip
    assert swapped_sides(np.ones((25, 2)), np.ones(25, bool), load_vocabulary('openpose25')) is None


def coco_problems(tmp_path, points=None, box=None, image=(480, 640), **size):
    """Problems of a data set of one standing person in a COCO file."""
    figure = np.array([[.5, .1], [.55, .08], [.45, .08], [.6, .09], [.4, .09], [.68, .25], [.32, .25], [.76, .4],
                       [.24, .4], [.8, .55], [.2, .55], [.6, .55], [.4, .55], [.6, .75], [.4, .75], [.6, .95],
                       [.4, .95]]) * [200, 350] + [100, 50]  # fmt: skip
    figure = figure if points is None else points(figure)
    person = {'id': 1, 'image_id': 1, 'category_id': 1, 'area': 9000, 'bbox': box or [100, 50, 200, 350],
              'keypoints': np.c_[figure, np.full(17, 2)].ravel().tolist()}  # fmt: skip
    images = [{'id': 1, 'file_name': 'a.png', 'height': 480, 'width': 640, **size}]
    (tmp_path / 'a.json').write_text(json.dumps({'images': images, 'annotations': [person], 'categories': None}))
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((*image, 3), np.uint8))
    data = CocoKeypointDataset(str(tmp_path / 'a.json'), data_prefix=dict(img=str(tmp_path)))
    return {p.kind: p.detail for found in check_dataset(data) for p in found}


def test_coordinates_of_another_convention_are_suspected(tmp_path):
    assert coco_problems(tmp_path) == {}
    assert list(coco_problems(tmp_path, lambda p: p[:, ::-1])) == ['x and y exchanged?']
    assert list(coco_problems(tmp_path, lambda p: p - [100, 50])) == ['keypoints relative to the box?']
    assert 'normalised keypoints?' in coco_problems(tmp_path, lambda p: p / [640, 480])
    assert 'keypoints relative to the box?' in coco_problems(tmp_path, lambda p: (p - [100, 50]) / [200, 350])
    assert list(coco_problems(tmp_path, box=[100, 50, 300, 400])) == ['boxes are corners?']
    beyond = coco_problems(tmp_path, box=[300, 200, 500, 400], points=lambda p: p + [200, 50])
    assert 'x1, y1, x2, y2 instead' in beyond['box beyond the image']
    assert 'shares of the image' in coco_problems(tmp_path, box=[0.2, 0.1, 0.3, 0.7])['tiny box']
    assert 'keypoints outside the box' in coco_problems(tmp_path, lambda p: p + [250, 60])
    assert 'persons with an empty box' in coco_problems(tmp_path, box=[5, 5, 0, 0])['unusable boxes']


def test_people_that_are_labelled_twice(tmp_path):
    assert coco_problems(tmp_path) == {}
    document = json.loads((tmp_path / 'a.json').read_text())
    document['annotations'] += [{**document['annotations'][0], 'id': 2}]
    (tmp_path / 'a.json').write_text(json.dumps(document))
    data = CocoKeypointDataset(str(tmp_path / 'a.json'), data_prefix=dict(img=str(tmp_path)))
    assert [p.kind for found in check_dataset(data) for p in found] == ['labelled twice']


def test_images_of_another_size_than_annotated(tmp_path):
    assert 'exchanged' in coco_problems(tmp_path, image=(640, 480))['size differs']
    assert 'resized after labelling' in coco_problems(tmp_path, image=(960, 1280))['size differs']
    assert coco_problems(tmp_path, height=None, width=None) == {}


@pytest.mark.parametrize('unknown', [65535, 1e10])
def test_depth_that_stands_for_unknown_on_people(folder, unknown):
    """Sensors write the largest number for unknown, renderers 1e10: behind people it does no harm, on them it does."""
    scene = sphere()
    units = np.rint(scene['depth'] * 1000).astype(np.uint16)
    raw = units if unknown == 65535 else scene['depth'].astype(np.float32)
    raw[scene['mask'] == 0] = unknown
    np.save(folder / 'depth/a.npy', raw)
    row, column = np.argwhere(scene['mask'])[len(np.argwhere(scene['mask'])) // 2]
    raw[row, column - 2 : column + 3] = unknown
    np.save(folder / 'depth/b.npy', raw)
    rewrite(folder, 'a', depth='depth/a.npy')
    rewrite(folder, 'b', depth='depth/b.npy')
    found = kinds(folder)
    assert 'depth of the unknown?' not in found['a'] and 'depth of the unknown?' in found['b']


def test_twins_of_files(folder):
    shutil.copy(folder / 'images/a.jpg', folder / 'images/a.png')
    rewrite(folder, 'b', image='images/a.png')
    problems = [p for found in check_dataset(HumanManifestDataset(str(folder))) for p in found]
    assert [(p.kind, p.index) for p in problems] == [('twins of a file', -1)]


def test_masks_of_255_units_of_depth_and_bgr_normals(folder):
    scene = sphere()
    (folder / 'parts/a.png').write_bytes(label_files.encode_ids(scene['mask'] * np.uint8(255)))
    lines = [json.loads(line) for line in (folder / 'manifest.jsonl').read_text().splitlines()]
    del lines[0]['mask']
    (folder / 'manifest.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    np.save(folder / 'depth/b.npy', scene['depth'] * 1000)
    np.save(folder / 'depth/c.npy', np.rint(scene['depth'] * 1000).astype(np.int64))
    rewrite(folder, 'b', depth='depth/b.npy')
    rewrite(folder, 'c', depth='depth/c.npy')
    (folder / 'normals/d.png').write_bytes(label_files.encode_normals(scene['normals'][..., ::-1]))
    data = HumanManifestDataset(str(folder))
    found = [list(check_sample(data, i)) for i in range(4)]
    assert [f[0] for part in found for f in part] == ['empty mask', 'depth units?', 'normals in BGR order?']
    assert 'label_map={255: 1}' in found[0][0][2] and 'floats are metres' in found[1][0][2]


def test_normals_are_checked_in_the_axes_of_the_data_set():
    normals = sphere()['normals']
    turned = normals * np.float32([1, -1, -1])
    for given, axes, other in ((normals, 'opencv', 'x-right'), (turned, 'x-right y-up z-viewer', 'opencv')):
        ((kind, text),) = check_normals(given, axes)
        assert kind == 'normals point away' and f"seen in '{axes}'; set normal_axes='{other}" in text
    assert not [*check_normals(normals), *check_normals(turned, 'opencv')]
    assert [kind for kind, _ in check_depth(np.full((9, 9), 200, np.uint8))] == ['coarse depth']


@pytest.mark.parametrize(
    ('turn', 'found'),
    [(lambda d: d, False), (lambda d: 1 / d, True), (lambda d: 4 - d, True), (lambda d: d * 0 + 2, False)],
)
@pytest.mark.parametrize('mask', ['mask', 'parts'])
def test_inverse_depth_is_suspected_of_the_whole_set(folder, turn, found, mask):
    depth = sphere()['depth']
    turned = np.where(depth > 0, turn(np.maximum(depth, 1e-3)), 0).astype(np.float32)
    for key in 'abcdef':
        np.save(folder / f'depth/{key}.npy', turned)
        rewrite(folder, key, depth=f'depth/{key}.npy', **({} if mask == 'mask' else {'mask': None}))
    problems = [p for group in check_dataset(HumanManifestDataset(str(folder))) for p in group]
    assert [(p.index, p.kind) for p in problems] == [(-1, 'inverse depth?')] * found, problems
    assert not found or 'in 6 of 6 images people are nearer at their outline' in problems[0].detail


def test_files_of_several_pictures_are_named(folder):
    from PIL import Image

    pages = [Image.fromarray(np.full((120, 90, 3), value, np.uint8)) for value in (200, 10)]
    pages[0].save(folder / 'images/a.tif', save_all=True, append_images=pages[1:])
    rewrite(folder, 'a', image='images/a.tif')
    problems = [p for group in check_dataset(HumanManifestDataset(str(folder))) for p in group]
    assert [(p.kind, p.detail) for p in problems] == [
        ('several pictures', '2 pages or pictures, of which the first is read')
    ]


def test_wrapped_data_sets_are_checked_sample_by_sample(folder):
    (folder / 'images/c.jpg').unlink()
    both = ConcatDataset([HumanManifestDataset(str(folder)), HumanManifestDataset(str(folder))])
    # One that is repeated is read once.
    for data, expected in ((both, [2, 8]), (RepeatDataset(HumanManifestDataset(str(folder)), times=2), [2])):
        found = [p for problems in check_dataset(data) for p in problems]
        assert [p.index for p in found] == expected


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a tool as its script does, without the seconds that a new process takes to import everything."""

    def call(tool, *args):
        spec = importlib.util.spec_from_file_location(tool, ROOT / f'tools/{tool}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
        with pytest.raises(SystemExit) as done:
            run_cli(module.main)
        return SimpleNamespace(
            returncode=done.value.code, **dict(zip(('stdout', 'stderr'), capsys.readouterr(), strict=True))
        )

    return call


def write_config(tmp_path, folder):
    (tmp_path / 'config.py').write_text(
        "default_scope = 'sapiens'\ntrain_dataloader = dict(dataset=dict(type='HumanManifestDataset', "
        f"data_root={str(folder)!r}, input_size=(64, 48), pipeline=[dict(type='LoadImage'), dict(type='LoadLabels'), "
        "dict(type='RandomAffine'), dict(type='RandomFlip'), dict(type='PackHumanInputs')]))\n"
    )
    return tmp_path / 'config.py'


def test_tool_lists_and_fails(tmp_path, folder, run):
    config = write_config(tmp_path, folder)
    good = run('check_dataset', config, '--workers', 0)
    assert good.returncode == 0 and 'nothing wrong' in good.stdout, good.stderr
    (folder / 'mask/b.png').write_bytes(label_files.encode_ids(np.zeros((120, 90))))
    bad = run('check_dataset', config, '--workers', 1, '--fix-list', tmp_path / 'fix.jsonl')
    assert bad.returncode == 1 and 'empty mask' in bad.stdout and '1 of 6 samples' in bad.stdout
    (line,) = (tmp_path / 'fix.jsonl').read_text().splitlines()
    assert json.loads(line)['index'] == 1 and json.loads(line)['file'].endswith('mask/b.png')
    (folder / 'manifest.jsonl').write_text('{"id":')
    broken = run('check_dataset', config)
    assert broken.returncode == 1 and broken.stderr.startswith('error: ') and 'manifest.jsonl#line 1' in broken.stderr
    assert broken.stderr.count('\n') == 1 and 'Traceback' not in broken.stderr
    script = [sys.executable, str(ROOT / 'tools/check_dataset.py'), str(config)]
    as_script = subprocess.run(script, capture_output=True, text=True)
    assert as_script.returncode == 1 and as_script.stderr == broken.stderr
    assert 'has no val_dataloader' in run('check_dataset', config, '--split', 'val').stderr


def test_browse_draws_every_label(tmp_path, folder, run):
    config = write_config(tmp_path, folder)
    done = run('browse_dataset', config, '--num', 8, '--out-dir', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / 'out').iterdir())
    assert len(files) == 8 and files[0].name == '0000_a.jpg'
    picture = cv2.imread(str(files[0]))
    assert picture.shape[1] > 4 * 48, 'input, parts, depth and normals'
    assert picture.std() > 20
    again = run('browse_dataset', config, '--num', 8, '--out-dir', tmp_path / 'again')
    assert again.returncode == 0
    assert files[3].read_bytes() == (tmp_path / 'again' / files[3].name).read_bytes(), 'seeded'
    typo = run('browse_dataset', tmp_path / 'confg.py')
    assert typo.returncode == 1 and 'did you mean' in typo.stderr and typo.stderr.count('\n') == 1


def test_images_of_training_and_validation_are_told(tmp_path, monkeypatch, capsys):
    """A split by persons, or a link, leaves images in both: figures of validation are then those of training."""
    for name in 'abc':
        (tmp_path / 'photos').mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f'photos/{name}.png'), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / 'links').mkdir()
    (tmp_path / 'links/x.png').symlink_to(tmp_path / 'photos/b.png')
    (tmp_path / 'train.txt').write_text('a.png\nc.png')
    config = """
train_dataloader = dict(dataset=dict(type='ImageFolderDataset', data_root='photos', ann_file={!r}))
val_dataloader = dict(dataset=dict(type='ImageFolderDataset', data_root='links'))
"""
    monkeypatch.chdir(tmp_path)
    for ann_file, shared in (('', True), ('../train.txt', False)):
        (tmp_path / 'c.py').write_text(config.format(ann_file))
        for split in ('train', 'val'):
            monkeypatch.setattr(sys, 'argv', ['check', 'c.py', '--workers', '0', '--split', split])
            assert check_data.main() == 0
            text = ' '.join(capsys.readouterr().out.split())
            assert ('1 images are both in train and in val' in text) == shared
