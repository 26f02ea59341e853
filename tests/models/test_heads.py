# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The four heads against reference numbers: outputs, losses, gradients, predictions."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference import ARCH, load
from torch import nn

from sapiens.errors import UserError
from sapiens.models import DepthHead, HumanEstimator, NormalHead, PartHead, PoseHead
from sapiens.models.heads import PersonHead
from sapiens.models.losses import KeypointLoss, SiLogLoss
from sapiens.structures import HumanDataSample
from sapiens.vocabularies import KeypointVocabulary, PartVocabulary

CODEC = dict(type='UDPHeatmap', input_size=(128, 96), heatmap_size=(32, 24), sigma=6)


def keypoint_vocabulary(swap):
    count = len(swap)
    names = tuple(map(str, range(count)))
    return KeypointVocabulary(
        'points', names, np.array(swap), np.full(count, 0.05, np.float32), {'body': np.arange(count)},
        np.zeros((count, 3), np.uint8), np.zeros((0, 2), np.int64),
    )  # fmt: skip


def part_vocabulary(weights, swap=None):
    count = len(weights)
    swap = np.arange(count) if swap is None else np.array(swap)
    names = tuple(map(str, range(count)))
    return PartVocabulary('parts', names, swap, np.zeros((count, 3), np.uint8), np.array(weights, np.float32))


# ---------------------------------------------------------------------------------------------- pose


@pytest.fixture(scope='module')
def pose():
    numbers = load('pose')
    model = HumanEstimator(
        dict(type='SapiensViT', arch=ARCH, img_size=(128, 96), patch_padding=2),
        dict(
            pose=dict(
                type='PoseHead',
                vocabulary=keypoint_vocabulary([0, 2, 1, 4, 3, 5, 6]),
                deconv_channels=(32, 32),
                conv_channels=(32, 32),
                codec=CODEC,
            )
        ),
    ).eval()
    weights = {name.replace('head.', 'heads.pose.', 1): value for name, value in numbers['state_dict'].items()}
    model.load_state_dict(weights)
    numbers['input'] = load('backbone')['input']
    return model, numbers


def pose_samples(numbers):
    samples = []
    for i in range(2):
        centre, size = numbers['bbox_centers'][i].double(), numbers['bbox_scales'][i].double()
        scale = torch.tensor([95.0, 127.0]).double() / size
        warp = torch.cat([scale.diag(), ((size / 2 - centre) * scale)[:, None]], 1)
        sample = HumanDataSample(metainfo=dict(warp_mat=warp.numpy(), img_shape=(128, 96), ori_shape=(300, 300)))
        sample.gt_keypoints = numbers['gt_keypoints'][i, 0]
        sample.gt_keypoints_visible = numbers['gt_visible'][i, 0]
        samples.append(sample)
    return samples


def test_heatmaps_match_the_reference(pose):
    model, numbers = pose
    heatmaps = model(numbers['input'])['pose']
    torch.testing.assert_close(heatmaps, numbers['heatmaps'], rtol=1e-4, atol=1e-5)
    back = model.heads['pose'].flip_back(model(numbers['input'].flip(-1))['pose'])
    torch.testing.assert_close(back, numbers['heatmaps_flipped_back'], rtol=1e-4, atol=1e-5)
    averaged = model.outputs(numbers['input'], flip_test=True)['pose']
    torch.testing.assert_close(averaged, numbers['heatmaps_avg'], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('flip_test', 'name'), [(False, 'noflip'), (True, 'fliptest')])
