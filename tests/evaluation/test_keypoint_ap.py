# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from in_process import run_tool
from people import COCO, FIELDS, perturbed, read_coco, samples_of, whole_body

from sapiens.errors import UserError
from sapiens.evaluation import KeypointAP
from sapiens.evaluation.oks import FIGURES, PointSet
from sapiens.evaluation.persons import oks_nms
from sapiens.structures.coco_results import read_coco_results
from sapiens.vocabularies import keypoint_map, load_vocabulary

TYPES = {
    'body': 'keypoints_body',
    'foot': 'keypoints_foot',
    'face': 'keypoints_face',
    'left_hand': 'keypoints_lefthand',
    'right_hand': 'keypoints_righthand',
    '': 'keypoints_wholebody',
}


def write(path, document):
    path.write_text(json.dumps(document))
    return path


def ours(ann_file, results, vocabulary, **kwargs):
    metric = KeypointAP(ann_file=ann_file, vocabulary=vocabulary, **kwargs)
    return metric.evaluate_results(read_coco_results(results, metric.vocabulary, metric.labels)[0])


def figures(report, part=''):
    return np.array([report.metrics[f'{part}_{name}' if part else name] for name in FIGURES])


def faster(document, results, sigmas):
    """The independent evaluator that comes with the core."""
    from faster_coco_eval import COCO as Api
    from faster_coco_eval import COCOeval_faster

    labels = json.loads(json.dumps(document))
    for annotation in labels['annotations']:
        annotation['num_keypoints'] = int((np.array(annotation['keypoints'])[2::3] > 0).sum())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = Api(labels)
        found = truth.loadRes(json.loads(json.dumps(results)))
        evaluation = COCOeval_faster(truth, found, 'keypoints', kpt_oks_sigmas=sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.array(evaluation.stats[:10])


@pytest.mark.parametrize('noise', [0.02, 0.05, 0.1])
@pytest.mark.parametrize('seed', [0, 1])
def test_coco_equals_faster_coco_eval(tmp_path, noise, seed):
    document = read_coco()
    results = perturbed(document, noise, seed)
    report = ours(COCO, write(tmp_path / 'r.json', results), 'coco17')
    got = figures(report)
    assert 0 < got[0] < 1
    np.testing.assert_allclose(got, faster(document, results, load_vocabulary('coco17').sigmas), atol=1e-6)


@pytest.mark.parametrize('noise', [0.02, 0.05, 0.1])
def test_coco_equals_pycocotools(tmp_path, noise):
    pycocotools = pytest.importorskip('pycocotools.coco', exc_type=ImportError)
    from pycocotools.cocoeval import COCOeval

    results = write(tmp_path / 'r.json', perturbed(read_coco(), noise))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = pycocotools.COCO(str(COCO))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), 'keypoints')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    np.testing.assert_allclose(figures(ours(COCO, results, 'coco17')), evaluation.stats, atol=1e-6)


@pytest.mark.parametrize('noise', [0.01, 0.03])
def test_whole_body_parts_equal_xtcocotools(tmp_path, noise):
    xtcocotools = pytest.importorskip('xtcocotools.coco', exc_type=ImportError)
    from xtcocotools.cocoeval import COCOeval

    labels = write(tmp_path / 'gt.json', whole_body(read_coco()))
    results = write(tmp_path / 'r.json', perturbed(json.loads(labels.read_text()), noise, fields=FIELDS))
    report = ours(labels, results, 'wholebody133')
    vocabulary = load_vocabulary('wholebody133')
    for part, kind in TYPES.items():
        sigmas = vocabulary.sigmas[vocabulary.groups[part]] if part else vocabulary.sigmas
        with contextlib.redirect_stdout(io.StringIO()):
            truth = xtcocotools.COCO(str(labels))
            evaluation = COCOeval(truth, truth.loadRes(str(results)), kind, sigmas, use_area=True)
            evaluation.params.useSegm = None
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        assert evaluation.stats[0] > 0
        np.testing.assert_allclose(figures(report, part), evaluation.stats, atol=1e-6, err_msg=part)
    hands = [figures(report, 'left_hand'), figures(report, 'right_hand')]
    np.testing.assert_allclose(figures(report, 'hand'), np.mean(hands, 0))


