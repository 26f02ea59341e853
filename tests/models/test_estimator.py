# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One backbone with one head or several: outputs, losses with mixed labels, flip test, predictions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine import dist

from sapiens.errors import UserError
from sapiens.models import HumanEstimator
from sapiens.registry import MODELS
from sapiens.structures import HumanDataSample
from sapiens.vocabularies import load_vocabulary

SIZE = (64, 48)
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
HEADS = dict(
    pose=dict(type='PoseHead', vocabulary='coco17', codec=dict(type='UDPHeatmap', sigma=2), deconv_channels=(16, 16),
              conv_channels=(16,)),
    seg=dict(type='PartHead', vocabulary='parts28', deconv_channels=(16,), conv_channels=(16,)),
    depth=dict(type='DepthHead', deconv_channels=(8,), conv_channels=(8,)),
    normal=dict(type='NormalHead', deconv_channels=(8,), conv_channels=(8,)),
)  # fmt: skip
LOSSES = {
    'pose.loss_kpt', 'pose.acc_pose', 'seg.loss_ce', 'seg.acc_seg', 'depth.loss_silog', 'normal.loss_l1',
    'normal.loss_cosine',
}  # fmt: skip


def build(*tasks, **options):
    torch.manual_seed(0)
    model = HumanEstimator(
        dict(type='SapiensViT', arch=ARCH, img_size=SIZE, patch_padding=2),
        {task: HEADS[task] for task in tasks or HEADS},
        **options,
    )
    for head in model.heads.values():
        torch.nn.init.normal_(head.final_layer.weight, std=0.3)
    return model


def inputs(count=2, seed=0):
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def sample(seed=0, **metainfo):
    """A sample with every label."""
    generator = torch.Generator().manual_seed(seed)
    full = HumanDataSample(metainfo=dict(img_shape=SIZE, **metainfo))
    full.gt_keypoints = torch.rand(17, 2, generator=generator) * 40
    full.gt_keypoints_visible = torch.ones(17)
    full.gt_part_map = torch.randint(0, 28, SIZE, generator=generator).to(torch.uint8)
    full.gt_depth = torch.rand(1, *SIZE, generator=generator) + 1
    full.gt_normals = torch.nn.functional.normalize(torch.randn(3, *SIZE, generator=generator), dim=0)
    return full


FIELDS = dict(pose='gt_keypoints', seg='gt_part_map', depth='gt_depth', normal='gt_normals')


def with_labels(task, seed=0):
    """A sample with the labels of one task alone (None: of no task)."""
    part = sample(seed)
    for name, field in FIELDS.items():
        if name != task:
            delattr(part, field)
    return part


# ---------------------------------------------------------------------------------------------- one pass


def test_several_heads_in_one_pass_equal_each_alone():
    together, x, samples = build().eval(), inputs(), [sample(0), sample(1)]
    calls = []
    together.backbone.register_forward_hook(lambda *_: calls.append(1))
    outputs, losses = together(x), together(x, samples, 'loss')
    assert len(calls) == 2, 'one pass of the backbone each'
    assert set(outputs) == set(HEADS) and set(losses) == LOSSES
    for task in HEADS:
        alone = build(task).eval()
        state = {k: v for k, v in together.state_dict().items() if k.startswith(('backbone.', f'heads.{task}.'))}
        alone.load_state_dict(state)
        torch.testing.assert_close(alone(x)[task], outputs[task])
        for name, value in alone(x, samples, 'loss').items():
            torch.testing.assert_close(value, losses[name])


def test_the_backbone_decides_widths_and_sizes():
    model = build()
    assert model.heads['pose'].in_channels == 32
    assert model.heads['pose'].codec.input_size == SIZE and model.heads['pose'].codec.heatmap_size == (16, 12)
    assert {name.split('.')[0] for name in model.state_dict()} == {'backbone', 'heads'}
    assert not [name for name in model.state_dict() if 'swap' in name or 'class_weight' in name]


def test_training_step_of_the_runner():
    model = build()
    images = [torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8) for _ in range(2)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=[sample(0), sample(1)]), True)
    total, logs = model.parse_losses(model(**data, mode='loss'))
    assert LOSSES | {'loss'} == set(logs)
    torch.testing.assert_close(total, sum(v for k, v in logs.items() if 'loss_' in k))
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_unknown_mode():
    with pytest.raises(ValueError, match="mode is 'tensor', 'loss' or 'predict', not 'test'"):
        build('depth')(inputs(), mode='test')


# ---------------------------------------------------------------------------------------------- mixed labels


