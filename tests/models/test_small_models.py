# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What small models have of their own: stem, shared neck, weights of keypoints, attention written out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sapiens.errors import UserError
from sapiens.models import PoseHead, SapiensViT
from sapiens.models.backbones.transformer import Attention
from sapiens.models.losses.keypoint import squared_error
from sapiens.registry import MODELS
from sapiens.structures import HumanDataSample
from sapiens.vocabularies import load_vocabulary

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


def estimator(**pose):
    return MODELS.build(
        dict(
            type='sapiens.HumanEstimator',
            backbone=dict(type='sapiens.SapiensViT', arch=ARCH, img_size=(64, 48), stem='conv', out_stem=True),
            neck=dict(type='sapiens.UpsamplingNeck', channels=(24, 16)),
            heads=dict(
                pose=dict(type='sapiens.PoseHead', vocabulary='keypoints308', codec=dict(type='sapiens.UDPHeatmap'),
                          deconv_channels=(), conv_channels=(), **pose),
                seg=dict(type='sapiens.PartHead', vocabulary='parts28', deconv_channels=(), conv_channels=()),
            ),
        )
    )  # fmt: skip


@pytest.mark.parametrize('size', [(64, 48), (70, 50)])
def test_heads_share_one_neck_at_a_quarter_of_the_input(size):
    model = estimator().eval()
    outputs = model.outputs(torch.randn(2, 3, *size), flip_test=True)
    height, width = (-(-n // 4) if n % 16 else n // 4 for n in size)
    assert outputs['pose'].shape[:2] == (2, 308) and outputs['seg'].shape[:2] == (2, 28)
    assert all(abs(out.shape[-2] - height) <= 1 and abs(out.shape[-1] - width) <= 1 for out in outputs.values())
    feats = model.backbone(torch.randn(1, 3, 64, 48))
    assert [tuple(f.shape[1:]) for f in feats] == [(48, 16, 12), (96, 8, 6), (32, 4, 3)]


def test_the_stem_looks_at_neighbours_and_the_whole_model_learns():
    model = estimator()
    x = torch.randn(1, 3, 64, 48)
    sum(out.square().mean() for out in model.outputs(x).values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if 'final' not in n)
    moved = x.clone()
    moved[..., :16, 15] += 1.0  # the last column of the first patch
    stem = model.backbone.patch_embed
    assert (stem(moved)[:, 1] != stem(x)[:, 1]).any()


def test_wrong_stems_are_named():
    with pytest.raises(UserError, match="neither 'patch' nor 'conv'"):
        SapiensViT(arch=ARCH, stem='convolutional')
    with pytest.raises(UserError, match="needs stem='conv'"):
        SapiensViT(arch=ARCH, out_stem=True)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_the_error_of_factorised_targets_is_that_of_rendered_ones(dtype):
    torch.manual_seed(0)
    heatmaps = torch.randn(2, 5, 8, 6, dtype=dtype, requires_grad=True)
    gx, gy = torch.rand(2, 5, 6, dtype=dtype), torch.rand(2, 5, 8, dtype=dtype)
    weights = torch.rand(2, 5, dtype=dtype)
    results = []
    for target in ((gx, gy), gy[..., :, None] * gx[..., None, :]):
        error = squared_error(heatmaps, target)
        (gradient,) = torch.autograd.grad((error * weights).sum(), heatmaps)
        results.append((error, gradient))
    torch.testing.assert_close(results[0], results[1])


def test_groups_of_keypoints_have_weights():
    head = estimator(group_weights=dict(body=5.0, face=0.5)).heads['pose']
    groups = load_vocabulary('keypoints308').groups
    assert (head.point_weights[groups['body']] == 5).all() and (head.point_weights[groups['face']] == 0.5).all()
    assert head.point_weights.sum() == 5 * 17 + 0.5 * 238 + 53
    with pytest.raises(UserError, match="no group 'legs'; it has body, foot"):
        estimator(group_weights=dict(legs=2.0))


def test_attention_written_out_is_the_fused_one():
    torch.manual_seed(0)
    layer, x = Attention(32, 2), torch.randn(2, 12, 32)
    with torch.no_grad():
        fused = layer(x)
    torch.testing.assert_close(layer(x), fused, rtol=1e-5, atol=1e-6)
    assert F.mse_loss(layer(x), fused) < 1e-10


def test_the_divergence_is_that_of_rendered_targets():
    from sapiens.models import KeypointDivergenceLoss

    torch.manual_seed(0)
    logits = torch.randn(2, 5, 8, 6, dtype=torch.float64, requires_grad=True)
    gx, gy = torch.rand(2, 5, 6, dtype=torch.float64), torch.rand(2, 5, 8, dtype=torch.float64)
    weights = torch.rand(2, 5, dtype=torch.float64)
    gx[0, 0], gy[0, 0], weights[0, 0] = 0, 0, 0  # not labelled
    loss = KeypointDivergenceLoss()(logits, (gx, gy), weights)
    target = (gy[..., :, None] * gx[..., None, :]).flatten(2)
    target = target / target.sum(-1, keepdim=True).clamp(min=1e-6)
    each = F.kl_div(logits.flatten(2).log_softmax(-1), target, reduction='none').sum(-1)
    expected = (each * weights).sum() / weights.sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], torch.autograd.grad(expected, logits)[0])
    perfect = target.clamp(min=1e-30).log().unflatten(2, (8, 6)).float()
    assert KeypointDivergenceLoss()(perfect, (gx.float(), gy.float()), weights.float()) < 1e-5
    assert KeypointDivergenceLoss()(perfect, (gx, gy), torch.zeros(2, 5)) == 0


