# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Pose head: K heatmaps of one person."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...errors import UserError
from ...registry import CODECS, MODELS
from ...structures import HumanDataSample
from ...utils.numbers import check_number
from ...utils.on_device import take, to_host
from ...vocabularies import KeypointVocabulary, load_vocabulary
from ..losses import KeypointLoss, pose_accuracy
from .base import DeconvHead
from .frames import points_to_original, sample_frames

CHUNK = 2**24
"""Heatmap pixels that the loss makes at a time: one person of 308 maps of 256 x 192."""


@MODELS.register_module()
class PoseHead(DeconvHead):
    """Heatmaps of the keypoints of a vocabulary (paper, section 3.3).

    Targets are never rendered: the loss takes the two factors of each Gaussian.

    Args:
        in_channels: Width of the features.
        vocabulary: Name or file of a keypoint vocabulary; gives K and the swap table.
        codec: Config of the codec, e.g. ``dict(type='UDPHeatmap', input_size=(H, W))``; `HumanEstimator` fills in
            the size.
        deconv_channels, conv_channels: Widths; the published models have two of 768 each.
        loss: Config of the keypoint loss.
        group_weights: Group of the vocabulary -> factor on the loss of its keypoints; 1 for groups not named. Of 308
            keypoints 238 lie in the face: a small model learns limbs sooner when they count for more.
        accuracy_interval: Batches from one ``acc_pose`` to the next, 0 for none; finding the peaks of 308 maps takes a
            tenth of a small model's step.

    Raises:
        UserError: The vocabulary is not one of keypoints, or has no such group.
    """

    fits = KeypointLoss

    def __init__(
        self,
        in_channels: int,
        vocabulary: str | KeypointVocabulary,
        codec: dict,
        deconv_channels: Sequence[int] = (768, 768),
        conv_channels: Sequence[int] = (768, 768),
        loss: dict | None = None,
        group_weights: dict[str, float] | None = None,
        accuracy_interval: int = 1,
        init_cfg: dict | None = None,
    ) -> None:
        vocabulary = load_vocabulary(vocabulary)
        if vocabulary.kind != 'keypoints':
            raise UserError(f"PoseHead needs a keypoint vocabulary; '{vocabulary.name}' has parts")
        super().__init__(in_channels, vocabulary.num_keypoints, deconv_channels, conv_channels, init_cfg=init_cfg)
        self.vocabulary = vocabulary
        check_number('PoseHead.accuracy_interval', accuracy_interval, whole=True)
        self.accuracy_interval, self._batches = accuracy_interval, 0
        self.codec = CODECS.build(codec)
        self.loss_module = self.build_loss(loss or dict(type='sapiens.KeypointMSELoss'))
        weights = torch.ones(vocabulary.num_keypoints)
        for group, weight in (group_weights or {}).items():
            if group not in vocabulary.groups:
                raise UserError(f"group_weights: '{vocabulary.name}' has no group '{group}'; it has "
                                f'{", ".join(vocabulary.groups)}')  # fmt: skip
            check_number(f"PoseHead.group_weights of '{group}'", weight)
            weights[torch.from_numpy(vocabulary.groups[group])] = weight
        self.register_buffer('point_weights', weights, persistent=False)
        self.swap = torch.from_numpy(vocabulary.swap.copy())

    def forward(self, feats: Sequence[torch.Tensor] | torch.Tensor, last: bool = True) -> torch.Tensor:
        """Heatmaps ``(B, K, h, w)``; in training with a loss of probabilities, their logits."""
        output = super().forward(feats, last)
        if not last or self.training or not getattr(self.loss_module, 'of_probabilities', False):
            return output
        peak = 2 * math.pi * self.codec.sigma**2
        return (output.flatten(2).softmax(-1) * peak).unflatten(2, output.shape[-2:])

    def loss(self, output: torch.Tensor, samples: list[HumanDataSample]) -> dict[str, torch.Tensor]:
        """``loss_kpt`` and ``acc_pose`` (PCK at 5 % of a tenth of the heatmap, see `pose_accuracy`)."""
        return self._losses(output, nn.Identity(), samples)

    def losses(self, hidden: torch.Tensor, samples: list[HumanDataSample]) -> dict[str, torch.Tensor]:
        """As `loss`, from what comes before the last layer, with no more than `CHUNK` heatmap pixels at a time.

        All maps of a batch, the float32 features they are made of, and the gradients of both would be the largest
        tensors of a training step; a few maps at a time are made, compared with their targets, dropped, and made once
        more in the backward pass, for one percent of the step's operations.
        """
        if type(self).loss is not PoseHead.loss:  # a derived head has its own
            return super().losses(hidden, samples)
        return self._losses(hidden, self._last, samples)

    def _losses(
        self, x: torch.Tensor, last: Callable[[torch.Tensor], torch.Tensor], samples: list[HumanDataSample]
    ) -> dict[str, torch.Tensor]:
        chosen = self.labelled(samples, 'gt_keypoints')
        if not chosen:
            return self.by_name(self.no_loss(last(x[:1])), 'loss_kpt')
        keypoints = torch.stack([samples[i].gt_keypoints for i in chosen]).to(x.device)
        visible = torch.stack([samples[i].gt_keypoints_visible for i in chosen]).to(x.device)
        if keypoints.shape[1] != self.out_channels:
            raise UserError(f"the data have {keypoints.shape[1]} keypoints, but the head's vocabulary "
                            f"'{self.vocabulary.name}' has {self.out_channels}")  # fmt: skip
        if tuple(x.shape[-2:]) != self.codec.heatmap_size:
            (h, w), (height, width) = x.shape[-2:], self.codec.heatmap_size
            raise UserError(f'PoseHead gives {h} x {w} heatmaps, its codec asks for {height} x {width}: each of '
                            'deconv_channels doubles the size of the features')  # fmt: skip
        gx, gy, weights = self.codec.factors(keypoints, visible)
        self._batches += 1
        with_accuracy = self.accuracy_interval > 0 and self._batches % self.accuracy_interval == 0

        def errors(part: torch.Tensor, gx: torch.Tensor, gy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            heatmaps = last(part)
            if self.loss_module.of_probabilities and not self.training:
                heatmaps = heatmaps.clamp(min=1e-12).log()  # logits again, but for a constant
            values = self.loss_module.errors(heatmaps, (gx, gy))
            return values, heatmaps.detach().flatten(2).argmax(-1) if with_accuracy else None

        step = max(1, CHUNK // (self.out_channels * math.prod(self.codec.heatmap_size)))
        chunks = []
        for start in range(0, len(chosen), step):
            part = slice(start, start + step)
            inputs = take(x, chosen[part]), gx[part], gy[part]
            again = len(chosen) > step and x.requires_grad
            chunks.append(
                checkpoint(errors, *inputs, use_reentrant=False, preserve_rng_state=False) if again else errors(*inputs)
            )
        values, index = zip(*chunks, strict=True)
        loss = self.loss_module.reduce(torch.cat(values), weights * self.point_weights)
        losses = self.by_name(loss, 'loss_kpt', len(chosen) / len(samples))
        if with_accuracy:
            at, width = torch.cat(index), gx.shape[-1]
            points = torch.stack([at % width, at // width], -1).float()
            target = torch.stack([gx.argmax(-1), gy.argmax(-1)], -1).float()
            losses['acc_pose'] = pose_accuracy(points, target, weights > 0, self.codec.heatmap_size)
        return losses

    def predict(self, output: torch.Tensor, samples: list[HumanDataSample]) -> None:
        """Write ``pred_keypoints`` (K, 2) in original pixels and ``pred_keypoint_scores`` (K,)."""
        keypoints, scores = self.codec.decode(output)
        warps = torch.stack([sample_frames(sample, self.codec.input_size)[2] for sample in samples])
        keypoints = points_to_original(keypoints, warps)
        for sample, points, score in zip(samples, to_host(keypoints), to_host(scores), strict=True):
            sample.set_field(points, 'pred_keypoints')
            sample.set_field(score, 'pred_keypoint_scores')
