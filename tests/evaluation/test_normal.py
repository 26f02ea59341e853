# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
import numpy as np
import pytest
import torch

from sapiens.errors import UserError
from sapiens.evaluation import NormalMetric
from sapiens.evaluation.analysis.axes import axis_evidence, describe_axes, detect_axes
from sapiens.evaluation.normal import EDGES, angular_error


def ball(height=80, width=60, radius=25, centre=(38, 30)):
    """Normals of a ball seen from the front: x right, y up, z towards the viewer; and its mask."""
    rows, columns = np.mgrid[:height, :width]
    x, y = (columns - centre[1]) / radius, -(rows - centre[0]) / radius
    mask = x**2 + y**2 < 0.98
    normals = np.stack([x, y, np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))]) * mask
    return normals.astype(np.float32), mask


def turned(normals, degrees):
    """Every vector turned by an angle about an axis at right angles to it."""
    axis = np.cross(normals, [0.3, -0.5, 0.9], axisa=0, axisc=0)
    axis /= np.maximum(np.linalg.norm(axis, axis=0), 1e-9)
    angle = np.radians(degrees)
    return normals * np.cos(angle) + np.cross(axis, normals, axis=0) * np.sin(angle)


def sample(prediction, label, mask=None, image=0):
    result = {
        'img_id': image,
        'img_path': f'{image}.jpg',
        'pred_normals': torch.tensor(np.asarray(prediction, np.float32)),
        'gt_normals': torch.tensor(np.asarray(label, np.float32)),
    }
    if mask is not None:
        result['gt_mask'] = torch.tensor(mask)[None]
    return result


def run(samples, **kwargs):
    metric = NormalMetric(**kwargs)
    metric.process(None, samples)
    return metric.evaluate(len(samples)), metric.report


def test_known_angles():
    z = np.array([[0.0, 0, 1]]).T
    for degrees in (0, 1e-4, 5, 90, 179.9999, 180):
        other = np.array([[np.sin(np.radians(degrees)), 0, np.cos(np.radians(degrees))]]).T
        assert angular_error(other, z)[0] == pytest.approx(degrees, abs=1e-9)
    assert angular_error(z * 7, z * 0.2)[0] == 0  # lengths do not matter
    assert angular_error(np.zeros((3, 1)), z)[0] == 90 and angular_error(z * np.nan, z)[0] == 90


def test_known_answers():
    normals, mask = ball()
    found, report = run([sample(turned(normals, 10), normals, mask)])
    assert found['normal/mean'] == pytest.approx(10, abs=1e-4)
    assert found['normal/median'] == pytest.approx(10, abs=0.005)
    assert found['normal/RMSE'] == pytest.approx(10, abs=1e-4)
    assert (found['normal/within_7.5'], found['normal/within_11.25']) == (0, 1)
    assert f'{mask.sum()} human pixels' in report.protocol['labels']


def test_set_figures_are_over_pixels_not_images():
    normals, mask = ball()
    small = mask & (np.arange(80)[:, None] < 25)
    samples = [sample(turned(normals, 4), normals, mask), sample(turned(normals, 20), normals, small, 1)]
    found, report = run(samples)
    a, b = mask.sum(), small.sum()
    assert found['normal/mean'] == pytest.approx((4 * a + 20 * b) / (a + b), abs=1e-4)
    assert found['normal/RMSE'] == pytest.approx(np.sqrt((16 * a + 400 * b) / (a + b)), abs=1e-4)
    assert found['normal/median'] == pytest.approx(4, abs=0.005)
    assert found['normal/within_5'] == pytest.approx(a / (a + b))
    assert [row['mean'] for row in report.per_image] == pytest.approx([4, 20], abs=1e-4)