def test_probabilities_are_maps_with_a_peak_of_one():
    codec = dict(type='sapiens.UDPHeatmap', input_size=(256, 192), sigma=2.0)
    loss = dict(type='sapiens.KeypointDivergenceLoss')
    head = PoseHead(8, 'keypoints308', codec, deconv_channels=(), conv_channels=(), loss=loss)
    points = torch.tensor([[[80.0, 130.0]]]).expand(1, 308, 2)
    target, _ = head.codec.encode(points, torch.full((1, 308), 2.0))
    head.final_layer = torch.nn.Identity()
    logits = target.clamp(min=1e-9).log()
    assert torch.equal(head.train()(logits), logits)
    maps = head.eval()(logits)
    assert maps.amax() == pytest.approx(float(target.amax()), rel=0.1)
    found, scores = head.codec.decode(maps)
    assert (found - points).norm(dim=-1).max() < 0.3 and (scores > 0.8).all() and (scores <= 1.05).all()


def test_a_person_is_seen_where_its_parts_together_are_likelier_than_the_background():
    widths = dict(deconv_channels=(), conv_channels=(), dropout=0.0)
    head = MODELS.build(dict(type='sapiens.PartHead', in_channels=4, vocabulary='parts28', person_first=True, **widths))
    torch.manual_seed(0)
    torch.nn.init.normal_(head.final_layer.weight)
    torch.nn.init.constant_(head.final_layer.bias[:1], 4.0)
    x = torch.randn(2, 4, 8, 6)
    plain, decided = head.train()(x), head.eval()(x)
    person = 1 - plain.softmax(1)[:, 0]
    assert ((decided.argmax(1) > 0) == (person > 0.5)).all() and ((plain.argmax(1) > 0) != (person > 0.5)).any()
    assert (decided[:, 1:] == plain[:, 1:]).all()  # which part it is stays


