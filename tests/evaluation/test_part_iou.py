# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
import cv2
import numpy as np
import pytest
import torch

from sapiens.errors import UserError
from sapiens.evaluation import PartIoU, write_confusion
from sapiens.evaluation.analysis.outlines import boundary_counts, boundary_f


def sample(label, prediction, image=0):
    return {
        'img_id': image,
        'img_path': f'photo_{image}.jpg',
        'gt_part_map': torch.tensor(np.asarray(label), dtype=torch.uint8),
        'pred_part_map': torch.tensor(np.asarray(prediction), dtype=torch.uint8),
    }


def run(samples, **kwargs):
    metric = PartIoU(**{'vocabulary': 'parts20', 'boundary': False, **kwargs})
    metric.process(None, samples)
    return metric.evaluate(len(samples)), metric.report


def test_known_answers():
    label = [[0, 0, 1, 1], [2, 2, 2, 255]]
    prediction = [[0, 1, 1, 1], [2, 2, 0, 1]]
    found, report = run([sample(label, prediction)])
    # IoU: background 1/3, hat 2/3, hair 2/3; accuracy 1/2, 1, 2/3; 5 of 7 pixels right.
    assert found['seg/mIoU'] == pytest.approx((1 / 3 + 2 / 3 + 2 / 3) / 3)
    assert found['seg/mAcc'] == pytest.approx((1 / 2 + 1 + 2 / 3) / 3)
    assert found['seg/aAcc'] == pytest.approx(5 / 7)
    rows = {row[0]: row[1:] for row in report.tables[1].rows}
    assert rows['Hat'] == [pytest.approx(2 / 3), 1.0, pytest.approx(2 / 3), 2]
    assert rows['Glove'] == [None, None, None, 0]
    confusion = report.extra['confusion']
    assert confusion[0, 1] == 1 and confusion[2, 0] == 1 and confusion.sum() == 7


def test_counts_add_up_over_images():
    random = np.random.default_rng(0)
    pairs = [random.integers(0, 20, (2, 9, 11)) for _ in range(5)]
    many, _ = run([sample(*pair, image=i) for i, pair in enumerate(pairs)])
    joined, _ = run([sample(*np.concatenate(pairs, 2))])
    for name, value in many.items():
        assert value == pytest.approx(joined[name], abs=1e-12)


def test_absent_and_only_predicted_classes_are_noted_not_nan():
    found, report = run([sample([[0, 0, 1]], [[0, 2, 1]])])
    assert found['seg/mIoU'] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found['seg/mAcc'] == pytest.approx((1 / 2 + 1) / 2)
    notes = '\n'.join(report.notes)
    assert 'neither labelled nor predicted, in no mean: Glove' in notes
    assert 'predicted but nowhere labelled (IoU 0, in mIoU but not in mAcc): Hair' in notes


def test_ignored_class_is_left_out():
    found, report = run([sample([[0, 1, 1, 2]], [[0, 1, 0, 0]])], ignore=['Hair'])
    assert found['seg/aAcc'] == pytest.approx(2 / 3)
    assert 'ignored classes: Hair' in report.notes
    with pytest.raises(UserError, match="'Hare', which is not a class of 'parts20'"):
        PartIoU(vocabulary='parts20', ignore=['Hare'])


def test_everything_ignored_is_a_line():
    with pytest.raises(UserError, match='every labelled pixel is ignored'):
        run([sample([[255, 255]], [[0, 1]])])
    _, report = run([sample([[255, 255]], [[0, 1]]), sample([[1, 0]], [[1, 0]], 1)])
    assert any('1 images have no labelled pixel' in note for note in report.notes)


def test_lookup_tables():
    found, report = run([sample([[30, 2]], [[1, 7]])], label_map={30: 1}, pred_map=[0, 1, 2, 3, 4, 5, 6, 2])
    assert found['seg/aAcc'] == 1
    assert 'look-up table' in report.protocol['labels']
    with pytest.raises(UserError, match='label_map sends id 3 to 77'):
        PartIoU(vocabulary='parts20', label_map={3: 77})


