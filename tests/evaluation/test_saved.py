# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Saved predictions score like the live ones, and the command says what is wrong with them."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from in_process import run_tool
from people import COCO, read_coco, samples_of
from test_normal import ball

from sapiens.datasets import ManifestWriter
from sapiens.errors import UserError
from sapiens.evaluation import (
    DepthMetric,
    HumanMetric,
    KeypointAP,
    NormalMetric,
    PartIoU,
    SavedMaps,
    SavePredictions,
    Table,
)
from sapiens.evaluation.dense import dense_pair
from sapiens.registry import METRICS
from sapiens.structures import read_coco_results
from sapiens.vocabularies import load_vocabulary

TASKS = {
    'seg': ('pred_part_map', lambda: PartIoU(vocabulary='parts20')),
    'depth': ('pred_depth', DepthMetric),
    'normal': ('pred_normals', NormalMetric),
}


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
    """A manifest of four images with all labels, and predictions of them."""
    folder = tmp_path_factory.mktemp('scene')
    random = np.random.default_rng(0)
    normals, mask = ball(48, 40, 17, (22, 20))
    normals = np.moveaxis(normals, 0, -1)
    predictions = []
    with ManifestWriter(folder / 'gt', keypoints='coco17', parts='parts20', normal_bits=16) as writer:
        for i in range(4):
            parts = np.where(mask, random.integers(1, 20, mask.shape), 0).astype(np.uint8)
            depth = np.where(mask, random.uniform(1, 3, mask.shape), 0)
            keypoints = np.concatenate([random.uniform(5, 35, (17, 2)), np.full((17, 1), 2)], 1)
            persons = [{'bbox': [2, 2, 36, 40], 'keypoints': keypoints}]
            image = np.full((48, 40, 3), 40 * i, np.uint8)
            writer.write(f'{i:06d}', image, parts, depth, normals, mask, mask, persons)
            predictions.append(
                {
                    'img_id': f'{i:06d}',
                    'img_path': f'images/{i:06d}.jpg',
                    'pred_part_map': torch.tensor(np.where(random.random(mask.shape) < 0.8, parts, 5).astype(np.uint8)),
                    'pred_depth': torch.tensor(depth / 4 + 0.1 + random.normal(0, 0.02, mask.shape))[None].float(),
                    'pred_normals': torch.tensor(normals + random.normal(0, 0.2, normals.shape)).permute(2, 0, 1),
                    'pred_keypoints': keypoints[:, :2] + random.normal(0, 1, (17, 2)),
                    'pred_keypoint_scores': np.ones(17),
                    'bbox': np.array([2, 2, 38, 42]),
                }
            )
    return folder / 'gt', predictions


def save(predictions, out, task, vocabulary=None):
    writer = SavePredictions(out, task, vocabulary)
    writer.process(None, predictions)
    assert writer.evaluate(len(predictions)) == {'saved/count': len(predictions)}
    return out


def run(*arguments):
    return run_tool('eval_results.py', *arguments)


@pytest.mark.parametrize('task', TASKS)
def test_maps_scored_again_equal_the_live_figures(scene, tmp_path, task):
    manifest, predictions = scene
    name, make = TASKS[task]
    out = save(predictions, tmp_path / 'results', task, 'parts20' if task == 'seg' else None)
    saved = SavedMaps(out, task)
    assert [found.shape for found, _ in saved.read('000001')] == [tuple(predictions[1][name].shape)]
    # A metric by name, as one that a user has added, gives what the task's own does.
    extra = ['--confusion', tmp_path / 'confusion.png'] if task == 'seg' else ['--metric', make.__name__]
    done = run(out, '--ann-file', manifest, '--task', task, '--json', tmp_path / 'o.json', '--show-worst', 1,
               '--show-dir', tmp_path / 'worst', '--bootstrap', 10, *extra)  # fmt: skip
    assert done.code == 0, done.error
    live = make()
    for sample in predictions:
        labels = sample['img_id']
        full = {**sample, 'gt_mask': cv2.imread(str(manifest / f'mask/{labels}.png'), 0)}
        if task == 'seg':
            full['gt_part_map'] = cv2.imread(str(manifest / f'parts/{labels}.png'), 0)
        elif task == 'depth':
            full['gt_depth'] = cv2.imread(str(manifest / f'depth/{labels}.png'), -1) * np.float32(0.001)
        else:
            coded = cv2.imread(str(manifest / f'normals/{labels}.png'), -1)[..., ::-1]
            full['gt_normals'] = np.moveaxis(np.where(coded.any(-1, keepdims=True), coded / 65535 * 2 - 1, 0), -1, 0)
        live.process(None, [full])
    expected = live.evaluate(4)
    written = json.loads((tmp_path / 'o.json').read_text())
    for key, value in expected.items():
        assert written[key.split('/')[1]] == pytest.approx(value, rel=1e-4), key
    picture = cv2.imread(str(next((tmp_path / 'worst').glob('001_*.png'))))
    assert picture.shape[1] > 3 * picture.shape[0] * 40 / 48 * 0.8
    assert len(written['per_image']) == 4 and 'intervals_95' in written


