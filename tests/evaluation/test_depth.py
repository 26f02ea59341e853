# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
import numpy as np
import pytest
import torch

from sapiens.errors import UserError
from sapiens.evaluation import DepthMetric
from sapiens.evaluation.depth import align_median, align_scale_shift, depth_errors


def sample(prediction, label, mask=None, image=0):
    result = {
        'img_id': image,
        'img_path': f'{image}.jpg',
        'pred_depth': torch.tensor(np.asarray(prediction, np.float32))[None],
        'gt_depth': torch.tensor(np.asarray(label, np.float32))[None],
    }
    if mask is not None:
        result['gt_mask'] = torch.tensor(np.asarray(mask))[None]
    return result


def run(samples, **kwargs):
    metric = DepthMetric(**kwargs)
    metric.process(None, samples)
    return metric.evaluate(len(samples)), metric.report


@pytest.fixture
def scene():
    random = np.random.default_rng(0)
    label = random.uniform(1.5, 3.5, (20, 30))
    mask = np.zeros((20, 30), bool)
    mask[3:17, 5:25] = True
    return label, mask


def test_closed_form_alignment_recovers_scale_and_shift():
    label = np.random.default_rng(0).uniform(1, 4, 500)
    for scale, shift in [(2.5, 0.7), (0.01, -3), (-1.5, 9), (1e-6, 2), (400.0, -1e3)]:
        s, t = align_scale_shift((label - shift) / scale, label)
        assert s == pytest.approx(scale, rel=1e-6) and t == pytest.approx(shift, rel=1e-6)


def test_alignment_is_the_least_squares_solution():
    random = np.random.default_rng(1)
    p, g = random.normal(size=300), random.uniform(1, 3, 300)
    expected = np.linalg.lstsq(np.stack([p, np.ones(300)], 1), g, rcond=None)[0]
    np.testing.assert_allclose(align_scale_shift(p, g), expected, rtol=1e-10)
    assert align_scale_shift(np.full(50, 0.3), g[:50]) == (0.0, pytest.approx(g[:50].mean()))
    assert align_scale_shift(p[:1], g[:1]) == (0.0, g[0])


def test_known_errors():
    found = depth_errors(np.array([1.0, 2.0, 4.0, 10.0]), np.array([1.0, 1.0, 5.0, 9.0]))
    assert found['RMSE'] == pytest.approx(np.sqrt(3 / 4))
    assert found['AbsRel'] == pytest.approx((0 + 1 + 1 / 5 + 1 / 9) / 4)
    assert found['SqRel'] == pytest.approx((0 + 1 + 1 / 5 + 1 / 9) / 4)
    assert found['log10'] == pytest.approx((np.log10(2) + np.log10(5 / 4) + np.log10(10 / 9)) / 4)
    # Ratios 1, 2, 1.25 (not below 1.25), 1.11; 1.25^3 is 1.953.
    assert (found['delta_1'], found['delta_2'], found['delta_3']) == (0.5, 0.75, 0.75)


def test_affine_predictions_are_perfect_after_alignment(scene):
    label, mask = scene
    found, report = run([sample((label - 0.4) / 7, label, mask)])
    assert found['depth/RMSE'] == pytest.approx(0, abs=1e-6) and found['depth/delta_1'] == 1
    assert 'MiDaS' in report.protocol['alignment']
    scaled, _ = run([sample(label / 7, label, mask)], alignment='median')
    assert scaled['depth/RMSE'] == pytest.approx(0, abs=1e-6)
    assert run([sample((label - 0.4) / 7, label, mask)], alignment='median')[0]['depth/RMSE'] > 0.05
    metric_, report = run([sample(label + 0.1, label, mask)], alignment='none')
    assert metric_['depth/RMSE'] == pytest.approx(0.1, abs=1e-6)
    assert report.protocol['alignment'].startswith('none')


def test_median_scale():
    assert align_median(np.array([1.0, 2, 4]), np.array([3.0, 5, 6])) == pytest.approx(2.5)
    assert np.isnan(align_median(np.array([-1.0, -2]), np.array([1.0, 1])))