def test_streaming_median_within_its_bound():
    normals, mask = ball()
    random = np.random.default_rng(0)
    for spread in (0.05, 0.5, 3.0):
        predictions = [normals + random.normal(0, spread, normals.shape) for _ in range(4)]
        found, report = run([sample(p, normals, mask, i) for i, p in enumerate(predictions)])
        errors = np.concatenate([angular_error(p.astype(np.float32)[:, mask], normals[:, mask]) for p in predictions])
        bound = 0.005 if found['normal/median'] < 30 else 0.05
        # The middle two of an even number of pixels may lie in neighbouring bins.
        assert found['normal/median'] == pytest.approx(np.median(errors), abs=2 * bound)
        assert f'within {bound}' in report.protocol['median']
        assert found['normal/mean'] == pytest.approx(errors.mean())
        assert found['normal/within_30'] == pytest.approx((errors <= 30).mean())
    assert EDGES[0] == 0 and EDGES[-1] == 180 and (np.diff(EDGES) > 0).all()


def test_unknown_and_masked_pixels_do_not_count():
    normals, mask = ball()
    prediction = np.where(mask, normals, 5.0)
    label = normals.copy()
    label[:, 30:34, 20:24] = 0
    label[:, 36, 30] = np.nan
    found, report = run([sample(prediction, label, mask)])
    assert found['normal/mean'] == pytest.approx(0, abs=1e-4)
    assert f'{mask.sum() - 17} human pixels' in report.protocol['labels']
    _, report = run([sample(normals, normals)])
    assert any('no human mask' in note for note in report.notes)


def test_useless_predictions_count_90():
    normals, mask = ball()
    found, report = run([sample(np.zeros_like(normals), normals, mask)])
    assert found['normal/mean'] == 90 and found['normal/median'] == pytest.approx(90, abs=0.05)
    assert any(f'{mask.sum()} predicted human pixels are zero' in note for note in report.notes)
    missing = {**sample(np.zeros_like(normals), normals, mask, 1), 'missing': True}
    found, report = run([sample(normals, normals, mask), missing])
    assert found['normal/mean'] == pytest.approx(45, abs=1e-3)
    assert any('1 of 2 images have no prediction' in note for note in report.notes)


def test_failures_are_one_line():
    normals, mask = ball()
    with pytest.raises(UserError, match='none of the 1 images has a human pixel with a known normal'):
        run([sample(normals, np.zeros_like(normals), mask)])
    with pytest.raises(UserError, match='0.jpg: pred_normals is 80x50 but gt_normals is 80x60'):
        run([sample(normals[..., :50], normals, mask)])


@pytest.mark.parametrize(
    ('signs', 'name'),
    [
        ((1, 1, 1), 'x-right y-up z-viewer'),
        ((1, -1, -1), 'opencv'),
        ((1, -1, 1), 'x-right y-down z-viewer'),
        ((-1, 1, 1), 'x-left y-up z-viewer'),
    ],
)
def test_axes_are_recognised(signs, name):
    normals, mask = ball()
    wrong = normals * np.array(signs, np.float32)[:, None, None]
    evidence = axis_evidence(wrong, mask)
    assert detect_axes(evidence) == signs
    assert describe_axes(evidence, name) is None
    if name != 'x-right y-up z-viewer':
        assert f"they look like '{name}'" in describe_axes(evidence)
        _, report = run([sample(normals, wrong, mask)])
        assert any(name in note and 'point the other way' in note for note in report.notes)
    else:
        assert not [note for note in run([sample(normals, normals, mask)])[1].notes if 'axes' in note or 'way' in note]


def test_axes_of_a_cropped_body_and_of_flat_surfaces():
    """The frame is no outline; a wall has none, so nothing is claimed about x and y."""
    normals, mask = ball()
    cropped = slice(20, 55), slice(12, 60)
    assert detect_axes(axis_evidence(normals[:, cropped[0], cropped[1]], mask[cropped])) == (1, 1, 1)
    wall = np.zeros((3, 30, 30), np.float32)
    wall[2] = 1
    assert detect_axes(axis_evidence(wall)) == (0, 0, 1)
    assert detect_axes(axis_evidence(np.zeros((3, 8, 8), np.float32))) == (0, 0, 0)
    for shape in ((1, 1), (1, 9), (1400, 2)):  # what a crop shows of a border, and large thin images
        assert np.isfinite(axis_evidence(np.ones((3, *shape), np.float32))).all()


def test_swapped_colour_channels_are_recognised():
    normals, mask = ball()
    assert 'red and blue seem swapped' in describe_axes(axis_evidence(normals[::-1], mask))