def test_whole_body_equals_faster_coco_eval(tmp_path):
    """Without xtcocotools: all 133 points as one ordinary keypoint set, boxes of detections around the body."""
    document = whole_body(read_coco())
    results = perturbed(document, 0.02, fields=FIELDS)
    report = ours(write(tmp_path / 'gt.json', document), write(tmp_path / 'r.json', results), 'wholebody133')
    for entry in [*document['annotations'], *results]:
        entry['keypoints'] = [number for name in FIELDS for number in entry[name]]
    expected = faster(document, results, load_vocabulary('wholebody133').sigmas)
    # That tool takes a detection's area from all points, ours (as xtcocotools) from the body: M and L may differ.
    same = [i for i, name in enumerate(FIGURES) if name[-2:] not in ('_M', '_L')]
    np.testing.assert_allclose(figures(report)[same], expected[same], atol=1e-6)


def test_joined_and_split_files_give_the_same(tmp_path):
    document = whole_body(read_coco())
    results = perturbed(document, 0.02, fields=FIELDS)
    split = ours(write(tmp_path / 'gt.json', document), write(tmp_path / 'r.json', results), 'wholebody133')
    for entry in [*document['annotations'], *results]:
        entry['keypoints'] = [number for name in FIELDS for number in entry[name]]
    joined = ours(write(tmp_path / 'gt2.json', document), write(tmp_path / 'r2.json', results), 'wholebody133')
    assert split.metrics == joined.metrics


def one_point_set(person, detection, area, sigmas):
    common = dict(image_id=0, category_id=1, area=area, iscrowd=0)
    label = dict(common, keypoints=person, bbox=[0.0, 0, 20, 20])
    found = dict(common, keypoints=np.pad(detection, ((0, 0), (0, 1)), constant_values=1.0))
    return PointSet([label], [found], np.ones(1), np.arange(len(sigmas)), sigmas, 1)


def test_known_oks():
    sigmas, area = np.array([0.05, 0.1]), 400.0
    person = np.array([[10.0, 10, 2], [20, 20, 1]])
    detection = person[:, :2] + np.array([[3.0, 4.0], [0, 0]])
    expected = (np.exp(-25 / (2 * area * 0.1**2)) + 1) / 2
    assert one_point_set(person, detection, area, sigmas).best() == [(0, 0, 0, pytest.approx(expected))]
    person[0, 2] = 0  # what is not labelled does not count
    assert one_point_set(person, detection, area, sigmas).best()[0][3] == pytest.approx(1)


def test_perfect_and_half():
    samples = samples_of(read_coco(), noise=0)
    metric = KeypointAP(ann_file=COCO)
    metric.process(None, samples)
    found = metric.evaluate(len(samples))
    assert found['pose/AP'] == pytest.approx(1) and found['pose/AR'] == 1
    assert found['pose/AP_M'] == pytest.approx(1) and found['pose/AP_L'] == pytest.approx(1)
    # Two persons, the better scored detection right and the other nowhere: precision 1 up to recall 0.5.
    one = samples[:2]
    one[1] = {**one[1], 'pred_keypoints': one[1]['pred_keypoints'] + 1e4}
    one[0]['pred_keypoint_scores'] = np.ones(17)
    metric = KeypointAP(nms_threshold=None)
    metric.process(None, one)
    assert metric.evaluate(2)['pose/AP'] == pytest.approx(51 / 101)


def test_images_of_another_file_with_the_same_ids_are_told():
    """The evaluator's file was that of training, the data set's that of validation, both counted from 0: AP was 0."""
    samples = samples_of(read_coco(), noise=0)
    for path in ('/a/b/785.png', 'x/000000000785.jpg', 'set.tar#000000000785.jpg'):
        metric = KeypointAP(ann_file=COCO)
        metric.process(None, [{**samples[0], 'img_path': path}])
        assert metric.evaluate(1)['pose/AP'] > 0
    metric = KeypointAP(ann_file=COCO)
    metric.process(None, [{**samples[0], 'img_path': 'val/0001.jpg'}])
    with pytest.raises(
        UserError, match=r"image 785 is '000000000785.jpg' there, but 'val/0001.jpg' was predicted; leave"
    ):
        metric.evaluate(1)


def test_labels_from_samples_are_mapped_back():
    samples = samples_of(read_coco())
    plain, warped = KeypointAP(), KeypointAP()
    plain.process(None, samples)
    matrix = np.array([[0.5, 0.1, 7.0], [-0.1, 0.5, -3.0]])
    for sample in samples:
        moved = sample['gt_keypoints'].astype(float) @ matrix[:, :2].T + matrix[:, 2]
        warped.process(None, [{**sample, 'gt_keypoints': moved, 'warp_mat': matrix}])
    a, b = plain.evaluate(len(samples)), warped.evaluate(len(samples))
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value == pytest.approx(b[name], abs=1e-4)
    assert 0 < a['pose/AP'] < 1
    nameless = KeypointAP()  # a data set without ids: images are told apart by their files
    for sample in samples:
        nameless.process(None, [{**sample, 'img_id': None, 'img_path': f'{sample["img_id"]:06d}.jpg'}])
    assert nameless.evaluate(len(samples)) == a


