# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Losses: reference values and gradients, formulas, and every way a batch can be empty or perfect."""

import math

import pytest
import torch
from reference import load

from sapiens.codecs import UDPHeatmap
from sapiens.models import KeypointMSELoss, KeypointOHKMLoss, NormalLoss, SiLogLoss, WeightedCrossEntropy
from sapiens.models.losses import pixel_accuracy, pose_accuracy
from sapiens.models.losses.depth import normalise_depth
from sapiens.models.losses.keypoint import squared_error

NUMBERS = load('losses')


def value_and_gradient(loss, pred, *args):
    pred = pred.detach().clone().requires_grad_()
    value = loss(pred, *args)
    value.backward()
    return value.detach(), pred.grad


def known(target):
    """The reference marks unknown normals by -1000."""
    return (target != -1000).all(1, keepdim=True)


REFERENCE = {
    'silog': lambda x, d: SiLogLoss()(x, d['target']),
    'silog_with_empty_sample': lambda x, d: SiLogLoss()(x, d['target']),
    'silog_pos': lambda x, d: SiLogLoss()(x, d['target']),
    'silog_perfect': lambda x, d: SiLogLoss()(x, d['target']),
    'normal_cosine': lambda x, d: NormalLoss()(x, d['target'], known(d['target']))['loss_cosine'],
    'normal_cosine_all_background': lambda x, d: NormalLoss()(x, d['target'], known(d['target']))['loss_cosine'],
    'normal_l1': lambda x, d: NormalLoss()(x, d['target'], known(d['target']))['loss_l1'],
    'normal_l1_all_background': lambda x, d: NormalLoss()(x, d['target'], known(d['target']))['loss_l1'],
    'ce_weighted': lambda x, d: WeightedCrossEntropy(d['class_weight'].tolist())(x, d['label']),
    'kpt_mse': lambda x, d: KeypointMSELoss()(x, d['target'], d['weights']),
    'kpt_ohkm4': lambda x, d: KeypointOHKMLoss(4)(x, d['target'], d['weights']),
    'kpt_ohkm11': lambda x, d: KeypointOHKMLoss(11)(x, d['target'], d['weights']),
}


@pytest.mark.parametrize('name', REFERENCE)
def test_value_and_gradient_match_the_reference(name):
    numbers = NUMBERS[name]
    pred = numbers.get('pred', numbers.get('logits', numbers.get('output')))
    value, gradient = value_and_gradient(REFERENCE[name], pred, numbers)
    assert float(value) == pytest.approx(numbers.get('loss', numbers.get('loss_mean')), rel=1e-4, abs=1e-7)
    expected = numbers['grad']
    if name == 'silog_perfect':
        # The root's gradient is NaN at a perfect fit in the reference; nothing is left to improve there.
        assert expected.isnan().all()
        expected = torch.zeros_like(expected)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-8)


def test_pytorchs_weighted_mean_and_accuracy():
    numbers = NUMBERS['ce_weighted']
    loss = WeightedCrossEntropy(numbers['class_weight'].tolist(), reduction='weighted')
    value = float(loss(numbers['logits'], numbers['label']))
    assert value == pytest.approx(numbers['torch_default_weighted_mean_for_contrast'], rel=1e-5)
    assert float(pixel_accuracy(numbers['logits'], numbers['label'])) == pytest.approx(numbers['acc'], rel=1e-5)