def test_a_batch_of_mixed_labels():
    """Each sample trains the tasks it has labels for; the losses are those of the whole batch, others counting 0."""
    model = build().eval()
    x = inputs(4)
    samples = [with_labels(task, seed) for seed, task in enumerate(HEADS)]
    losses = model(x, samples, 'loss')
    assert set(losses) == LOSSES
    for i, task in enumerate(HEADS):
        alone = model(x[i : i + 1], samples[i : i + 1], 'loss')
        for name in LOSSES:
            if not name.startswith(task):
                if 'loss' in name and name in alone:
                    assert float(alone[name]) == 0
            elif 'acc' in name or task == 'normal':
                # accuracies and normals are means over what is labelled
                torch.testing.assert_close(losses[name], alone[name])
            else:
                torch.testing.assert_close(losses[name], alone[name] / 4)


@pytest.mark.parametrize('task', HEADS)
def test_without_labels_losses_are_0_and_every_parameter_gets_a_gradient(task):
    model = build(task).train()
    losses = model(inputs(), [with_labels(None), with_labels(None)], 'loss')
    names = {name for name in LOSSES if name.startswith(task + '.loss')}
    assert names <= set(losses)
    total = sum(losses[name] for name in names)
    assert float(total) == 0
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


def test_without_labels_a_broken_output_does_no_harm():
    for task, head in build().heads.items():
        output = torch.full((1, head.out_channels, 16, 12), torch.nan, requires_grad=True)
        losses = head.loss(output, [with_labels(None)])
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        if task != 'seg':  # a softmax of NaN stays NaN
            assert all(float(value.detach()) == 0 for value in losses.values())


def test_torchs_weighted_mean_runs_over_labelled_images_alone():
    head = {**HEADS['seg'], 'loss': dict(type='WeightedCrossEntropy', reduction='weighted')}
    model = MODELS.build(
        dict(type='HumanEstimator', backbone=dict(type='SapiensViT', arch=ARCH, img_size=SIZE), heads=dict(seg=head))
    ).eval()
    x = inputs()
    both = model(x, [with_labels('seg'), with_labels(None)], 'loss')['seg.loss_ce']
    torch.testing.assert_close(both, model(x[:1], [with_labels('seg')], 'loss')['seg.loss_ce'])