def test_only_human_pixels_count(scene):
    label, mask = scene
    prediction = np.where(mask, label, 1e5)
    assert run([sample(prediction, label, mask)])[0]['depth/RMSE'] == pytest.approx(0, abs=1e-6)
    parts = sample(prediction, label)
    parts['gt_part_map'] = torch.tensor(mask * 3, dtype=torch.uint8)
    assert run([parts])[0]['depth/RMSE'] == pytest.approx(0, abs=1e-6)
    _, report = run([sample(label, label)])
    assert any('no human mask' in note for note in report.notes)


def test_bad_labels_are_left_out(scene):
    label, mask = scene
    broken = label.copy()
    broken[4, 6:10] = [0, np.nan, np.inf, -2]
    found, report = run([sample(label, broken, mask)])
    assert found['depth/RMSE'] == pytest.approx(0, abs=1e-6)
    assert f'{mask.sum() - 4} human pixels' in report.protocol['labels']
    far = label.copy()
    far[4, 6] = 900
    assert run([sample(label, far, mask)], max_depth=100)[0]['depth/RMSE'] == pytest.approx(0, abs=1e-6)
    assert run([sample(label, far, mask)])[0]['depth/RMSE'] > 1
    _, report = run([sample(label, far, mask)], max_depth=100)
    assert any('1 labelled pixels are nearer' in note for note in report.notes)


def test_bad_predictions_are_neither_dropped_nor_nan(scene):
    label, mask = scene
    prediction = label / 3
    prediction[5, 6:9] = [np.nan, np.inf, -np.inf]
    found, report = run([sample(prediction, label, mask)])
    assert np.isfinite(list(found.values())).all() and 0 < found['depth/RMSE'] < 0.5
    assert any('3 predicted human pixels are NaN or infinite' in note for note in report.notes)
    found, _ = run([sample(np.full_like(label, np.nan), label, mask)])
    assert found['depth/RMSE'] == pytest.approx(label[mask].std(), rel=1e-5)


def test_degenerate_predictions_are_noted(scene):
    label, mask = scene
    found, report = run([sample(np.full_like(label, 0.3), label, mask)])
    assert found['depth/RMSE'] == pytest.approx(label[mask].std(), rel=1e-5)
    assert any('is constant in 1 images' in note for note in report.notes)
    _, report = run([sample(-label, label, mask)])
    assert any('Larger must be farther' in note for note in report.notes)
    _, report = run([sample(-label, label, mask)], alignment='median')
    assert any('not positive in 1 images' in note for note in report.notes)


def test_mean_over_images_and_intervals(scene):
    label, mask = scene
    shifts = [0.1, 0.2, 0.6]
    samples = [sample(label + s, label, mask, i) for i, s in enumerate(shifts)]
    found, report = run(samples, alignment='none', bootstrap=100)
    assert found['depth/RMSE'] == pytest.approx(np.mean(shifts), abs=1e-6)
    low, high = report.intervals['RMSE']
    assert 0.1 - 1e-6 <= low < 0.3 < high <= 0.6 + 1e-6
    assert [row['RMSE'] for row in report.per_image] == pytest.approx(shifts, abs=1e-6)


def test_empty_images_are_noted_and_empty_sets_are_a_line(scene):
    label, mask = scene
    nobody = sample(label, label, np.zeros_like(mask), 1)
    found, report = run([sample(label, label, mask), nobody])
    assert found['depth/RMSE'] == pytest.approx(0, abs=1e-6)
    assert any('1 of 2 images have fewer than 2 human pixels' in note for note in report.notes)
    with pytest.raises(UserError, match='none of the 1 images has 2 human pixels with known depth'):
        run([nobody])


def test_failures_name_the_image(scene):
    label, mask = scene
    with pytest.raises(UserError, match=r'0.jpg: pred_depth is 10x30 but gt_depth is 20x30'):
        run([sample(label[:10], label, mask)])
    with pytest.raises(UserError, match=r'0.jpg: the human mask is 10x30 but the labels are 20x30'):
        run([sample(label, label, mask[:10])])
    with pytest.raises(UserError, match="alignment 'affine' is none of"):
        DepthMetric(alignment='affine')


def test_bfloat16_predictions(scene):
    label, mask = scene
    one = sample(label, label, mask)
    one['pred_depth'] = one['pred_depth'].bfloat16()
    assert run([one])[0]['depth/RMSE'] < 0.01