def test_keypoints_match_the_reference(pose, flip_test, name):
    model, numbers = pose
    model.test_cfg = dict(flip_test=flip_test)
    samples = model(numbers['input'], pose_samples(numbers), 'predict')
    points = torch.stack([sample.pred_keypoints for sample in samples]).double()
    scores = torch.stack([sample.pred_keypoint_scores for sample in samples])
    torch.testing.assert_close(scores, numbers[f'scores_{name}'].float(), rtol=1e-4, atol=1e-5)
    # The maps of a random network are rough: where the reference goes hundreds of pixels, we stay near the peak.
    error = (points - numbers[f'keypoints_{name}']).norm(dim=-1).flatten().sort().values
    assert float(error[: len(error) // 2].max()) < 2e-3


def test_pose_losses_and_gradients_match_the_reference(pose):
    model, numbers = pose
    model.zero_grad()
    losses = model(numbers['input'], pose_samples(numbers), 'loss')
    assert float(losses['pose.loss_kpt'].detach()) == pytest.approx(numbers['loss_mse'], rel=1e-4)
    assert float(losses['pose.acc_pose']) == pytest.approx(numbers['acc_pose'])
    losses['pose.loss_kpt'].backward()
    parameters = dict(model.named_parameters())
    for name, norm in numbers['grad_norms'].items():
        gradient = float(parameters[name.replace('head.', 'heads.pose.', 1)].grad.norm())
        assert gradient == pytest.approx(norm, rel=1e-3, abs=1e-6), name


def test_hard_mining_matches_the_reference(pose):
    model, numbers = pose
    head = model.heads['pose']
    samples = pose_samples(numbers)
    points = torch.stack([sample.gt_keypoints for sample in samples])
    visible = torch.stack([sample.gt_keypoints_visible for sample in samples])
    targets, weights = head.codec.encode(points, visible)
    torch.testing.assert_close(targets, numbers['gt_heatmaps'], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights, numbers['gt_weights'])
    hard = PoseHead(64, head.vocabulary, CODEC, (32, 32), (32, 32), loss=dict(type='KeypointOHKMLoss', topk=3))
    loss = hard.loss(numbers['heatmaps'], samples)['loss_kpt']
    assert float(loss) == pytest.approx(numbers['loss_ohkm_top3'], rel=1e-4)


# ---------------------------------------------------------------------------------------------- dense


def dense(task):
    numbers = load(task)
    if task == 'seg':
        head = PartHead(64, part_vocabulary(numbers['class_weight'].tolist()), (32,) * 3, (32,) * 3)
    elif task == 'depth':
        head = DepthHead(64, (24,) * 4, (24,) * 2)
    else:
        head = NormalHead(64, (32,) * 3, (32,) * 3)
    head.load_state_dict(numbers['state_dict'])
    samples = []
    for i in range(2):
        sample = HumanDataSample(metainfo=dict(img_shape=(128, 96), ori_shape=tuple(numbers['ori_shape'].tolist())))
        if task == 'seg':
            sample.gt_part_map = numbers['label'][i]
        elif task == 'depth':
            sample.gt_depth = numbers['gt'][i]
        else:
            known = (numbers['gt'][i] > -1000).all(0)
            sample.gt_normals = numbers['gt'][i] * known
        samples.append(sample)
    return head.eval(), numbers, samples


@pytest.mark.parametrize('task', ['seg', 'depth', 'normal'])
def test_outputs_losses_and_gradients_match_the_reference(task):
    head, numbers, samples = dense(task)
    output = head(numbers['feat'])
    expected = numbers['logits' if task == 'seg' else 'output']
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    # From here on at the very values of the reference: SiLog divides by predictions that may be as small as 1e-5.
    output = output + (expected - output).detach()
    if task == 'depth':
        # These targets are already normalised, so they go to the loss itself; the head would normalise them again.
        losses = {'loss_silog': head.loss_module(output, numbers['gt'])}
    else:
        losses = head.loss(output, samples)
    total = sum(value for name, value in losses.items() if name.startswith('loss'))
    assert float(total.detach()) == pytest.approx(numbers['loss'], rel=1e-4)
    if task == 'seg':
        assert float(losses['acc_seg']) == pytest.approx(numbers['acc'], rel=1e-4)
    if task == 'normal':
        assert float(losses['loss_l1'].detach()) == pytest.approx(numbers['losses']['l1'], rel=1e-4)
        assert float(losses['loss_cosine'].detach()) == pytest.approx(numbers['losses']['cosine'], rel=1e-4)
    total.backward()
    for name, parameter in head.named_parameters():
        # A bias before InstanceNorm has a gradient of rounding errors only.
        assert float(parameter.grad.norm()) == pytest.approx(numbers['grad_norms'][name], rel=2e-3, abs=1e-4), name


def test_depth_targets_are_normalised_by_the_head():
    head, numbers, samples = dense('depth')
    expected = float(head.loss(numbers['output'], samples)['loss_silog'])
    assert expected == pytest.approx(numbers['loss'], rel=1e-3)
    for sample in samples:
        sample.gt_depth = (sample.gt_depth * 3 + 5) * (sample.gt_depth > 0)
    assert float(head.loss(numbers['output'], samples)['loss_silog']) == pytest.approx(expected, rel=1e-4)


def test_predicted_parts_match_the_reference():
    head, numbers, samples = dense('seg')
    head.predict(numbers['logits'], samples)
    for sample, expected in zip(samples, numbers['pred'], strict=True):
        assert sample.pred_part_map.shape == (200, 160) and sample.pred_part_map.dtype == torch.uint8
        assert float((sample.pred_part_map != expected).float().mean()) < 1e-3


def test_predicted_depth_and_normals_match_the_reference():
    head, numbers, samples = dense('depth')
    head.predict(numbers['output'], samples)
    for sample, expected in zip(samples, numbers['pred_ori'], strict=True):
        assert sample.pred_depth.shape == (1, 200, 160)
        torch.testing.assert_close(sample.pred_depth[:, ::3, ::3], expected, rtol=1e-4, atol=1e-5)
    head, numbers, samples = dense('normal')
    head.predict(numbers['output'], samples)
    for sample, expected in zip(samples, numbers['pred_ori'], strict=True):
        # stored in half precision
        unit = F.normalize(expected.float(), dim=0)
        torch.testing.assert_close(sample.pred_normals[:, ::4, ::4], unit, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(sample.pred_normals.norm(dim=0), torch.ones(200, 160))


# ---------------------------------------------------------------------------------------------- mirrors and options


def test_flipping_back_undoes_a_mirror():
    vocabulary = part_vocabulary([1, 1, 1], swap=[0, 2, 1])
    parts = PartHead(8, vocabulary, (8,), (8,))
    logits = torch.randn(2, 3, 6, 5)
    assert torch.equal(parts.flip_back(parts.flip_back(logits)), logits)
    assert torch.equal(parts.flip_back(logits)[:, 1], logits[:, 2].flip(-1))
    normals = torch.randn(2, 3, 6, 5)
    back = NormalHead(8, (8,), (8,)).flip_back(normals)
    assert torch.equal(back[:, 0], -normals[:, 0].flip(-1)) and torch.equal(back[:, 1:], normals[:, 1:].flip(-1))
    depth = torch.randn(2, 1, 6, 5)
    assert torch.equal(DepthHead(8, (8,), (8,)).flip_back(depth), depth.flip(-1))


def test_part_scores_are_the_probability_of_the_class():
    head = PartHead(8, part_vocabulary([1, 1, 1]), (8,), (8,), with_scores=True)
    sample = HumanDataSample(metainfo=dict(img_shape=(32, 32), ori_shape=(32, 32)))
    logits = F.interpolate(torch.randn(1, 3, 4, 4) * 3, size=(32, 32), mode='bilinear')
    head.predict(logits, [sample])
    probability = logits[0].softmax(0)
    assert torch.equal(sample.pred_part_map.long(), logits[0].argmax(0))
    torch.testing.assert_close(sample.pred_part_scores, probability.amax(0))


def test_dropout_of_dense_heads_acts_in_training_only():
    feats = torch.randn(1, 8, 4, 4)
    for head in (DepthHead(8, (64,), (64,)), NormalHead(8, (64,), (64,)), PartHead(8, 'parts20', (64,), (64,))):
        torch.nn.init.normal_(head.final_layer.weight)
        head.eval()
        assert torch.equal(head(feats), head(feats))
        head.train()
        torch.manual_seed(0)
        assert not torch.equal(head(feats), head(feats))
    pose = PoseHead(8, 'coco17', CODEC, (8,), (8,)).train()
    assert torch.equal(pose(feats), pose(feats))


def test_depth_and_normals_count_people_only():
    torch.manual_seed(0)
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, 8:24, 8:24] = True
    depth, normals = torch.rand(1, 32, 32) + 1, F.normalize(torch.randn(3, 32, 32), dim=0)
    with_mask, cut = HumanDataSample(), HumanDataSample()
    with_mask.gt_depth, with_mask.gt_normals, with_mask.gt_mask = depth, normals, mask
    cut.gt_depth, cut.gt_normals = depth * mask, normals * mask
    for head, channels in ((DepthHead(8, (8,), (8,)), 1), (NormalHead(8, (8,), (8,)), 3)):
        output = torch.rand(1, channels, 16, 16) + 0.1
        one, two = head.loss(output, [with_mask]), head.loss(output, [cut])
        for name in one:
            torch.testing.assert_close(one[name], two[name])


def test_labels_that_make_no_sense():
    sample = HumanDataSample()
    sample.gt_part_map = torch.full((16, 16), 28, dtype=torch.uint8)
    with pytest.raises(UserError, match="a label 28 lies outside the 28 classes of 'parts28'; run tools/check_dataset"):
        PartHead(8, 'parts28', (8,), (8,)).loss(torch.zeros(1, 28, 8, 8), [sample])
    sample.gt_keypoints, sample.gt_keypoints_visible = torch.zeros(133, 2), torch.ones(133)
    with pytest.raises(UserError, match="the data have 133 keypoints, but the head's vocabulary 'coco17' has 17"):
        PoseHead(8, 'coco17', CODEC, (8,), (8,)).loss(torch.zeros(1, 17, 32, 24), [sample])
    with pytest.raises(UserError, match="PoseHead needs a keypoint vocabulary; 'parts28' has parts"):
        PoseHead(8, 'parts28', CODEC)
    with pytest.raises(UserError, match="PartHead needs a part vocabulary; 'coco17' has keypoints"):
        PartHead(8, 'coco17')


def test_published_widths_are_the_defaults():
    with torch.device('meta'):
        feats = torch.empty(1, 1024, 64, 48)
        assert PoseHead(1024, 'keypoints308', dict(type='UDPHeatmap', input_size=(1024, 768)))(feats).shape == (
            1, 308, 256, 192,
        )  # fmt: skip
        assert PartHead(1024, 'parts28')(feats).shape == (1, 28, 512, 384)
        assert DepthHead(1024)(feats).shape == (1, 1, 1024, 768)
        assert NormalHead(1024)((torch.empty(0), feats)).shape == (1, 3, 512, 384)


class ToyLoss(nn.Module):
    """What docs/architecture.md says that a loss is; it knows nothing of any head."""

    def forward(self, output, target, valid=None):
        if target.dtype == torch.long:
            output, valid = output.softmax(1).amax(1), target != 255
        valid = target > 0 if valid is None else valid
        return ((output - target) * valid).abs().sum() / valid.sum().clamp(min=1)


class ToyDerivedLoss(SiLogLoss):
    """One of ours changed for another task."""

    forward = ToyLoss.forward


class ToyKeypointLoss(KeypointLoss):
    def reduce(self, errors, weights):
        return (errors * weights).mean()


OF_HEADS = {
    'pose': (PoseHead, dict(vocabulary='coco17', codec=CODEC), 'KeypointMSELoss'),
    'seg': (PartHead, dict(vocabulary='parts20'), 'WeightedCrossEntropy'),
    'depth': (DepthHead, {}, 'SiLogLoss'),
    'normal': (NormalHead, {}, 'NormalLoss'),
}


@pytest.mark.parametrize('task', OF_HEADS)
@pytest.mark.parametrize('loss', [own for _, _, own in OF_HEADS.values()])
def test_a_loss_of_another_task_is_said_when_the_model_is_built(task, loss):
    """It was a traceback in the first step, or trained something else; derived losses with a formula are their own."""
    kind, options, own = OF_HEADS[task]
    build = partial(kind, 8, deconv_channels=(), conv_channels=(), **options)
    if loss == own:
        build(loss=dict(type=loss))
        return
    with pytest.raises(UserError, match=f'{kind.__name__}: {loss} is no .*; leave loss out, or give one'):
        build(loss=dict(type=loss))
    if task == 'normal':
        build(loss=dict(type=ToyDerivedLoss))


class HeadWithItsOwn(DepthHead):
    def loss(self, output, samples):
        return self.by_name(self.loss_module(output, output, output > 0), 'loss_own')


def test_a_head_with_a_loss_of_its_own_takes_any():
    HeadWithItsOwn(8, (), (), loss=dict(type='NormalLoss'))


NUMBERS = {
    'pose': [('accuracy_interval', 1), ('codec.sigma', 1.5), ('codec.blur_kernel_size', 3), ('loss.loss_weight', 2),
             ('group_weights.body', 0)],
    'seg': [('least_region', 0.5), ('loss.loss_weight', 0), ('loss.class_weight', [0.5] * 20)],
    'depth': [('loss.lam', 0.5), ('loss.eps', 1e-3), ('loss.loss_weight', 2)],
    'normal': [('loss.l1_weight', 0), ('loss.cosine_weight', 2)],
    'persons': [('size_weight', 0), ('limit', 5)],
}  # fmt: skip


@pytest.mark.parametrize(('task', 'key', 'good'), [(task, *pair) for task, pairs in NUMBERS.items() for pair in pairs])
def test_numbers_that_make_no_sense_are_said_when_the_model_is_built(task, key, good):
    """A sigma of 0 made targets of nothing, and a weight of NaN ended in the first step; both without a word."""
    kind, options, loss = OF_HEADS.get(task, (PersonHead, {}, None))
    part, _, name = key.rpartition('.')

    def build(value):
        given = {**options, **({'loss': {'type': loss}} if part == 'loss' else {})}
        given |= {part: {**given.get(part, {}), name: value}} if part else {name: value}
        return kind(8, deconv_channels=(), conv_channels=(), **given)

    build(good)
    for bad in (-1, float('nan'), float('inf'), 'wide', None):
        if bad is None and key in ('codec.sigma', 'loss.class_weight'):
            continue  # by default
        with pytest.raises(UserError) as error:
            build([bad] * 20 if isinstance(good, list) else bad)
        assert name in str(error.value) and repr(bad) in str(error.value)


@pytest.mark.parametrize('named', [False, True])
@pytest.mark.parametrize('task', ['pose', 'seg', 'depth', 'normal'])
def test_a_loss_of_ones_own_works_in_every_head(monkeypatch, task, named):
    options = dict(deconv_channels=(8,), conv_channels=(8,), loss=dict(type=ToyLoss))
    if named:
        monkeypatch.setattr(ToyLoss, 'loss_name', 'loss_toy', raising=False)
        monkeypatch.setattr(ToyKeypointLoss, 'loss_name', 'loss_toy', raising=False)
    sample = HumanDataSample(metainfo=dict(img_shape=(16, 16)))
    if task == 'pose':
        codec = dict(type='UDPHeatmap', input_size=(16, 16), heatmap_size=(8, 8), sigma=2)
        with pytest.raises(UserError, match='ToyLoss is no KeypointLoss'):
            PoseHead(8, 'coco17', codec, **options)
        head = PoseHead(8, 'coco17', codec, **{**options, 'loss': dict(type=ToyKeypointLoss)})
        sample.gt_keypoints, sample.gt_keypoints_visible = torch.full((17, 2), 8.0), torch.ones(17)
    elif task == 'seg':
        head = PartHead(8, 'parts20', **options)
        sample.gt_part_map = torch.ones(16, 16, dtype=torch.uint8)
    elif task == 'depth':
        head = DepthHead(8, **options)
        sample.gt_depth = torch.rand(1, 16, 16) + 1
    else:
        head = NormalHead(8, **options)
        sample.gt_normals = F.normalize(torch.rand(3, 16, 16), dim=0)
    feats = torch.rand(2, 8, 4, 4, requires_grad=True)
    empty = HumanDataSample(metainfo=dict(img_shape=(16, 16)))
    for samples in ([sample, empty], [empty, empty]):
        losses = head.losses(head(feats, last=False), samples)
        (name,) = (name for name in losses if name.startswith('loss'))
        usual = {'pose': 'loss_kpt', 'seg': 'loss_ce', 'depth': 'loss_silog', 'normal': 'loss_normal'}[task]
        assert name == ('loss_toy' if named else usual)
        assert torch.isfinite(losses[name]) and (float(losses[name]) > 0) == (samples[0] is sample)
        losses[name].backward()
