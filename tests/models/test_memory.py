"""What is alive while a step runs."""

import pytest
import torch

from sapiens.models.heads import PoseHead, pose
from sapiens.models.memory import LiveMemory
from sapiens.structures import HumanDataSample

SIZE, POINTS = (256, 192), 133


def labelled(seed):
    sample = HumanDataSample(metainfo=dict(img_shape=SIZE))
    generator = torch.Generator().manual_seed(seed)
    sample.gt_keypoints = torch.rand(POINTS, 2, generator=generator) * 190
    sample.gt_keypoints_visible = torch.ones(POINTS)
    return sample


def pose_head(kind):
    torch.manual_seed(0)
    codec = dict(type='UDPHeatmap', input_size=SIZE)
    return PoseHead(8, 'wholebody133', codec, (8, 8), (8,), loss=dict(type=kind)).train()


@pytest.mark.parametrize('kind', ['KeypointMSELoss', 'KeypointOHKMLoss', 'KeypointDivergenceLoss'])
def test_the_pose_loss_never_holds_all_maps(kind, monkeypatch):
    """The same losses and gradients as from all maps; a sample without labels lies between those that have them."""
    samples = [labelled(0), labelled(1), HumanDataSample(metainfo=dict(img_shape=SIZE)), labelled(2), labelled(3)]
    feats = torch.randn(len(samples), 8, 16, 12)
    maps = 4 * POINTS * 64 * 48
    monkeypatch.setattr(pose, 'CHUNK', maps // 4)
    results = []
    for lean in (False, True):
        head, x = pose_head(kind), feats.clone().requires_grad_()
        with LiveMemory() as memory:
            losses = head.losses(head(x, last=False), samples) if lean else head.loss(head(x), samples)
            losses['loss_kpt'].backward()
        gradients = [x.grad, *(p.grad for p in head.parameters())]
        results.append((memory.peak, losses, gradients))
    (whole, *expected), (lean, *found) = results
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)
    assert lean < 0.65 * whole


def test_no_labels_at_all_give_every_parameter_a_gradient_of_zero():
    head = pose_head('KeypointMSELoss')
    losses = head.losses(head(torch.randn(2, 8, 16, 12), last=False), [HumanDataSample(), HumanDataSample()])
    losses['loss_kpt'].backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())