@pytest.mark.parametrize('reduction', ['pixels', 'weighted'])
def test_class_weights_of_a_head_that_looks_for_persons_first_only_weigh_parts_against_each_other(reduction):
    widths = dict(in_channels=4, vocabulary='parts28', deconv_channels=(), conv_channels=(), dropout=0.0)
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 28, 8, 6, requires_grad=True), torch.randint(0, 28, (2, 8, 6))
    labels[0, :2], labels[1, 0] = 255, 0
    samples = [HumanDataSample(), HumanDataSample(), HumanDataSample()]  # the last has no labels
    samples[0].gt_part_map, samples[1].gt_part_map = labels
    weights = torch.linspace(0.1, 3.0, 28)

    def loss(person_first, class_weight):
        options = dict(class_weight=class_weight, reduction=reduction, loss_weight=2.0)
        head = MODELS.build(dict(type='sapiens.PartHead', person_first=person_first, loss=options, **widths))
        return head.loss(torch.cat([logits, torch.zeros(1, 28, 8, 6)]), samples)['loss_ce']

    people = labels.masked_fill(labels == 0, 255)
    parts = F.cross_entropy(logits[:, 1:], people - 1, weights[1:], ignore_index=254, reduction='none')
    nobody = logits.log_softmax(1)[:, 0].exp()
    person = -torch.where(labels > 0, 1 - nobody, nobody).log() * (labels != 255)
    count = 3 * 48 if reduction == 'pixels' else (weights[people.clamp(max=27)] * (people != 255)).sum()
    expected = 2 * (person.sum() / (3 * 48) + parts.sum() / count)
    torch.testing.assert_close(loss(True, weights.tolist()), expected)
    if reduction == 'pixels':  # without weights nothing changes
        torch.testing.assert_close(loss(True, None), loss(False, None))


def test_what_lies_apart_from_the_person_is_background():
    logits = torch.zeros(1, 28, 32, 24)
    logits[:, 0] = 1.0
    logits[:, 5, 4:28, 2:12], logits[:, 7, 10:20, 12:14] = 4.0, 4.0  # 240 + 20 pixels of two parts, one region
    logits[:, 3, 2:8, 16:24], logits[:, 9, 30:32, 20:24] = 4.0, 4.0  # 48 and 8 pixels
    sample = HumanDataSample(metainfo=dict(img_shape=(32, 24), ori_shape=(32, 24), warp_mat=np.eye(3)))
    seen = {}
    for share in (0.0, 0.1, 0.3):
        head = MODELS.build(dict(type='sapiens.PartHead', in_channels=4, vocabulary='parts28', least_region=share,
                                 deconv_channels=(), conv_channels=(), with_scores=True))  # fmt: skip
        head.predict(logits, [sample])
        assert sample.pred_part_scores.isfinite().all()
        seen[share] = {i: int((sample.pred_part_map == i).sum()) for i in (3, 5, 7, 9)}
    assert seen[0.0] == {3: 48, 5: 240, 7: 20, 9: 8}
    assert seen[0.1] == {**seen[0.0], 9: 0} and seen[0.3] == {**seen[0.1], 3: 0}
    assert logits[0, 0].eq(1).all()  # what the head put out stays
    head.predict(torch.zeros(1, 28, 32, 24).index_fill(1, torch.tensor([0]), 1.0), [sample])
    assert not sample.pred_part_map.any()  # nobody there


def test_outlines_without_parts_teach_where_people_are():
    widths = dict(deconv_channels=(), conv_channels=(), dropout=0.0)
    loss = dict(class_weight=None, loss_weight=2.0)
    head = MODELS.build(dict(type='sapiens.PartHead', in_channels=4, vocabulary='parts28', loss=loss, **widths))
    torch.manual_seed(0)
    logits = torch.randn(3, 28, 8, 6, requires_grad=True)
    mask, parts = torch.rand(1, 8, 6) > 0.5, torch.randint(0, 28, (8, 6))
    samples = [HumanDataSample(), HumanDataSample(), HumanDataSample()]
    samples[0].gt_mask, samples[1].gt_part_map, samples[1].gt_mask = mask, parts, mask  # the third has neither
    nobody = logits.log_softmax(1)[0, 0].exp()
    outline = -torch.where(mask[0], 1 - nobody, nobody).log().mean()
    known = F.cross_entropy(logits[1:2], parts[None])
    torch.testing.assert_close(head.loss(logits, samples)['loss_ce'], 2 * (outline + known) / 3)
    alone = head.loss(logits[:1], samples[:1])['loss_ce']
    torch.testing.assert_close(alone, 2 * outline)
    (gradient,) = torch.autograd.grad(alone, logits)
    assert gradient[0].any() and not gradient[1:].any()
