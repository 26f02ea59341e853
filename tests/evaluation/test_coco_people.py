# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Scoring takes the persons that training takes: COCO files as annotation tools write them."""

import json
import types

import numpy as np
import pytest
from in_process import run_tool
from people import FIELDS, perturbed, read_coco, whole_body

from sapiens.errors import UserError
from sapiens.evaluation import KeypointAP
from sapiens.structures.coco_results import read_coco_results


def score(tmp_path, document, results, vocabulary='coco17', encoding='utf-8', **kwargs):
    (tmp_path / 'gt.json').write_text(json.dumps(document), encoding=encoding)
    (tmp_path / 'r.json').write_text(json.dumps(results), encoding=encoding)
    metric = KeypointAP(tmp_path / 'gt.json', vocabulary, **kwargs)
    found, _ = read_coco_results(tmp_path / 'r.json', metric.vocabulary, metric.labels, kwargs.get('category'))
    return metric.evaluate_results(found)


@pytest.fixture
def perfect():
    document = read_coco()
    labelled = [a for a in document['annotations'] if a['num_keypoints'] and not a['iscrowd']]
    document['annotations'] = labelled
    return document, perturbed(document, 0, copies=1)


@pytest.mark.parametrize('area', [None, 0, -5, 'missing'])
def test_areas_that_are_none(tmp_path, perfect, area):
    """As training: 0.53 of the box, and a note."""
    document, results = perfect
    for annotation in document['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['area'] = 0.53 * width * height
    results = perturbed(document, 0.05, copies=1)
    expected = score(tmp_path, document, results)
    for annotation in document['annotations']:
        annotation.pop('area') if area == 'missing' else annotation.update(area=area)
    report = score(tmp_path, document, results)
    assert report.metrics == expected.metrics and 0 < report.metrics['AP'] < 1
    count = len(document['annotations'])
    assert any(f'persons without an area, taken as 0.53 of the box: {count}' in note for note in report.notes)
    assert not any('area' in note for note in expected.notes)


@pytest.mark.parametrize('keypoints', [None, [], 'missing', [0] * 51])
def test_persons_that_nobody_labelled_do_not_count(tmp_path, perfect, keypoints):
    """However a file says so; a prediction of such a person is no false one."""
    document, results = perfect
    image = document['images'][0]['id']
    extra = dict(id=10**6, image_id=image, category_id=1, bbox=[300, 50, 200, 400], area=8e4, iscrowd=0)
    if keypoints != 'missing':
        extra['keypoints'] = keypoints
    document['annotations'].append(extra)
    points = [v for _ in range(17) for v in (400.0, 250.0, 1.0)]
    results.append(dict(image_id=image, category_id=1, score=2.0, keypoints=points))
    assert score(tmp_path, document, results).metrics['AP'] == pytest.approx(1)


def test_other_categories_are_not_persons(tmp_path, perfect):
    """A category with keypoints that is no person neither counts as labels nor as predictions, and can be chosen."""
    document, results = perfect
    names = document['categories'][0]['keypoints']
    document['categories'] = [
        {'id': 1, 'name': 'Person', 'keypoints': names},
        {'id': 7, 'name': 'statue', 'keypoints': names},
    ]
    for number, annotation in enumerate([dict(a) for a in document['annotations']]):
        points = np.reshape(annotation['keypoints'], (17, 3)) + [30, 0, 0]
        annotation.update(id=10**6 + number, category_id=7, keypoints=points.reshape(-1).tolist())
        document['annotations'].append(annotation)
    assert score(tmp_path, document, results).metrics['AP'] == pytest.approx(1)
    statues = perturbed({'annotations': [a for a in document['annotations'] if a['category_id'] == 7]}, 0, copies=1)
    mixed = score(tmp_path, document, results + [{**s, 'category_id': 7} for s in statues])
    assert mixed.metrics['AP'] == pytest.approx(1)
    for category in ('statue', 7):
        statue = score(tmp_path, document, [{**s, 'category_id': 7} for s in statues], category=category)
        assert statue.metrics['AP'] == pytest.approx(1)
    with pytest.raises(UserError, match="has no category 'horse'"):
        score(tmp_path, document, results, category='horse')


def test_points_in_another_order_follow_their_names(tmp_path, perfect):
    document, results = perfect
    order = np.random.default_rng(0).permutation(17)
    document['categories'][0]['keypoints'] = [document['categories'][0]['keypoints'][i] for i in order]
    for annotation in document['annotations']:
        annotation['keypoints'] = np.reshape(annotation['keypoints'], (17, 3))[order].reshape(-1).tolist()
    assert score(tmp_path, document, results).metrics['AP'] == pytest.approx(1)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_encodings(tmp_path, perfect, encoding):
    document, results = perfect
    assert score(tmp_path, document, results, encoding=encoding).metrics['AP'] == pytest.approx(1)
    done = run_tool('eval_results.py', tmp_path / 'r.json', '--ann-file', tmp_path / 'gt.json', '--task', 'pose')
    assert done.code == 0, done.error


@pytest.mark.parametrize('name', [lambda i: i['file_name'], lambda i: i['file_name'].rsplit('.', 1)[0],
                                  lambda i: f'some/where/{i["file_name"]}', lambda i: str(i['id'])])  # fmt: skip
def test_results_by_image_name(tmp_path, perfect, name):
    """What ``demo/image_demo.py`` saves names images by their files."""
    document, results = perfect
    names = {image['id']: name(image) for image in document['images']}
    results = [{**r, 'image_id': names[r['image_id']]} for r in results]
    assert score(tmp_path, document, results).metrics['AP'] == pytest.approx(1)


def test_own_results_of_an_image_round_trip(tmp_path, perfect):
    """The file that prediction leaves beside an image is scored as it is."""
    from sapiens.apis.saving import coco_results

    document, _ = perfect
    image = document['images'][0]
    people = [a for a in document['annotations'] if a['image_id'] == image['id']]

    class Person:
        def __init__(self, annotation):
            points = np.reshape(annotation['keypoints'], (17, 3))
            x, y, width, height = annotation['bbox']
            self.xy, self.scores = points[:, :2], np.ones(17)
            self.box, self.box_score = np.array([x, y, x + width, y + height]), 0.9

    document['images'], document['annotations'] = [image], people
    path = tmp_path / image['file_name']
    result = types.SimpleNamespace(
        path=path, name=path.stem, time=None, size=(480, 640), keypoints=[Person(a) for a in people]
    )
    results = coco_results(result)
    assert score(tmp_path, document, results).metrics['AP'] == pytest.approx(1)


def test_invalid_parts_of_whole_body_do_not_count(tmp_path):
    """``foot_valid`` and the like, as training has them: points of a part that is not valid are not labelled."""
    document = whole_body(read_coco())
    results = perturbed(document, 0.02, copies=1, fields=FIELDS)
    for annotation in document['annotations']:
        for part in ('foot', 'face', 'lefthand', 'righthand'):
            annotation[f'{part}_valid'] = part != 'face'
    flagged = score(tmp_path, document, results, 'wholebody133')
    for annotation in document['annotations']:
        annotation['face_kpts'] = [0] * (68 * 3)
    emptied = score(tmp_path, document, results, 'wholebody133')
    assert flagged.metrics == emptied.metrics and flagged.metrics['face_AP'] == -1 and flagged.metrics['AP'] > 0