@pytest.mark.parametrize(
    ('task', 'options', 'message'),
    [
        ('depth', ('--confusion', 'c.png'), '--confusion is for --task seg, not for --task depth'),
        ('normal', ('--vocabulary', 'parts28'), '--vocabulary is for --task pose and --task seg, not for'),
        ('seg', ('--pck',), '--pck is for --task pose'),
        ('seg', ('--metric', 'PartIoU', '--vocabulary', 'coco17'), "'coco17' is a vocabulary of keypoints"),
        ('seg', ('--metric', 'IoUMetric', '--pred-map', '3=99'), 'pred_map sends id 3 to 99'),
        ('depth', ('--metric', 'DumpResults'), 'is no HumanMetric'),
    ],
)
def test_no_option_is_passed_over(scene, tmp_path, task, options, message):
    manifest, predictions = scene
    out = save(predictions, tmp_path / 'results', task, 'parts20' if task == 'seg' else None)
    failed = run(out, '--ann-file', manifest, '--task', task, *options)
    assert failed.code == 1 and message in failed.error, failed.error


def test_a_map_is_no_folder_of_maps(scene, tmp_path):
    manifest, predictions = scene
    out = save(predictions, tmp_path / 'results', 'seg', 'parts20')
    failed = run(next(out.glob('*.png')), '--ann-file', manifest, '--task', 'seg')
    assert failed.code == 1 and 'no such folder of results' in failed.error


@pytest.mark.parametrize('task', [*TASKS, 'pose'])
def test_images_without_ids_go_by_their_files(scene, tmp_path, task):
    out = tmp_path / ('results.json' if task == 'pose' else 'results')
    save([{**sample, 'img_id': None} for sample in scene[1]], out, task, 'coco17')
    names = [f'images/{i:06d}.jpg' for i in range(4)]
    if task == 'pose':
        assert [result.image_id for result in read_coco_results(out, 'coco17')[0]] == names
    else:
        assert [*SavedMaps(out, task)] == names


def test_ids_longer_than_file_names_may_be(scene, tmp_path):
    _, predictions = scene
    long = [{**sample, 'img_id': 'folder/' * 50 + f'{i}'} for i, sample in enumerate(predictions)]
    out = save(long, tmp_path / 'results', 'seg', 'parts20')
    assert sorted(SavedMaps(out, 'seg')) == sorted(sample['img_id'] for sample in long)
    assert len({file for found in SavedMaps(out, 'seg').files.values() for file, _ in found}) == 4


class MyMetric(HumanMetric):
    """What docs/architecture.md says that a metric is."""

    task, default_prefix = 'depth', 'mine'

    def measure(self, sample):
        pair = dense_pair(sample, 'pred_depth', 'gt_depth', 'MyMetric')
        apart = np.abs(pair.prediction - pair.label)[pair.counted & (pair.label > 0)]
        return dict(error=float(apart.mean()), badness=float(apart.max()))

    def summarize(self, records):
        metrics = {'error': float(np.mean([record['error'] for record in records]))}
        table = Table('Mine', ['Images', *metrics], [[str(len(records)), *metrics.values()]])
        rows = [{'image': record['image'], 'error': record['error']} for record in records]
        return self.make_report(metrics, {'figures': 'mean over images'}, [table], [], {}, rows)


def test_a_metric_of_ones_own_scores_saved_predictions(scene, tmp_path, monkeypatch):
    manifest, predictions = scene
    monkeypatch.setitem(METRICS.module_dict, 'MyMetric', MyMetric)
    out = save(predictions, tmp_path / 'results', 'depth')
    done = run(out, '--ann-file', manifest, '--task', 'depth', '--metric', 'MyMetric', '--json', tmp_path / 'o.json')
    assert done.code == 0 and 'MyMetric (depth)' in done.out, done.error
    assert json.loads((tmp_path / 'o.json').read_text())['error'] > 0
    done = run(out, '--ann-file', manifest, '--task', 'depth', '--metric', 'MyMetrik')
    assert done.code == 1 and "did you mean 'MyMetric'" in done.error


