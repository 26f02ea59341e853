# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Where people are: a centre point and a box for each, on the features of the other tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ...registry import MODELS
from ...structures import HumanDataSample
from ..losses.reduce import balanced_count
from .base import DeconvHead


@MODELS.register_module()
class PersonHead(DeconvHead):
    """One map of centres and the distances from there to the four sides of the box (Zhou et al., Objects as Points).

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
        self.size_weight, self.limit = size_weight, limit
        with torch.no_grad():
            # Few pixels are centres, and a person is about a third of the input's size.
            self.final_layer.bias[0] = -4.0
            self.final_layer.bias[1:] = 0.15

    def flip_back(self, output: torch.Tensor) -> torch.Tensor:
        """Mirror ``(B, 5, h, w)`` and exchange the distances to the left and the right side."""
        return output.flip(-1)[:, [0, 3, 2, 1, 4]]

    def loss(self, output: torch.Tensor, samples: list[HumanDataSample]) -> dict[str, torch.Tensor]:
        """``loss_centre`` (focal) and ``loss_size`` (L1 at the centres, as shares of the input) of ``gt_boxes``.

        Args:
            output: ``(B, 5, h, w)``.
            samples: With ``gt_boxes`` ``(N, 4)`` x1, y1, x2, y2 in input pixels and ``img_shape``; others do not count.
        """
        height, width = output.shape[-2:]
        heat, boxes, centres = [], [], []
        chosen = self.labelled(samples, 'gt_boxes')
        for row, i in enumerate(chosen):
            share = samples[i].gt_boxes.to(output) / output.new_tensor([*samples[i].img_shape[::-1]] * 2)
            heat.append(centre_map(share, (height, width)))
            place = ((share[:, :2] + share[:, 2:]) / 2 * share.new_tensor([width, height])).long()
            place = torch.minimum(place.clamp(min=0), place.new_tensor([width - 1, height - 1]))
            centres.append(torch.cat([place.new_full((len(place), 1), row), place.flip(1)], 1))
            boxes.append(share)
        output = output[chosen]
        target = torch.stack(heat) if heat else output[:, 0]
        rows, ys, xs = torch.cat(centres).T if centres else torch.zeros(3, 0, dtype=torch.long, device=output.device)
        count = balanced_count(torch.tensor(float(len(rows)), device=output.device))
        probability = output[:, 0].sigmoid().clamp(1e-4, 1 - 1e-4)
        hit = (1 - probability) ** 2 * -probability.log() * (target == 1)
        rest = probability**2 * -(1 - probability).log() * (1 - target) ** 4
        loss_centre = (hit + rest).sum() / count
        share = torch.cat(boxes) if boxes else output.new_zeros(0, 4)
        found = self._boxes(output[rows, 1:, ys, xs], xs, ys, (height, width))
        return {'loss_centre': loss_centre, 'loss_size': self.size_weight * (found - share).abs().sum() / count}

    @staticmethod
    def _boxes(distances: torch.Tensor, xs: torch.Tensor, ys: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """``(N, 4)`` distances at pixels -> boxes as shares of the input."""
        centre = torch.stack([(xs + 0.5) / size[1], (ys + 0.5) / size[0]], -1)
        return torch.cat([centre - distances[:, :2], centre + distances[:, 2:]], -1)

    def detect(self, output: torch.Tensor, threshold: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Peaks of the map of centres: for each image boxes ``(N, 4)`` as shares of the input, and scores ``(N,)``."""
        heat = output[:, 0].sigmoid()
        peak = (F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0] == heat) & (heat >= threshold)
        found = []
        for one, mark, maps in zip(heat, peak, output, strict=True):
            ys, xs = mark.nonzero(as_tuple=True)
            scores, order = one[ys, xs].sort(descending=True)
            ys, xs, scores = ys[order[: self.limit]], xs[order[: self.limit]], scores[: self.limit]
            found.append((self._boxes(maps[1:, ys, xs].T, xs, ys, tuple(heat.shape[-2:])), scores))
        return found

    def predict(self, output: torch.Tensor, samples: list[HumanDataSample]) -> None:
        """Write ``pred_boxes`` (N, 4) as shares of the input and ``pred_box_scores`` (N,)."""
        for sample, (boxes, scores) in zip(samples, self.detect(output, 0.1), strict=True):
            sample.set_field(boxes.cpu(), 'pred_boxes')
            sample.set_field(scores.cpu(), 'pred_box_scores')


def centre_map(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """``(h, w)``: 1 at the pixel of each box's centre, falling off with a seventh of the box's sides as deviation.

    Args:
        boxes: ``(N, 4)`` as shares of the input.
        size: ``(h, w)``.
    """
    height, width = size
    scale = boxes.new_tensor([width, height])
    middle = ((boxes[:, :2] + boxes[:, 2:]) / 2 * scale).floor()
    middle = torch.minimum(middle.clamp(min=0), scale - 1)
    deviation = ((boxes[:, 2:] - boxes[:, :2]) * scale / 7).clamp(min=0.5)

    def fall(axis: int, length: int) -> torch.Tensor:
        distance = torch.arange(length, device=boxes.device) - middle[:, axis, None]
        return torch.exp(-(distance**2) / (2 * deviation[:, axis, None] ** 2))

    maps = fall(1, height)[:, :, None] * fall(0, width)[:, None, :]
    return maps.amax(0) if len(boxes) else boxes.new_zeros(size)