def test_rescoring():
    samples = samples_of(read_coco())[:1]
    samples[0].update(bbox_score=0.5, pred_keypoint_scores=np.array([0.1] * 7 + [0.6] * 10))
    expected = {'bbox': 0.5, 'keypoint': (0.7 + 6) / 17, 'bbox_keypoint': 0.5 * 0.6}
    for mode, score in expected.items():
        metric = KeypointAP(ann_file=COCO, score_mode=mode)
        metric.process(None, samples)
        assert metric.results[0]['result'].score == pytest.approx(score)


def test_nms_keeps_the_better_of_two():
    sigmas = load_vocabulary('coco17').sigmas
    person = np.random.default_rng(0).uniform(0, 100, (17, 2))
    points = np.stack([person, person + 0.5, person + 300])
    kept = oks_nms(points, np.array([0.5, 0.9, 0.1]), np.full(3, 1e4), sigmas, 0.9)
    assert kept.tolist() == [1, 2]
    assert oks_nms(points, np.array([0.5, 0.9, 0.1]), np.full(3, 1e4), sigmas, 1.0).tolist() == [1, 0, 2]


def test_detector_boxes_with_duplicates():
    """Detector boxes come without ``ann_id``: duplicates go by NMS, false boxes cost precision."""
    samples = samples_of(read_coco(), noise=0.01)
    boxes = []
    for i, sample in enumerate(samples):
        sample = {**sample, 'ann_id': None, 'bbox_score': 0.9}
        shifted = {
            **sample,
            'bbox': sample['bbox'] + 1,
            'bbox_score': 0.8,
            'pred_keypoints': sample['pred_keypoints'] + 0.1,
        }
        boxes += [sample, shifted] if i % 2 else [sample]
    figures = {}
    for threshold in (0.9, None):
        metric = KeypointAP(ann_file=COCO, nms_threshold=threshold)
        metric.process(None, boxes)
        figures[threshold] = metric.evaluate(len(boxes))
        if threshold:
            assert '6 removed' in metric.report.protocol['predictions']
    assert figures[0.9]['pose/AP'] > figures[None]['pose/AP']
    assert figures[0.9]['pose/AR'] == figures[None]['pose/AR']


def test_114_common_points(tmp_path):
    """Predictions of 308 points scored against whole-body labels: only what both have, converted right."""
    document = whole_body(read_coco())
    mapping = keypoint_map('keypoints308', 'wholebody133', derived=False)
    assert len(mapping) == 114
    large, exact = [], []
    for result in perturbed(document, 0.02, copies=1, fields=FIELDS):
        points = np.concatenate([np.reshape(result[name], (-1, 3)) for name in FIELDS])
        points[:, 2] = 0.9
        many = np.full((308, 3), 5e3)
        for target, (source,) in mapping.items():
            many[source] = points[target]
        base = {'image_id': result['image_id'], 'category_id': 1, 'score': result['score']}
        large.append({**base, 'keypoints': many.reshape(-1).tolist()})
        exact.append({**base, 'keypoints': points.reshape(-1).tolist()})
    labels = write(tmp_path / 'gt.json', document)
    converted = ours(labels, write(tmp_path / 'a.json', large), 'keypoints308', gt_vocabulary='wholebody133')
    direct = ours(labels, write(tmp_path / 'b.json', exact), 'wholebody133', points='common')
    assert converted.metrics == direct.metrics
    assert '114 points' in converted.protocol['keypoints']
    assert converted.metrics['AP'] != ours(labels, tmp_path / 'b.json', 'wholebody133').metrics['AP']
    assert {'body_AP', 'foot_AP', 'face_AP', 'left_hand_AP', 'hand_AR_L', 'AP'} <= set(converted.metrics)