def test_keypoints_scored_again_equal_the_live_figures(tmp_path):
    samples = samples_of(read_coco(), 0.05)
    live = KeypointAP(ann_file=COCO, nms_threshold=0.9)
    live.process(None, samples)
    expected = live.evaluate(len(samples))
    out = save(samples, tmp_path / 'r.json', 'pose', 'coco17')
    done = run(out, '--ann-file', COCO, '--task', 'pose', '--nms', 0.9, '--json', tmp_path / 'o.json', '--pck')
    assert done.code == 0, done.error
    written = json.loads((tmp_path / 'o.json').read_text())
    for key, value in expected.items():
        assert written[key.split('/')[1]] == pytest.approx(value, abs=1e-9), key


def test_keypoints_against_a_manifest(scene, tmp_path):
    manifest, predictions = scene
    out = save(predictions, tmp_path / 'r.json', 'pose', 'coco17')
    done = run(out, '--ann-file', manifest, '--task', 'pose', '--json', tmp_path / 'o.json', '--pck')
    assert done.code == 0, done.error
    written = json.loads((tmp_path / 'o.json').read_text())
    assert 0.1 < written['AP'] < 1 and written['PCK@0.2'] == 1


def test_missing_images_are_counted_and_scored(scene, tmp_path):
    manifest, predictions = scene
    full, part = {}, {}
    for task in TASKS:
        for found, samples in ((full, predictions), (part, predictions[:3])):
            out = save(samples, tmp_path / f'{task}{len(samples)}', task, 'parts20' if task == 'seg' else None)
            done = run(out, '--ann-file', manifest, '--task', task, '--json', tmp_path / 'o.json')
            assert done.code == 0, done.error
            found[task] = json.loads((tmp_path / 'o.json').read_text())
        assert any('1 of 4 images have no prediction' in note for note in part[task]['notes'])
        assert not any('no prediction' in note for note in full[task]['notes'])
    assert part['seg']['mIoU'] < full['seg']['mIoU']
    assert part['depth']['RMSE'] > full['depth']['RMSE']
    assert part['normal']['mean'] > full['normal']['mean'] + 10


def test_plain_folders_of_files_are_results_too(scene, tmp_path):
    manifest, predictions = scene
    for sample in predictions:
        np.save(tmp_path / f'{sample["img_id"]}.npy', sample['pred_depth'][0].numpy())
    assert run(tmp_path, '--ann-file', manifest, '--task', 'depth').code == 0


def test_labels_of_other_classes_or_points_are_told(scene, tmp_path):
    """Ids below the number of classes were scored whatever they meant."""
    manifest, predictions = scene
    out = save(predictions, tmp_path / 'results', 'seg')
    failed = run(out, '--ann-file', manifest, '--task', 'seg', '--vocabulary', 'parts28')
    assert failed.code == 1 and "its parts are 'parts20', those scored 'parts28': 20 here and 28 there" in failed.error
    assert run(out, '--ann-file', manifest, '--task', 'seg', '--vocabulary', 'parts28', '--label-map', '1=1').code == 0
    points = [{'name': name} for name in load_vocabulary('coco17').names[::-1]]
    (tmp_path / 'mine.json').write_text(json.dumps({'name': 'mine', 'keypoints': points}))
    out = save(predictions, tmp_path / 'pose.json', 'pose', 'coco17')
    failed = run(out, '--ann-file', manifest, '--task', 'pose', '--vocabulary', tmp_path / 'mine.json')
    assert failed.code == 1 and 'number 0 is nose here and right_ankle there; give that of the labels' in failed.error


def test_failures_are_one_line(scene, tmp_path):
    manifest, predictions = scene

    def line(*arguments):
        done = run(*arguments)
        assert done.code == 1 and done.error.count('\n') == 1, done.error
        return done.error

    out = save([{**predictions[0], 'img_id': 'elsewhere'}], tmp_path / 'a', 'seg')
    assert '1 results are of images that' in line(
        out, '--ann-file', manifest, '--task', 'seg', '--vocabulary', 'parts20'
    )
    assert "holds results of task 'seg', not 'depth'" in line(out, '--ann-file', manifest, '--task', 'depth')
    assert 'no such folder' in line(tmp_path / 'none', '--ann-file', manifest, '--task', 'depth')
    assert 'must end in .json' in line(out, '--ann-file', manifest, '--task', 'seg', '--json', 'o.txt')
    small = {**predictions[0], 'pred_depth': predictions[0]['pred_depth'][:, :20]}
    text = line(save([small], tmp_path / 'b', 'depth'), '--ann-file', manifest, '--task', 'depth')
    assert 'images/000000.jpg: pred_depth is 20x40 but gt_depth is 48x40' in text
    (tmp_path / 'b' / '000000.npz').write_bytes(b'not an archive')
    assert '000000.npz: not a readable' in line(tmp_path / 'b', '--ann-file', manifest, '--task', 'depth')
    assert 'no such' in line(out, '--ann-file', tmp_path / 'nothing' / 'manifest.json', '--task', 'seg').lower()
    wrong = save(predictions, tmp_path / 'r.json', 'pose', 'coco17')
    assert 'is a vocabulary of parts, not of keypoints' in line(
        wrong, '--ann-file', COCO, '--task', 'pose', '--vocabulary', 'parts28'
    )