def test_wrong_ids_and_sizes_name_the_image():
    with pytest.raises(UserError, match=r"photo_4.jpg: id 200 in the labels is not a class of 'parts28' \(0 to 27"):
        run([sample([[0, 200]], [[0, 0]], 4)], vocabulary='parts28')
    with pytest.raises(UserError, match=r'photo_0.jpg: pred_part_map is 1x2 but gt_part_map is 1x3 \(H x W\)'):
        run([sample([[0, 1, 2]], [[0, 1]])])
    with pytest.raises(UserError, match="photo_1.jpg: PartIoU needs 'gt_part_map'.*LoadLabels"):
        run([{'img_path': 'photo_1.jpg', 'pred_part_map': np.zeros((2, 2), np.uint8)}])


def test_a_prediction_of_ignore_is_wrong():
    found, _ = run([sample([[1, 1, 0, 0]], [[1, 255, 0, 0]])])
    assert found['seg/aAcc'] == pytest.approx(3 / 4)
    assert found['seg/mIoU'] == pytest.approx((1 / 2 + 1) / 2)


def test_records_stay_small():
    """Streaming: what is kept of an image does not grow with its size."""
    label = np.random.default_rng(0).integers(0, 3, (400, 300))
    metric = PartIoU(vocabulary='parts20')
    metric.process(None, [sample(label, label)])
    arrays = [v for v in metric.results[0].values() if isinstance(v, np.ndarray)]
    assert sum(a.nbytes for a in arrays) < 2000


def test_outline_of_a_shifted_square():
    label, prediction = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    label[10:30, 10:30] = 1
    prediction[10:30, 13:33] = 1
    assert boundary_f(boundary_counts(label, label, 2, 1))[1] == 1
    near, far = (boundary_f(boundary_counts(prediction, label, 2, t))[1] for t in (2, 3))
    # Within 3 pixels every outline pixel has its counterpart, within 2 the left and right sides have none.
    assert far == 1 and 0.4 < near < 0.6
    # The side of 20 pixels: 76 outline pixels; 17 of top and bottom overlap, and 2 more at each end are near.
    assert boundary_counts(prediction, label, 2, 0)[1].tolist() == [34, 76, 34, 76]


def test_outline_tolerance_is_euclidean():
    """Compared with a plain search over all pairs of outline pixels."""
    random = np.random.default_rng(3)
    maps = [(cv2.GaussianBlur(random.random((30, 34)), (0, 0), 2.5) > 0.5).astype(np.uint8) for _ in range(2)]
    outlines = []
    for ids in maps:
        padded = np.pad(ids, 1, mode='edge')
        neighbours = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
        outlines.append(np.argwhere((ids == 1) & np.any([n != 1 for n in neighbours], 0)))
    distance = np.linalg.norm(outlines[0][:, None] - outlines[1][None], axis=-1)
    for tolerance in (1, 2, 3):
        hits = [(distance.min(1) <= tolerance).sum(), (distance.min(0) <= tolerance).sum()]
        expected = [hits[0], len(outlines[0]), hits[1], len(outlines[1])]
        assert boundary_counts(*maps, 2, tolerance)[1].tolist() == expected


def test_border_and_ignored_regions_are_no_outline():
    label = np.ones((12, 12), np.uint8)
    assert boundary_counts(label, label, 2, 1)[1, 1] == 0
    label[:, 6:] = 255
    counts = boundary_counts(np.ones((12, 12), np.uint8), label, 2, 1, label == 255)
    assert counts[1].sum() == 0


def test_confusion_picture_and_intervals(tmp_path):
    random = np.random.default_rng(0)
    samples = [sample(random.integers(0, 20, (8, 8)), random.integers(0, 20, (8, 8)), i) for i in range(6)]
    found, report = run(samples, bootstrap=40, boundary=True)
    low, high = report.intervals['mIoU']
    assert low < high and set(report.intervals) == {'mIoU', 'mAcc', 'aAcc', 'mBF'}
    picture = cv2.imread(str(write_confusion(report, tmp_path / 'confusion.png')))
    assert picture is not None and min(picture.shape[:2]) > 20 * 20


def test_missing_prediction_counts_as_background():
    empty = {**sample([[1, 1, 0, 0]], [[0, 0, 0, 0]], 1), 'missing': True}
    found, report = run([sample([[1, 1, 0, 0]], [[1, 1, 0, 0]]), empty])
    assert found['seg/aAcc'] == pytest.approx(6 / 8)
    assert any('1 of 2 images have no prediction' in note for note in report.notes)
