# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Losses and predictions under autocast are those without it, for every head and loss there is."""

import inspect

import pytest
import torch
from test_estimator import build, inputs, sample

from sapiens.codecs import UDPHeatmap
from sapiens.models import KeypointMSELoss, KeypointOHKMLoss, heads, losses
from sapiens.models.heads.base import DeconvHead
from sapiens.utils.full_precision import full_precision


def autocast():
    return torch.autocast('cpu', torch.bfloat16)


def almost_perfect(count=24, seed=0):
    """Heatmaps a little off their targets: mean squared errors of about 4e-6."""
    generator = torch.Generator().manual_seed(seed)
    codec = UDPHeatmap((256, 192))
    points = torch.rand(2, count, 2, generator=generator) * 150 + 20
    gx, gy, weights = codec.factors(points, torch.ones(2, count))
    target = gy[..., :, None] * gx[..., None, :]
    level = torch.linspace(0.5, 1.5, count)[torch.randperm(count, generator=generator)][:, None, None]
    return target + 2e-3 * level * torch.randn(target.shape, generator=generator), (gx, gy), weights, target


@pytest.mark.parametrize('loss', [KeypointMSELoss(), KeypointOHKMLoss(8)], ids=['mse', 'ohkm'])
def test_small_keypoint_losses_are_exact(loss):
    """In bf16 a loss of 4e-6 came out negative, and hard mining chose by chance."""
    heatmaps, factors, weights, target = almost_perfect()
    exact = loss(heatmaps.double(), target.double(), weights.double())
    values, gradients = [], []
    for run in (False, True):
        leaf = heatmaps.clone().requires_grad_()
        with torch.autocast('cpu', torch.bfloat16, enabled=run):
            value = loss(leaf, factors, weights)
        value.backward()
        values.append(value.detach())
        gradients.append(leaf.grad)
    assert float(values[1]) == pytest.approx(float(exact), rel=1e-2)
    assert torch.equal(values[0], values[1])
    # The gradient tells which points were chosen.
    assert torch.equal(gradients[0], gradients[1])


def test_losses_of_every_head_and_predictions_are_those_without_autocast():
    model = build().eval()
    outputs = {task: output.detach() for task, output in model(inputs()).items()}
    for task, head in model.heads.items():
        samples = [sample(0), sample(1)]
        expected = head.loss(outputs[task], samples)
        head.predict(outputs[task], samples)
        predicted = {key: value.clone() for key, value in samples[0].items() if key.startswith('pred_')}
        others = [sample(0), sample(1)]
        with autocast():
            values = head.loss(outputs[task], others)
            head.predict(outputs[task], others)
        for name, value in expected.items():
            assert torch.equal(values[name], value), f'{task}.{name}'
        assert predicted
        for name, value in predicted.items():
            assert torch.equal(others[0].get(name), value), f'{task}.{name}'


def test_everything_that_must_be_exact_is_marked():
    """Every loss module and every head, also one that a user derives."""
    functions = [kind.forward for kind in vars(losses).values() if inspect.isclass(kind)]
    assert len(functions) >= 5
    for kind in vars(heads).values():
        if inspect.isclass(kind) and issubclass(kind, DeconvHead) and kind.loss is not DeconvHead.loss:
            functions += [kind.loss, kind.predict, kind.flip_back]

    class Own(DeconvHead):
        def loss(self, output, samples):
            return {'loss': torch.matmul(output, output.transpose(-1, -2)).sum()}

    marked = inspect.unwrap(Own.loss) is not Own.loss
    assert marked and all(inspect.unwrap(function) is not function for function in functions)
    own = Own(4, 2, (4,), (4,))
    x = torch.rand(1, 2, 8, 8)
    with autocast():
        value = own.loss(x, [])['loss']
    assert torch.equal(value, torch.matmul(x, x.transpose(-1, -2)).sum())


def test_heads_follow_the_encoder_but_for_their_last_layer():
    model = build().eval()
    seen = {}
    for task, head in model.heads.items():
        for part in ('conv_layers', 'final_layer'):
            head.get_submodule(part).register_forward_hook(
                lambda module, args, output, key=(task, part): seen.__setitem__(key, output.dtype)
            )
    expected = model(inputs())
    with autocast():
        outputs = model(inputs())
    assert {kind for (_, part), kind in seen.items() if part == 'conv_layers'} == {torch.bfloat16}
    assert {kind for (_, part), kind in seen.items() if part == 'final_layer'} == {torch.float32}
    seen.clear()
    model.backbone.to(torch.bfloat16)
    for head in model.heads.values():
        assert head.set_precision(torch.bfloat16).dtype == torch.bfloat16
    half = model(inputs().bfloat16())
    assert {kind for (_, part), kind in seen.items() if part == 'conv_layers'} == {torch.bfloat16}
    for task, value in expected.items():
        for other in (outputs[task], half[task]):
            assert other.dtype == torch.float32
            assert float((other - value).norm() / value.norm()) < 0.1


def test_tensors_in_lists_and_by_name():
    @full_precision
    def multiply(pair, *, factor=None):
        return torch.matmul(pair[0], factor), pair[1].dtype, factor.dtype

    a, b = torch.rand(8, 8), torch.rand(8, 8)
    with autocast():
        product, *kinds = multiply([a, b.bfloat16()], factor=b.half())
    assert kinds == [torch.float32, torch.float32]
    assert torch.equal(product, a @ b.half().float())


def test_it_leaves_no_trace_in_exported_graphs():
    model = build('pose', 'depth').eval()
    program = torch.export.export(model, (inputs(),))
    assert not any('autocast' in str(node.target) for node in program.graph.nodes)
    with torch.no_grad():
        for task, output in program.module()(inputs()).items():
            torch.testing.assert_close(output, model(inputs())[task])


def test_compiled_heads_know_both_worlds():
    model = build('pose').eval()
    head, feats = model.heads['pose'], torch.rand(1, 32, 4, 3)
    compiled = torch.compile(head, backend='eager', fullgraph=True)
    with torch.no_grad():
        for half in (False, True, False):
            with torch.autocast('cpu', torch.bfloat16, enabled=half):
                torch.testing.assert_close(compiled([feats]), head([feats]))
