# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Where people are: a centre point and a box for each, on the features of the other tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ...registry import MODELS
from ...structures import HumanDataSample
from ...utils.numbers import check_number
from ...utils.on_device import constants, take
from ..losses.reduce import balanced_count
from .base import DeconvHead


@MODELS.register_module()
class PersonHead(DeconvHead):
    """One map of centres and the distances to the four sides of the box (Zhou et al., Objects as Points).

    Args:
        in_channels: Width of the features.
        deconv_channels, conv_channels: Widths.
        size_weight: Factor on the loss of the boxes.
        limit: Most people that `detect` gives.
        dropout: Channel dropout before the last layer.
    """

    makes_boxes = True
    """Says where people are; no task of a person."""

    def __init__(
        self,
        in_channels: int,
        deconv_channels: Sequence[int] = (),
        conv_channels: Sequence[int] = (64,),
        size_weight: float = 2.0,
        limit: int = 30,
        dropout: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(in_channels, 5, deconv_channels, conv_channels, dropout, init_cfg)
        check_number('PersonHead.size_weight', size_weight)
        check_number('PersonHead.limit', limit, 1, whole=True)
        self.size_weight, self.limit = size_weight, limit
        # The distances to the left and the right side.
        self.swap = torch.tensor([0, 3, 2, 1, 4])
        with torch.no_grad():
            self.final_layer.bias[0] = -4.0  # few pixels are centres

    def loss(self, output: torch.Tensor, samples: list[HumanDataSample]) -> dict[str, torch.Tensor]:
        """``loss_centre`` (focal) and ``loss_size`` (1 - GIoU of the boxes around the centres) of ``gt_boxes``.

        A box is learnt at all pixels near its centre, weighted like the map of centres, which is learnt in fewer steps
        (Liu et al., Training-Time-Friendly Network, AAAI 2020).

        Args:
            output: ``(B, 5, h, w)``.
            samples: With ``gt_boxes`` ``(N, 4)`` x1, y1, x2, y2 in input pixels and ``img_shape``; others do not count.
        """
        size = output.shape[-2:]
        chosen = self.labelled(samples, 'gt_boxes')
        output = take(output, chosen)
        numbers = [len(samples[i].gt_boxes) for i in chosen]
        number, most = sum(numbers), max(numbers, default=0)
        heat, loss_size = output[:, 0].new_zeros(output[:, 0].shape), self.no_loss(output)
        if most:
            # The boxes of all samples at once, (B, most, 4); what fills the rows is infinite.
            share = torch.stack([F.pad(samples[i].gt_boxes.to(output), (0, 0, 0, most - n), value=torch.inf)
                                 for i, n in zip(chosen, numbers, strict=True)])  # fmt: skip
            real = share[..., 0].isfinite()
            sides = constants([*samples[chosen[0]].img_shape[::-1]] * 2, output)
            share = torch.where(real[..., None], share, 0) / sides
            heat, owner = (centre_maps(share, size) * real[..., None, None]).max(1)
            owner = owner.flatten(1)
            # All pixels, most of weight 0: to list those near a centre, the host would wait for the device.
            weight = heat.flatten(1) * (heat.flatten(1) > 0.3)
            sums = weight.new_zeros(real.shape).scatter_add(1, owner, weight)
            weight = weight / sums.clamp(min=1e-6).gather(1, owner)
            place = torch.arange(size[0] * size[1], device=output.device)
            boxes = self._boxes(output[:, 1:].flatten(2).mT, place % size[1], place // size[1], size)
            error = 1 - giou(boxes, share.gather(1, owner[..., None].expand(-1, -1, 4)))
            loss_size = loss_size + (weight * error).sum()
        count = balanced_count(constants([number], output)[0])
        probability = output[:, 0].sigmoid().clamp(1e-4, 1 - 1e-4)
        hit = (1 - probability) ** 2 * -probability.log() * (heat == 1)
        rest = probability**2 * -(1 - probability).log() * (1 - heat) ** 4
        return {'loss_centre': (hit + rest).sum() / count, 'loss_size': self.size_weight * loss_size / count}

    @staticmethod
    def _boxes(logs: torch.Tensor, xs: torch.Tensor, ys: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """``(..., N, 4)`` logarithms of distances at ``N`` pixels -> boxes as shares of the input."""
        distances = 0.15 * logs.clamp(max=4).exp()  # a person is about a third of the input's size
        centre = torch.stack([(xs.float() + 0.5) / size[1], (ys.float() + 0.5) / size[0]], -1)
        return torch.cat([centre - distances[..., :2], centre + distances[..., 2:]], -1)

    def detect(self, output: torch.Tensor, threshold: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Peaks of the centres: of each image boxes ``(N, 4)`` as shares of the input and scores ``(N,)``, on the CPU.

        Args:
            output: ``(B, 5, h, w)``.
            threshold: Least score, above 0.
        """
        heat = output[:, 0].sigmoid()
        size = tuple(heat.shape[-2:])
        peaks = torch.where(F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0] == heat, heat, -1.0).flatten(1)
        scores, places = peaks.topk(min(self.limit, size[0] * size[1]), dim=1)
        logs = output[:, 1:].flatten(2).gather(2, places[:, None].expand(-1, 4, -1))
        boxes = [self._boxes(one.T, at % size[1], at // size[1], size) for one, at in zip(logs, places, strict=True)]
        # One copy to the host, where the weak are left out.
        found = torch.cat([torch.stack(boxes), scores[..., None]], -1).cpu()
        return [(one[one[:, 4] >= threshold, :4], one[one[:, 4] >= threshold, 4]) for one in found]

    def predict(self, output: torch.Tensor, samples: list[HumanDataSample]) -> None:
        """Write ``pred_boxes`` (N, 4) as shares of the input and ``pred_box_scores`` (N,)."""
        for sample, (boxes, scores) in zip(samples, self.detect(output, 0.1), strict=True):
            sample.set_field(boxes, 'pred_boxes')
            sample.set_field(scores, 'pred_box_scores')


def giou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """``(...)`` generalised intersection over union of pairs of boxes ``(..., 4)`` (Rezatofighi et al., CVPR 2019)."""
    low, high = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = sum((b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1) for b in (boxes, others)) - common
    low, high = torch.minimum(boxes[..., :2], others[..., :2]), torch.maximum(boxes[..., 2:], others[..., 2:])
    around = (high - low).clamp(min=0).prod(-1).clamp(min=1e-9)
    return common / union.clamp(min=1e-9) - (around - union) / around


def centre_maps(boxes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """``(..., h, w)``: 1 at the pixel of a box's centre, falling off with a seventh of the box's sides as deviation.

    Args:
        boxes: ``(..., 4)`` as shares of the input.
        size: ``(h, w)``.
    """
    height, width = size
    scale = constants([width, height], boxes)
    middle = ((boxes[..., :2] + boxes[..., 2:]) / 2 * scale).floor()
    middle = torch.minimum(middle.clamp(min=0), scale - 1)
    deviation = ((boxes[..., 2:] - boxes[..., :2]) * scale / 7).clamp(min=0.5)

    def fall(axis: int, length: int) -> torch.Tensor:
        distance = torch.arange(length, device=boxes.device) - middle[..., axis, None]
        return torch.exp(-(distance**2) / (2 * deviation[..., axis, None] ** 2))

    return fall(1, height)[..., :, None] * fall(0, width)[..., None, :]