def test_common_points_of_308_labels(tmp_path):
    """Labels and predictions of 308 points, restricted to the 114, score as the same persons in 133 points."""
    document = whole_body(read_coco())
    mapping = keypoint_map('keypoints308', 'wholebody133', derived=False)
    results = perturbed(document, 0.02, fields=FIELDS)
    for entry in [*document['annotations'], *results]:
        entry['keypoints'] = [number for name in FIELDS for number in entry.pop(name)]
    small = ours(
        write(tmp_path / 'gt.json', document), write(tmp_path / 'r.json', results), 'wholebody133', points='common'
    )
    for entry in [*document['annotations'], *results]:
        points, many = np.reshape(entry['keypoints'], (-1, 3)), np.full((308, 3), 7.0)
        for target, (source,) in mapping.items():
            many[source] = points[target]
        entry['keypoints'] = many.reshape(-1).tolist()
    del document['categories'][0]['keypoints']  # names of 17 points
    large = ours(
        write(tmp_path / 'gt2.json', document), write(tmp_path / 'r2.json', results), 'keypoints308', points='common'
    )
    assert '114 points' in large.protocol['keypoints']
    sizes = {
        name: len(indices) for name, indices in KeypointAP(vocabulary='keypoints308', points='common')._parts().items()
    }
    assert sizes == {'whole': 114, 'body': 17, 'foot': 6, 'right_hand': 20, 'left_hand': 20, 'face': 51}
    assert large.metrics.keys() == small.metrics.keys()
    for name, value in small.metrics.items():
        assert large.metrics[name] == pytest.approx(value, abs=1e-12), name


def test_308_points_by_parts():
    vocabulary = load_vocabulary('keypoints308')
    random = np.random.default_rng(0)
    samples = [
        {
            'img_id': i,
            'bbox': [0, 0, 200, 300],
            'gt_keypoints': (points := random.uniform(0, 200, (308, 2))),
            'gt_keypoints_visible': np.full(308, 2.0),
            'pred_keypoints': points,
            'pred_keypoint_scores': np.ones(308),
        }
        for i in range(3)
    ]
    metric = KeypointAP(vocabulary='keypoints308')
    metric.process(None, samples)
    found = metric.evaluate(3)
    for part in vocabulary.groups:
        assert found[f'pose/{part}_AP'] == pytest.approx(1)
    assert found['pose/AP'] == pytest.approx(1) and found['pose/hand_AP'] == pytest.approx(1)


def test_missing_predictions_are_counted_and_scored(tmp_path):
    document = read_coco()
    results = perturbed(document, 0, copies=1)
    full = ours(COCO, write(tmp_path / 'a.json', results), 'coco17')
    some = [r for r in results if r['image_id'] != 197388]
    part = ours(COCO, write(tmp_path / 'b.json', some), 'coco17')
    assert full.metrics['AR'] == 1 and part.metrics['AR'] == pytest.approx(7 / 12)
    assert any('1 of 4 images with labelled persons have no prediction' in note for note in part.notes)
    assert not any('no prediction' in note for note in full.notes)


def test_undefined_figures_are_noted_and_as_coco_has_them(tmp_path):
    document = read_coco()
    document['annotations'] = [a for a in document['annotations'] if a['area'] > 96**2]
    report = ours(
        write(tmp_path / 'gt.json', document), write(tmp_path / 'r.json', perturbed(document, 0.01)), 'coco17'
    )
    assert report.metrics['AP_M'] == -1 and report.metrics['AP_L'] > 0
    assert any('AP_M' in note and 'n/a' in note for note in report.notes)
    row = report.tables[0].lines()[0]
    assert row[report.tables[0].columns.index('AP_M')] == 'n/a'


def test_bootstrap_is_reproducible_and_contains_the_figure(tmp_path):
    results = write(tmp_path / 'r.json', perturbed(read_coco(), 0.05))
    a = ours(COCO, results, 'coco17', bootstrap=50)
    b = ours(COCO, results, 'coco17', bootstrap=50)
    assert a.intervals == b.intervals
    low, high = a.intervals['AP']
    assert low <= a.metrics['AP'] <= high and low < high
    assert ours(COCO, results, 'coco17', bootstrap=50, seed=1).intervals['AP'] != a.intervals['AP']