def test_pck_matches_the_reference():
    numbers = NUMBERS['kpt_mse']
    output, target, weights = numbers['output'], numbers['target'], numbers['weights']

    def peaks(heatmaps):
        index = heatmaps.flatten(2).argmax(-1)
        return torch.stack([index % 12, index // 12], -1).float()

    value = pose_accuracy(peaks(output), peaks(target), weights > 0, (16, 12))
    assert float(value) == pytest.approx(NUMBERS['pose_pck_acc']['avg'], rel=1e-5)


# ---------------------------------------------------------------------------------------------- keypoints


def codec_case(dtype=torch.float32):
    torch.manual_seed(0)
    codec = UDPHeatmap((64, 48), (32, 24), 2)
    points = torch.rand(3, 9, 2) * torch.tensor([60.0, 80.0]) - 8
    visible = torch.tensor([2.0, 1, 0, 2, 0.7, 2, 1, 0, 2]).expand(3, -1)
    gx, gy, weights = codec.factors(points, visible)
    rendered, _ = codec.encode(points, visible)
    return torch.randn(3, 9, 32, 24).to(dtype), (gx, gy), rendered, weights


@pytest.mark.parametrize('loss', [KeypointMSELoss(2.0), KeypointOHKMLoss(4), KeypointOHKMLoss(128)])
def test_factorised_error_is_the_rendered_error(loss):
    pred, factors, rendered, weights = codec_case()
    one, gradient_one = value_and_gradient(loss, pred, factors, weights)
    two, gradient_two = value_and_gradient(loss, pred, rendered, weights)
    torch.testing.assert_close(one, two, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient_one, gradient_two, rtol=1e-5, atol=1e-9)


def test_formulas_of_the_keypoint_losses():
    pred, _, rendered, weights = codec_case()
    errors = torch.stack([torch.stack([((p - t) ** 2).mean() for p, t in zip(a, b, strict=True)]) for a, b in
                          zip(pred, rendered, strict=True)])  # fmt: skip
    torch.testing.assert_close(KeypointMSELoss(0.5)(pred, rendered, weights), 0.5 * (errors * weights).mean())
    hard = (errors * weights**2).sort(1, descending=True).values[:, :2].mean()
    torch.testing.assert_close(KeypointOHKMLoss(2)(pred, rendered, weights), hard)


def test_hard_mining_trains_the_hardest_points_alone():
    pred, factors, _, weights = codec_case()
    pred[:, 3] += 5
    _, gradient = value_and_gradient(KeypointOHKMLoss(1), pred, factors, weights)
    assert gradient[:, 3].abs().sum() > 0 and gradient[:, [0, 1, 2, 4, 5, 6, 7, 8]].abs().sum() == 0


@pytest.mark.parametrize('loss', [KeypointMSELoss(), KeypointOHKMLoss(4)])
def test_keypoints_without_labels_and_perfect_fits(loss):
    pred, factors, rendered, weights = codec_case()
    value, gradient = value_and_gradient(loss, pred, factors, torch.zeros_like(weights))
    assert float(value) == 0 and not gradient.any()
    value, gradient = value_and_gradient(loss, rendered, factors, weights)
    assert abs(float(value)) < 1e-7 and float(gradient.abs().max()) < 1e-7


def test_keypoint_gradients_in_float64():
    pred, (gx, gy), rendered, weights = codec_case(torch.float64)
    pred = pred[:1, :3, :5, :6].requires_grad_()
    factors, weights = (gx[:1, :3, 4:10], gy[:1, :3, 4:9]), weights[:1, :3]
    for loss in (KeypointMSELoss(), KeypointOHKMLoss(2)):
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, factors, weights.double()), pred)
    assert squared_error(pred, factors).dtype == torch.float64


# ---------------------------------------------------------------------------------------------- depth


def depth_case(seed=0):
    torch.manual_seed(seed)
    target = torch.rand(2, 1, 6, 5) + 0.05
    target[:, :, :2] = 0
    return torch.rand(2, 1, 6, 5) + 0.1, target


@pytest.mark.parametrize('sqrt', [True, False])
def test_formula_of_silog(sqrt):
    pred, target = depth_case()
    expected = 0
    for p, t in zip(pred, target, strict=True):
        d = (t[t > 0].log() - p[t > 0].log()).double()
        value = d.square().mean() - 0.5 * d.mean() ** 2
        expected += (value.sqrt() if sqrt else value) / 2
    assert float(SiLogLoss(sqrt=sqrt)(pred, target)) == pytest.approx(float(expected), rel=1e-5)
    assert float(SiLogLoss(sqrt=sqrt, loss_weight=3)(pred, target)) == pytest.approx(3 * float(expected), rel=1e-5)


def test_scale_invariance_at_lambda_1():
    pred, target = depth_case()
    loss = SiLogLoss(lam=1.0)
    torch.testing.assert_close(loss(pred * 7, target), loss(pred, target), rtol=1e-4, atol=0)
    assert float(SiLogLoss()(pred * 7, target)) > float(SiLogLoss()(pred, target))