def test_wrong_settings():
    with pytest.raises(UserError, match="task 'pos' is none of"):
        SavePredictions('x', 'pos')
    with pytest.raises(UserError, match='saved as a .json file'):
        SavePredictions('x', 'pose', 'coco17')


def damage_index(change):
    def apply(folder):
        path = folder / 'results.json'
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return apply


DAMAGES = {
    'cut off': lambda folder: (folder / '000001.npz').write_bytes((folder / '000001.npz').read_bytes()[:90]),
    'empty': lambda folder: (folder / '000001.npz').write_bytes(b''),
    'no numbers': lambda folder: np.savez(folder / '000001.npz', data=np.array('x')),
    'objects': lambda folder: np.savez(folder / '000001.npz', data=np.array([{}], object)),
    'complex': lambda folder: np.savez(folder / '000001.npz', data=np.zeros((1, 48, 40), complex)),
    'one axis': lambda folder: np.savez(folder / '000001.npz', data=np.zeros(5)),
    'gone': lambda folder: (folder / '000001.npz').unlink(),
    'not JSON': lambda folder: (folder / 'results.json').write_text('{"items": ['),
    'a list': lambda folder: (folder / 'results.json').write_text('[]'),
    'no items': damage_index(lambda d: d.update(items=7)),
    'no file': damage_index(lambda d: d['items'][1].pop('file')),
    'a list for an id': damage_index(lambda d: d['items'][1].update(id=[1])),
    'a crop of text': damage_index(lambda d: d['items'][1].update(warp_mat='x', img_shape=[4, 4])),
    'an endless crop': damage_index(lambda d: d['items'][1].update(warp_mat=[[1e999, 0, 0], [0, 1, 0]])),
    'a list for a person': damage_index(lambda d: d['items'][1].update(ann_id=[[1]])),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_damaged_results_are_one_line_that_names_the_file(scene, tmp_path, name):
    manifest, predictions = scene
    out = save(predictions, tmp_path / 'results', 'depth')
    DAMAGES[name](out)
    done = run(out, '--ann-file', manifest, '--task', 'depth', '--show-worst', 1, '--show-dir', tmp_path / 'worst')
    assert done.code == 1 and done.error.count('\n') == 1 and str(out) in done.error, done.error


def edited(manifest, folder, change):
    """A copy of a manifest whose persons are changed."""
    shutil.copytree(manifest, folder)
    for path in folder.glob('*.jsonl'):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            change(line['persons'])
        path.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    return folder


@pytest.mark.parametrize(
    'extra',
    [dict(), dict(keypoints=None), dict(keypoints=[]), dict(keypoints=[[0, 0, 0]] * 17), dict(keypoints=[0] * 51)],
)
def test_persons_of_a_manifest_that_nobody_labelled_do_not_count(scene, tmp_path, extra):
    manifest, predictions = scene
    out = save(predictions, tmp_path / 'r.json', 'pose', 'coco17')
    figures = []
    for name, change in (('same', lambda p: None), ('more', lambda p: p.append({'bbox': [1, 1, 9, 9], **extra}))):
        other = edited(manifest, tmp_path / name, change)
        done = run(out, '--ann-file', other, '--task', 'pose', '--json', tmp_path / 'o.json', '--pck')
        assert done.code == 0, done.error
        written = json.loads((tmp_path / 'o.json').read_text())
        figures.append([written[key] for key in ('AP', 'AR', 'PCK', 'NME')])
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    'extra',
    [
        7,
        dict(bbox=[1, 2]),
        dict(bbox=[1, 1, 9, 9], keypoints=[1, 2]),
        dict(bbox='x'),
        dict(bbox=[1, 1, 9, 9], keypoints='x'),
    ],
)
def test_malformed_persons_of_a_manifest_are_one_line(scene, tmp_path, extra):
    manifest, predictions = scene
    out = save(predictions, tmp_path / 'r.json', 'pose', 'coco17')
    done = run(out, '--ann-file', edited(manifest, tmp_path / 'm', lambda p: p.append(extra)), '--task', 'pose')
    assert done.code == 1 and done.error.count('\n') == 1 and str(tmp_path / 'm') in done.error, done.error
