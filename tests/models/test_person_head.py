# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""People as centres: targets, losses, boxes back."""

import pytest
import torch

from sapiens.models import PersonHead
from sapiens.models.heads.person import centre_maps
from sapiens.structures import HumanDataSample

SHAPE = (64, 48)
BOXES = torch.tensor([[4.0, 8.0, 20.0, 56.0], [24.0, 16.0, 44.0, 60.0]])


def sample(boxes=None):
    made = HumanDataSample(metainfo=dict(img_shape=SHAPE))
    if boxes is not None:
        made.gt_boxes = boxes
    return made


def perfect(boxes):
    """What a head that knows the boxes puts out, ``(1, 5, 16, 12)``."""
    share = boxes / torch.tensor([48.0, 64.0, 48.0, 64.0])
    output = torch.zeros(1, 5, 16, 12)
    output[0, 0] = torch.where(centre_maps(share, (16, 12)).amax(0) == 1, 8.0, -8.0)
    ys, xs = ((torch.arange(n) + 0.5) / n for n in (16, 12))
    for box in share:
        for y, x in ((centre_maps(box[None], (16, 12))[0] > 0.2).nonzero()).tolist():
            near = torch.stack([xs[x] - box[0], ys[y] - box[1], box[2] - xs[x], box[3] - ys[y]])
            output[0, 1:, y, x] = (near / 0.15).log()
    return output


def test_a_perfect_output_has_no_loss_and_gives_the_boxes_back():
    head = PersonHead(8)
    losses = head.loss(perfect(BOXES), [sample(BOXES)])
    assert losses['loss_centre'] < 1e-3 and losses['loss_size'] < 1e-3
    ((boxes, scores),) = head.detect(perfect(BOXES), 0.3)
    order = boxes[:, 0].argsort()
    torch.testing.assert_close(boxes[order] * torch.tensor([48.0, 64.0, 48.0, 64.0]), BOXES, rtol=1e-4, atol=1e-3)
    assert (scores > 0.9).all()
    worse = head.loss(perfect(BOXES) + 0.5, [sample(BOXES)])
    assert worse['loss_size'] > 0.5
    assert head.loss(torch.zeros(1, 5, 16, 12), [sample(BOXES)])['loss_centre'] > 1


def test_a_mirrored_output_is_that_of_the_mirrored_picture():
    mirrored = BOXES.clone()
    mirrored[:, [0, 2]] = 48 - BOXES[:, [2, 0]]
    torch.testing.assert_close(PersonHead(8).flip_back(perfect(BOXES))[:, 1:].amax(), perfect(mirrored)[:, 1:].amax())
    ((boxes, _),) = PersonHead(8).detect(PersonHead(8).flip_back(perfect(BOXES)), 0.3)
    shares = boxes[boxes[:, 0].argsort()] * torch.tensor([48.0, 64.0, 48.0, 64.0])
    torch.testing.assert_close(shares, mirrored.flip(0), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('samples', [[sample()], [sample(torch.zeros(0, 4))], [sample(), sample(BOXES)]])
def test_samples_without_boxes_or_people_are_fine(samples):
    output = torch.zeros(len(samples), 5, 16, 12, requires_grad=True)
    losses = PersonHead(8).loss(output, samples)
    sum(losses.values()).backward()
    assert all(torch.isfinite(v) for v in losses.values()) and torch.isfinite(output.grad).all()
    assert 'gt_boxes' in samples[0] or (output.grad[0] == 0).all()  # unknown is not nobody


def test_many_samples_at_once_have_the_losses_of_each():
    head, output = PersonHead(8), torch.randn(4, 5, 16, 12, generator=torch.Generator().manual_seed(0))
    rows = [sample(BOXES), sample(torch.zeros(0, 4)), sample(), sample(BOXES[:1] + 3)]
    together = head.loss(output, rows)
    each = [head.loss(output[i : i + 1], [row]) for i, row in enumerate(rows)]
    for name, people in (('loss_centre', (2, 1, 0, 1)), ('loss_size', (2, 1, 0, 1))):
        # A loss is a sum over the people of a batch, of whom it takes there to be one at least.
        total = sum(loss[name] * number for loss, number in zip(each, people, strict=True))
        torch.testing.assert_close(together[name], total / 3, rtol=1e-5, atol=1e-6)