@pytest.mark.parametrize('options', [{}, dict(sqrt=False), dict(lam=1.0)])
def test_silog_without_people_is_0(options):
    pred, target = depth_case()
    value, gradient = value_and_gradient(SiLogLoss(**options), pred, torch.zeros_like(target))
    assert float(value) == 0 and not gradient.any()
    # one image without people among two: the other still trains, at half weight
    target[0] = 0
    value, gradient = value_and_gradient(SiLogLoss(**options), pred, target)
    alone = SiLogLoss(**options)(pred[1:], target[1:])
    torch.testing.assert_close(value, alone / 2)
    assert not gradient[0].any() and gradient[1].any() and torch.isfinite(gradient).all()


@pytest.mark.parametrize('options', [{}, dict(sqrt=False), dict(lam=1.0)])
@pytest.mark.parametrize('factor', [1.0, 1 + 1e-7])
def test_silog_at_a_perfect_fit(options, factor):
    _, target = depth_case()
    value, gradient = value_and_gradient(SiLogLoss(**options), target.clone() * factor, target)
    assert float(value) < 1e-6 and torch.isfinite(gradient).all()


def test_silog_of_zero_and_negative_predictions():
    pred, target = depth_case()
    for bad in (torch.zeros_like(pred), -pred, torch.full_like(pred, 1e-30)):
        value, gradient = value_and_gradient(SiLogLoss(), bad, target)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()


def test_normalised_depth_excludes_the_nearest_point():
    depth = torch.tensor([[[[5.0, 2.0, 3.0, 4.0]]], [[[7.0, 7.0, 7.0, 9.0]]], [[[1.0, 2.0, 3.0, 4.0]]]])
    mask = torch.tensor([[[[0, 1, 1, 1]]], [[[1, 1, 1, 0]]], [[[0, 0, 0, 0]]]]).bool()
    target = normalise_depth(depth, mask)
    # image 2 has one depth only, image 3 no people: nothing to learn from either
    assert target.flatten(1).tolist() == [[0, 0, 0.5, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    value = SiLogLoss(sqrt=False, lam=0)(torch.ones_like(depth), target)
    assert float(value) == pytest.approx(math.log(0.5) ** 2 / 2 / 3, rel=1e-5)


def test_silog_gradient_in_float64():
    pred, target = depth_case()
    pred = pred.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: SiLogLoss()(x, target.double()), pred)


# ---------------------------------------------------------------------------------------------- normals


def normal_case():
    torch.manual_seed(0)
    target = torch.nn.functional.normalize(torch.randn(2, 3, 4, 5), dim=1)
    return torch.randn(2, 3, 4, 5), target, torch.rand(2, 1, 4, 5) > 0.4


def test_formula_of_the_normal_loss():
    pred, target, valid = normal_case()
    p, t = (x.permute(0, 2, 3, 1)[valid[:, 0]] for x in (pred, target))
    losses = NormalLoss(l1_weight=2, cosine_weight=3)(pred, target, valid)
    assert float(losses['loss_l1']) == pytest.approx(float(2 * (p - t).abs().sum(1).mean()), rel=1e-5)
    cosine = (p * t).sum(1) / p.norm(dim=1)
    assert float(losses['loss_cosine']) == pytest.approx(float(3 * (1 - cosine).mean()), rel=1e-5)


def test_normals_ignore_what_lies_outside_the_mask():
    pred, target, valid = normal_case()
    expected = NormalLoss()(pred, target, valid)
    spoilt = NormalLoss()(pred.masked_fill(~valid, torch.nan), target.masked_fill(~valid, torch.inf), valid)
    for name, value in expected.items():
        torch.testing.assert_close(spoilt[name], value)


@pytest.mark.parametrize('name', ['loss_l1', 'loss_cosine'])
def test_normals_empty_zero_and_perfect(name):
    pred, target, valid = normal_case()

    def run(pred, target, valid):
        return value_and_gradient(lambda x: NormalLoss()(x, target, valid)[name], pred)

    value, gradient = run(pred, target, torch.zeros_like(valid))
    assert float(value) == 0 and not gradient.any()
    value, gradient = run(target, target, valid)
    assert float(value) == pytest.approx(0, abs=1e-6) and torch.isfinite(gradient).all()
    value, gradient = run(torch.zeros_like(pred), target, valid)
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


def test_normal_gradient_in_float64():
    pred, target, valid = normal_case()
    pred = pred.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sum(NormalLoss()(x, target.double(), valid).values()), pred)