@pytest.mark.parametrize('task', ['normal', 'seg'])
def test_every_process_joins_the_count_of_pixels(task, monkeypatch):
    """A process without labels has to take part, or the others wait for ever."""
    model = build(task)
    if task == 'seg':
        model.heads['seg'].loss_module.reduction = 'weighted'
    counts = []
    monkeypatch.setattr(dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(dist, 'all_reduce', lambda tensor, op: counts.append((float(tensor), op)))
    model(inputs(1), [with_labels(None)], 'loss')
    model(inputs(1), [with_labels(task)], 'loss')
    assert len(counts) == 2 and counts[0] == (0.0, 'mean') and counts[1][0] > 0


def test_the_mean_over_two_processes_is_that_of_the_whole_batch(monkeypatch):
    """DDP averages over processes; with unequal numbers of pixels that is the mean over all of them."""
    model = build('normal').eval()
    x, samples = inputs(2), [sample(0), sample(1)]
    samples[1].gt_mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    samples[1].gt_mask[:, :8] = True
    whole = model(x, samples, 'loss')
    mean = (SIZE[0] * SIZE[1] + 8 * SIZE[1]) / 2
    monkeypatch.setattr(dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(dist, 'all_reduce', lambda tensor, op: tensor.fill_(mean))
    parts = [model(x[i : i + 1], samples[i : i + 1], 'loss') for i in range(2)]
    for name, value in whole.items():
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, value)


# ---------------------------------------------------------------------------------------------- predictions


def test_predictions_lie_in_the_original_frame():
    model = build(test_cfg=dict(flip_test=True)).eval()
    warp = np.array([[0.5, 0, 3], [0, 0.5, -2.0]])
    samples = [
        HumanDataSample(metainfo=dict(img_shape=SIZE, ori_shape=(90, 110), warp_mat=warp)),
        HumanDataSample(metainfo=dict(img_shape=SIZE, ori_shape=(128, 96))),
    ]
    returned = model(inputs(), samples, 'predict')
    assert returned is samples
    for out, shape in zip(samples, ((90, 110), (128, 96)), strict=True):
        assert out.pred_keypoints.shape == (17, 2) and out.pred_keypoint_scores.shape == (17,)
        assert out.pred_part_map.shape == shape and out.pred_part_map.dtype == torch.uint8
        assert out.pred_depth.shape == (1, *shape) and out.pred_normals.shape == (3, *shape)
        assert not out.pred_depth.requires_grad and not out.pred_keypoints.requires_grad
    # The crop ends at x = 2 (47.5 - 3) = 89 of 110 columns and starts at y = 3: nothing is known beyond.
    assert not samples[0].pred_depth[..., 90:].any() and samples[0].pred_depth[:, 6:, :88].all()
    points = model(inputs())['pose']
    assert points.requires_grad


def test_predictions_without_samples():
    out = build().eval()(inputs(), mode='predict')
    assert [tuple(o.pred_depth.shape) for o in out] == [(1, *SIZE)] * 2
    assert out[0].pred_part_map.shape == SIZE


def test_predictions_do_not_depend_on_the_frame_they_are_asked_in():
    """A keypoint found in the crop is the same point of the original through any warp."""
    model, x = build('pose').eval(), inputs(1)
    inside = model(x, mode='predict')[0].pred_keypoints
    warp = np.array([[0.4, 0.3, 5], [-0.3, 0.4, 20.0]])
    meta = dict(img_shape=SIZE, ori_shape=(200, 200), warp_mat=warp)
    found = model(x, [HumanDataSample(metainfo=meta)], 'predict')[0].pred_keypoints
    torch.testing.assert_close(found @ torch.tensor(warp[:, :2].T).float() + torch.tensor(warp[:, 2]).float(), inside,
                               atol=1e-3, rtol=1e-4)  # fmt: skip


def test_flip_test_makes_predictions_symmetric():
    """With the flip test the mirrored image gives the mirrored prediction, whatever the weights."""
    model, x = build().eval(), inputs()
    outputs, mirrored = model.outputs(x, True), model.outputs(x.flip(-1), True)
    for task, head in model.heads.items():
        torch.testing.assert_close(head.flip_back(mirrored[task]), outputs[task], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(model.outputs(x)[task], outputs[task], atol=1e-3)
    swap = load_vocabulary('parts28').swap
    left = int(np.flatnonzero(swap != np.arange(28))[0])
    torch.testing.assert_close(mirrored['seg'][:, left], outputs['seg'][:, swap[left]].flip(-1), rtol=1e-4, atol=1e-4)


def test_one_pass_with_autocast():
    model = build().train()
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(inputs(), [sample(0), sample(1)], 'loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_compiled_estimator():
    model = build('pose', 'depth').eval()
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    x = inputs()
    for task, output in compiled(x).items():
        torch.testing.assert_close(output, model(x)[task])


# ---------------------------------------------------------------------------------------------- sides and patches


class Patches(torch.nn.Module):
    """An encoder without weights: the mean of each patch, the input padded as `SapiensViT` does."""

    def __init__(self, patch_size, pad):
        super().__init__()
        self.patch_size, self.pad, self.embed_dims = patch_size, pad, 3

    def forward(self, x):
        if self.pad:
            x = torch.nn.functional.pad(x, (0, -x.shape[3] % self.patch_size, 0, -x.shape[2] % self.patch_size))
        return (torch.nn.functional.avg_pool2d(x, self.patch_size),)


def see_through(model, cells):
    """Let the dense heads put out the encoder's features, ``cells`` output pixels for each patch."""
    for head in model.heads.values():
        head.forward = lambda feats, n=head.out_channels: torch.nn.functional.interpolate(
            feats[-1][:, :n], scale_factor=cells, mode='nearest'
        )
    return model.eval()


@pytest.mark.parametrize('pad', [True, False])
@pytest.mark.parametrize(('patch', 'cells'), [(16, 4), (16, 16), (14, 2), (8, 8)])
@pytest.mark.parametrize('size', [(120, 90), (56, 50), (112, 112)])
def test_borders_stay_where_they_are_when_patches_do_not_fit(size, patch, cells, pad):
    model = HumanEstimator(
        dict(type='SapiensViT', arch=ARCH, img_size=SIZE), dict(depth=HEADS['depth'], normal=HEADS['normal'])
    )
    model.backbone = Patches(patch, pad)
    see_through(model, cells)
    row, column = size[0] // patch // 2 * patch, size[1] // patch // 2 * patch
    x = torch.zeros(1, 3, *size)
    x[..., row:, :] += 1
    x[..., column:] += 1
    (sample,) = model.predict(x, heads=['depth'])
    seen = sample.pred_depth[0] > 0.5
    assert abs(int(seen[:, 0].nonzero().min()) - row) <= 1
    assert abs(int(seen[0].nonzero().min()) - column) <= 1
    output = model.outputs(x)['depth']
    assert output.shape[-1] == size[1] * cells // patch


def test_heatmaps_of_odd_sizes_have_the_size_that_the_codec_asks_for():
    model = HumanEstimator(dict(type='SapiensViT', arch=ARCH, img_size=(56, 50)), dict(pose=HEADS['pose']))
    x = torch.randn(2, 3, 56, 50)
    assert model.outputs(x)['pose'].shape[-2:] == model.heads['pose'].codec.heatmap_size == (14, 12)
    sample = HumanDataSample(metainfo=dict(img_shape=(56, 50)))
    sample.gt_keypoints, sample.gt_keypoints_visible = torch.rand(17, 2) * 40, torch.ones(17)
    assert torch.isfinite(model(x[:1], [sample], 'loss')['pose.loss_kpt'])


# ---------------------------------------------------------------------------------------------- the one predict


def test_predict_runs_chosen_heads_on_chosen_inputs():
    model, x = build().eval(), inputs(3)
    every = model.predict(x)
    some = model.predict(x, heads=['pose', 'depth'], rows={'depth': [2]})
    assert all('pred_part_map' not in s and 'pred_normals' not in s for s in some)
    assert ['pred_depth' in s for s in some] == [False, False, True]
    for a, b in zip(every, some, strict=True):
        torch.testing.assert_close(a.pred_keypoints, b.pred_keypoints)
    torch.testing.assert_close(every[2].pred_depth, some[2].pred_depth)
    assert model.predict(x, heads=['depth'], rows={'depth': []})[0].keys() == []


@pytest.mark.parametrize('task', HEADS)
def test_predict_takes_the_flip_test_of_the_call_before_that_of_the_config(task):
    x = inputs(1)
    configured, plain = build(task, test_cfg=dict(flip_test=True)).eval(), build(task).eval()
    field = dict(pose='pred_keypoint_scores', seg='pred_part_map', depth='pred_depth', normal='pred_normals')[task]
    torch.testing.assert_close(configured.predict(x)[0].get(field), plain.predict(x, flip_test=True)[0].get(field))
    torch.testing.assert_close(configured.predict(x, flip_test=False)[0].get(field), plain.predict(x)[0].get(field))


def test_batches_of_one_size_are_filled_up_for_compiled_parts():
    model, batch = build().eval(), inputs(3)
    rows = {'seg': [2], 'depth': []}
    with torch.no_grad():
        expected = model.outputs(batch, rows=rows)
        sizes = []
        model.backbone.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
        model._batch = 4  # as `compile_for` sets it
        found = model.outputs(batch, rows=rows)
    assert sizes == [4] and set(found) == set(expected) == {'pose', 'seg', 'normal'}
    for task, output in expected.items():
        torch.testing.assert_close(found[task], output, atol=1e-5, rtol=1e-4)


def test_outputs_are_averaged_over_scales():
    torch.manual_seed(0)
    heads = dict(depth=dict(type='sapiens.DepthHead', deconv_channels=(4, 4), conv_channels=()))
    backbone = dict(type='sapiens.SapiensViT', arch='tiny', img_size=(64, 48), stem='conv')
    model = MODELS.build(dict(type='sapiens.HumanEstimator', backbone=backbone, heads=heads)).eval()
    inputs = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        large = model.outputs(inputs)['depth']
        small = F.interpolate(inputs, size=(32, 32), mode='bilinear', align_corners=False)  # whole patches
        small = model.outputs(small.flip(-1))['depth'].flip(-1)  # seen mirrored
        model.test_cfg['scales'] = (0.6,)
        both, flipped = model.outputs(inputs)['depth'], model.outputs(inputs, flip_test=True)['depth']
        mirrored = model.outputs(inputs.flip(-1))['depth'].flip(-1)
    assert both.shape == large.shape and small.shape != large.shape
    small = F.interpolate(small, size=large.shape[-2:], mode='bilinear', align_corners=False)
    torch.testing.assert_close(both, (large + small) / 2)
    torch.testing.assert_close(flipped, (both + mirrored) / 2)


@pytest.mark.parametrize(
    ('scales', 'message'),
    [(0.75, r'scales is 0\.75; give a list of numbers above 0')]
    + [((0.75, one), f'scales: one is {one!r}; give a number above 0') for one in (0, 'half', float('inf'))],
)
def test_scales_that_are_no_sizes_are_named(scales, message):
    backbone = dict(type='sapiens.SapiensViT', arch='tiny', img_size=(64, 48))
    with pytest.raises(UserError, match=message):
        HumanEstimator(backbone, {}, test_cfg=dict(scales=scales))