def test_weights_are_repeated_images(tmp_path):
    """The bootstrap's weighted figures are those of a data set that really holds the images that often."""
    document = read_coco()
    results = perturbed(document, 0.06)
    metric = KeypointAP(ann_file=COCO)
    found, _ = read_coco_results(write(tmp_path / 'r.json', results), metric.vocabulary, metric.labels)
    order = sorted(metric.labels.images)
    lists = metric._truth(metric.labels.persons, order), metric._found(found, order, metric.labels)
    scores = np.array([r.score for r in found])
    points = PointSet(*lists, scores, np.arange(17), metric.sigmas, len(order))
    weights = {785: 1, 40083: 0, 196141: 1, 197388: 2}
    weighted = points.figures(np.array([weights[i] for i in order]))
    repeated = {'images': [], 'annotations': [], 'categories': document['categories']}
    found = []
    for image in document['images']:
        for copy in range(weights[image['id']]):
            new = image['id'] * 10 + copy
            repeated['images'].append({**image, 'id': new})
            own = [a for a in document['annotations'] if a['image_id'] == image['id']]
            repeated['annotations'] += [{**a, 'image_id': new, 'id': a['id'] * 10 + copy} for a in own]
            found += [{**r, 'image_id': new} for r in results if r['image_id'] == image['id']]
    expected = ours(write(tmp_path / 'gt.json', repeated), write(tmp_path / 'r2.json', found), 'coco17').metrics
    for name, value in weighted.items():
        assert value == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda d: d[0].update(image_id=7),
            'result 0 belongs to image 7, which .*keypoints.json does not list .*785',
        ),
        (lambda d: d[0].update(keypoints=[1, 2, 3]), r'result 0 has 1 keypoints.*17'),
        (lambda d: d[0].pop('score'), 'result 0 lacks score'),
        (lambda d: d[0]['keypoints'].__setitem__(0, float('nan')), 'not finite'),
    ],
)
def test_wrong_results_are_one_line(tmp_path, change, message):
    results = perturbed(read_coco(), 0)
    change(results)
    with pytest.raises(UserError, match=message):
        ours(COCO, write(tmp_path / 'r.json', results), 'coco17')


def test_wrong_annotations_are_one_line(tmp_path):
    (tmp_path / 'bad.json').write_text('{"images": [')
    with pytest.raises(UserError, match='bad.json: not valid JSON'):
        KeypointAP(tmp_path / 'bad.json')
    with pytest.raises(UserError, match='no such'):
        KeypointAP(tmp_path / 'none.json')
    document = read_coco()
    for annotation in document['annotations']:
        annotation['keypoints'] = [0] * 51
    with pytest.raises(UserError, match='no person has a labelled keypoint'):
        KeypointAP(write(tmp_path / 'empty.json', document))
    with pytest.raises(UserError, match='17 keypoints.*133'):
        KeypointAP(COCO, 'wholebody133')


def test_wrong_sample_names_the_image():
    sample = samples_of(read_coco())[0]
    with pytest.raises(UserError, match=r"785.jpg: KeypointAP needs 'pred_keypoints'"):
        KeypointAP(ann_file=COCO).process(None, [{**sample, 'pred_keypoints': None}])
    with pytest.raises(UserError, match="17 keypoints predicted, but vocabulary 'wholebody133' has 133"):
        KeypointAP(vocabulary='wholebody133').process(None, [sample])
    with pytest.raises(UserError, match='nothing was evaluated'):
        KeypointAP(ann_file=COCO).evaluate(0)


def test_command_line(tmp_path):
    """``tools/eval_results.py`` prints the table and writes the same figures."""
    results = write(tmp_path / 'r.json', perturbed(read_coco(), 0.05))
    arguments = [results, '--ann-file', COCO, '--task', 'pose', '--vocabulary', 'coco17', '--pck']
    outputs = ['--json', tmp_path / 'o.json', '--csv', tmp_path / 'o.csv', '--markdown', tmp_path / 'o.md']
    pictures = ['--show-worst', '2', '--show-dir', tmp_path / 'worst']
    done = run_tool('eval_results.py', *arguments, *outputs, *pictures)
    assert not done.code, done.error
    written = json.loads((tmp_path / 'o.json').read_text())
    report = ours(COCO, results, 'coco17')
    for name in FIGURES:
        assert written[name] == report.metrics[name]
        assert f'{report.metrics[name] * 100:.2f}' in done.out
    assert {'PCK', 'NME', 'AUC'} <= set(written)
    text = ' '.join(done.out.split())
    assert 'left_wrist' in text and 'arXiv 2408.12569' in text
    assert len(list((tmp_path / 'worst').glob('*.png'))) == 2
    failed = run_tool('eval_results.py', results, '--ann-file', tmp_path / 'no.json', '--task', 'pose')
    assert failed.code == 1 and failed.error.startswith('error: ') and failed.error.count('\n') == 1


@pytest.mark.parametrize('name', ['tiny', '0.3b', '1b', '2b'])
def test_configs_of_308_points_score_the_114_of_the_paper(name):
    from sapiens.engine.config import load_config
    from sapiens.registry import METRICS

    config = load_config(str(Path(__file__).parents[2] / f'configs/pose/sapiens_{name}_308kpt.py'))
    metrics = [METRICS.build(metric) for metric in config.test_evaluator]
    (metric,) = [metric for metric in metrics if isinstance(metric, KeypointAP)]
    assert len(metric.scored) == 114