# ---------------------------------------------------------------------------------------------- parts


def part_case():
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 5, 6))
    labels[:, 0] = 255
    return torch.randn(2, 4, 5, 6), labels, [0.1, 2.0, 3.0, 1.0]


def test_formulas_of_the_cross_entropy():
    logits, labels, weights = part_case()
    total = weight = 0
    for b in range(2):
        for y in range(1, 5):
            for x in range(6):
                label = int(labels[b, y, x])
                total -= weights[label] * float(logits[b, :, y, x].log_softmax(0)[label])
                weight += weights[label]
    # The plain mean counts ignored pixels as 0, as the published training does.
    assert float(WeightedCrossEntropy(weights)(logits, labels)) == pytest.approx(total / 60, rel=1e-5)
    weighted = WeightedCrossEntropy(weights, reduction='weighted', loss_weight=2)
    assert float(weighted(logits, labels)) == pytest.approx(2 * total / weight, rel=1e-5)
    for reduction in ('pixels', 'weighted'):
        one = WeightedCrossEntropy(None, reduction)(logits, labels)
        torch.testing.assert_close(one, WeightedCrossEntropy([1.0] * 4, reduction)(logits, labels))


@pytest.mark.parametrize('reduction', ['pixels', 'weighted'])
def test_cross_entropy_empty_and_perfect(reduction):
    logits, labels, weights = part_case()
    loss = WeightedCrossEntropy(weights, reduction)
    value, gradient = value_and_gradient(loss, logits, torch.full_like(labels, 255))
    assert float(value) == 0 and not gradient.any()
    sure = 100.0 * torch.nn.functional.one_hot(labels.clamp(max=3), 4).permute(0, 3, 1, 2)
    value, gradient = value_and_gradient(loss, sure, labels)
    assert float(value) == 0 and torch.isfinite(gradient).all()


def test_cross_entropy_gradient_in_float64():
    logits, labels, weights = part_case()
    logits, labels = logits[:1, :, :3, :3].double().requires_grad_(), labels[:1, :3, :3]
    for reduction in ('pixels', 'weighted'):
        loss = WeightedCrossEntropy(weights, reduction)
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, labels), logits)
    with pytest.raises(ValueError, match="reduction is 'pixels' or 'weighted', not 'mean'"):
        WeightedCrossEntropy(reduction='mean')


def test_accuracies():
    logits = torch.zeros(1, 3, 1, 4)
    logits[0, 1] = 1
    assert float(pixel_accuracy(logits, torch.tensor([[[1, 1, 0, 255]]]))) == pytest.approx(200 / 3)
    assert float(pixel_accuracy(logits, torch.full((1, 1, 4), 255))) == 0
    points = torch.tensor([[[10.0, 10.0], [0.0, 0.0], [5.0, 5.0]]])
    target = points + torch.tensor([0.2, 0.0])
    # x counts in tenths of the width: 0.2 of 48 / 10 is a hit, 0.3 is none
    assert float(pose_accuracy(points, target, torch.ones(1, 3).bool(), (64, 48))) == 1
    assert float(pose_accuracy(points, target + 0.2, torch.ones(1, 3).bool(), (64, 48))) == 0
    assert float(pose_accuracy(points, target, torch.zeros(1, 3).bool(), (64, 48))) == 0


# ---------------------------------------------------------------------------------------------- half precision


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    pred, factors, _, weights = codec_case()
    cases = [(KeypointMSELoss(), pred, (factors, weights)), (KeypointOHKMLoss(4), pred, (factors, weights))]
    pred, target = depth_case()
    cases.append((SiLogLoss(), pred, (target,)))
    pred, target, valid = normal_case()
    cases.append((lambda *args: sum(NormalLoss()(*args).values()), pred, (target, valid)))
    logits, labels, weights = part_case()
    cases.append((WeightedCrossEntropy(weights), logits, (labels,)))
    for loss, pred, args in cases:
        rounded = pred.to(dtype)
        value, gradient = value_and_gradient(loss, rounded, *args)
        exact, exact_gradient = value_and_gradient(loss, rounded.float(), *args)
        assert value.dtype == torch.float32 and gradient.dtype == dtype
        torch.testing.assert_close(value, exact)
        torch.testing.assert_close(gradient, exact_gradient.to(dtype))
