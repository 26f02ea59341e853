# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
import numpy as np
import pytest
import torch

from sapiens.errors import UserError
from sapiens.evaluation import PCK


def sample(errors, size=100.0, visible=None, image=0):
    """A person whose points are off by the given pixels, in a box of the given longer side."""
    labels = np.full((17, 2), 50.0)
    offsets = np.zeros((17, 2))
    offsets[:, 0] = errors
    return {
        'img_id': image,
        'bbox': np.array([0, 0, size, size / 2], np.float32),
        'gt_keypoints': torch.tensor(labels),
        'gt_keypoints_visible': torch.ones(17) if visible is None else torch.tensor(visible, dtype=torch.float32),
        'pred_keypoints': torch.tensor(labels + offsets),
    }


def run(samples, **kwargs):
    metric = PCK(**kwargs)
    metric.process(None, samples)
    return metric.evaluate(len(samples)), metric.report


def test_known_answers():
    errors = np.array([0] * 10 + [4] * 3 + [8] * 2 + [30, 80], float)
    found, report = run([sample(errors)])
    assert found['pose/PCK@0.05'] == pytest.approx(13 / 17)
    assert found['pose/PCK'] == found['pose/PCK@0.05']
    assert found['pose/PCK@0.1'] == pytest.approx(15 / 17)
    assert found['pose/NME'] == pytest.approx(errors.mean() / 100)
    assert found['pose/EPE'] == pytest.approx(errors.mean())
    # Closed form: a point off by e contributes 1 - e / T.
    assert found['pose/AUC'] == pytest.approx((10 + 3 * 0.92 + 2 * 0.84 + 0.4 + 0) / 17)
    rows = {row[0]: row for row in report.tables[1].rows}
    assert rows['nose'][1:] == [1, 1.0, 1.0, 1.0, 0.0]
    assert rows['right_ankle'][1:] == [1, 0.0, 0.0, 0.0, pytest.approx(0.8)]


def test_auc_is_the_integral_of_the_curve():
    errors = np.random.default_rng(0).uniform(0, 70, 17)
    found, _ = run([sample(errors)], thresholds=[0.5])
    grid = (np.arange(20000) + 0.5) / 20000 * 0.5
    curve = (errors[:, None] / 100 <= grid).mean(0)
    assert found['pose/AUC'] == pytest.approx(curve.mean(), abs=1e-4)


def test_macro_average_over_keypoints():
    """Each keypoint weighs the same, however often it is labelled."""
    nose = np.zeros(17)
    nose[0] = 1
    samples = [sample(np.zeros(17)), *(sample(np.full(17, 50.0), visible=nose, image=i) for i in (1, 2, 3))]
    found, _ = run(samples)
    assert found['pose/PCK'] == pytest.approx((0.25 + 16) / 17)


def test_unlabelled_points_never_count():
    visible = np.ones(17)
    visible[3:] = 0
    errors = np.array([0, 0, 0] + [1e6] * 14)
    found, report = run([sample(errors, visible=visible)])
    assert found['pose/PCK'] == 1 and found['pose/NME'] == 0
    assert any('14 keypoints are nowhere labelled' in note for note in report.notes)
    assert report.tables[1].lines()[-1][2:] == ['n/a'] * 4


def test_size_of_a_person():
    errors = np.full(17, 10.0)
    assert run([sample(errors)])[0]['pose/NME'] == pytest.approx(0.1)
    assert run([sample(errors)], norm='diagonal')[0]['pose/NME'] == pytest.approx(10 / np.hypot(100, 50))
    person = sample(errors)
    person['gt_keypoints'][5] = torch.tensor([90.0, 80.0])
    found, report = run([person], norm=('left_shoulder', 'right_shoulder'))
    assert report.protocol['size of a person'] == 'distance of left_shoulder and right_shoulder'
    expected = (16 * 10 + np.hypot(60 - 90, 50 - 80)) / 17 / 50
    assert found['pose/NME'] == pytest.approx(expected)
    with pytest.raises(UserError, match="norm 'head'"):
        PCK(norm='head')


def test_labels_are_mapped_back_from_the_input_frame():
    person = sample(np.full(17, 5.0))
    matrix = np.array([[2.0, 0, 30], [0, 2.0, -8], [0, 0, 1]])
    person['gt_keypoints'] = person['gt_keypoints'] * 2 + torch.tensor([30.0, -8.0])
    person['warp_mat'] = matrix
    assert run([person])[0]['pose/EPE'] == pytest.approx(5)


def test_missing_persons_are_counted_as_wrong():
    missing = {**sample(np.zeros(17), image=1), 'pred_keypoints': None, 'missing': True}
    found, report = run([sample(np.zeros(17)), missing])
    assert found['pose/PCK'] == 0.5 and found['pose/NME'] == 0
    assert any('1 of 2 persons have no prediction' in note for note in report.notes)


def test_failures_are_one_line():
    with pytest.raises(UserError, match='PCK: thresholds are empty'):
        PCK(thresholds=[])
    with pytest.raises(UserError, match='no person has a labelled keypoint'):
        run([sample(np.zeros(17), visible=np.zeros(17))])
    short = sample(np.zeros(17))
    short['pred_keypoints'] = short['pred_keypoints'][:5]
    with pytest.raises(UserError, match="image 0: 5 keypoints predicted, but vocabulary 'coco17' has 17"):
        run([short])
