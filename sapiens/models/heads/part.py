# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Body-part segmentation head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ...errors import UserError
from ...registry import MODELS
from ...structures import HumanDataSample
from ...utils.on_device import take, to_host
from ...vocabularies import PartVocabulary, load_vocabulary
from ..losses import pixel_accuracy
from .base import DeconvHead
from .frames import argmax_to_original, map_to_original, sample_frames


@MODELS.register_module()
class PartHead(DeconvHead):
    """Logits of the classes of a part vocabulary (paper, section 3.4).

    Args:
        in_channels: Width of the features.
        vocabulary: Name or file of a part vocabulary; gives C, the swap table and the class weights.
        deconv_channels, conv_channels: Widths; the published models have three of 768 each.
        loss: Config of the loss; class weights come from the vocabulary unless given here.
        dropout: Channel dropout before the last layer.
        with_scores: Also put out the probability of the chosen class (costs a map of all logits).
        person_first: Predict a part where all parts together are likelier than the background, not where one alone is:
            a small model that hesitates between upper and lower clothes still knows that a person is there.

    Raises:
        UserError: The vocabulary is not one of parts.
    """

    def __init__(
        self,
        in_channels: int,
        vocabulary: str | PartVocabulary,
        deconv_channels: Sequence[int] = (768, 768, 768),
        conv_channels: Sequence[int] = (768, 768, 768),
        loss: dict | None = None,
        dropout: float = 0.1,
        with_scores: bool = False,
        person_first: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        vocabulary = load_vocabulary(vocabulary)
        if vocabulary.kind != 'parts':
            raise UserError(f"PartHead needs a part vocabulary; '{vocabulary.name}' has keypoints")
        super().__init__(in_channels, vocabulary.num_classes, deconv_channels, conv_channels, dropout, init_cfg)
        self.vocabulary, self.with_scores, self.person_first = vocabulary, with_scores, person_first
        loss = {'type': 'sapiens.WeightedCrossEntropy', 'class_weight': vocabulary.weights.tolist(), **(loss or {})}
        self.loss_module = MODELS.build(loss)
        self.register_buffer('swap', torch.from_numpy(vocabulary.swap.copy()), persistent=False)

    def forward(self, feats: Sequence[torch.Tensor] | torch.Tensor, last: bool = True) -> torch.Tensor:
        """As `DeconvHead.forward`; a ``person_first`` head weakens the background of predictions, see there."""
        output = super().forward(feats, last)
        if self.training or not (last and self.person_first):
            return output
        parts = output[:, 1:]
        background = output[:, :1] - parts.logsumexp(1, keepdim=True) + parts.amax(1, keepdim=True)
        return torch.cat([background, parts], 1)

    def flip_back(self, output: torch.Tensor) -> torch.Tensor:
        """Mirror ``(B, C, h, w)`` logits and exchange left and right classes."""
        return output.flip(-1)[:, self.swap]

    def loss(self, output: torch.Tensor, samples: list[HumanDataSample]) -> dict[str, torch.Tensor]:
        """``loss_ce`` at the labels' resolution (logits are upsampled bilinearly) and ``acc_seg`` in percent.

        Samples with a mask of people instead of parts have a part in it too: there, all parts together are one class.
        """
        chosen = self.labelled(samples, 'gt_part_map')
        outlined = [i for i in self.labelled(samples, 'gt_mask') if 'gt_part_map' not in samples[i]]
        outlines = self._outline_loss(output, samples, outlined)
        ignore = self.loss_module.ignore_index
        if not chosen:
            # The loss may count pixels over all processes: each has to ask it, also one without labels.
            nothing = torch.full_like(output[:, 0], ignore, dtype=torch.long)
            return {'loss_ce': self.loss_module(output, nothing) + outlines}
        logits, labels = _at_labels(output, samples, chosen, 'gt_part_map')
        # The plain mean runs over all pixels of the batch, those of unlabelled images included.
        share = len(chosen) / len(samples) if self.loss_module.reduction == 'pixels' else 1.0
        with torch.no_grad():
            accuracy = pixel_accuracy(logits, labels, ignore)
        try:
            loss = self.loss_module(logits, labels)
        except IndexError:  # a CPU looks; a GPU must not be made to wait, and data sets check their labels themselves
            raise UserError(f"a label {int(labels.masked_fill(labels == ignore, 0).max())} lies outside the "
                            f"{self.out_channels} classes of '{self.vocabulary.name}'; run tools/check_dataset.py or "
                            'set label_map') from None  # fmt: skip
        return {'loss_ce': loss * share + outlines, 'acc_seg': accuracy}

    def _outline_loss(
        self, output: torch.Tensor, samples: list[HumanDataSample], outlined: list[int]
    ) -> torch.Tensor | float:
        """Cross-entropy of person against background, their share of the batch's pixels."""
        if not outlined:
            return 0.0
        logits, people = _at_labels(output, samples, outlined, 'gt_mask')
        person = logits[:, 1:].logsumexp(1) - logits[:, 0]
        loss = F.binary_cross_entropy_with_logits(person, people[:, 0].to(person.dtype))
        return loss * self.loss_module.loss_weight * len(outlined) / len(samples)

    def predict(self, output: torch.Tensor, samples: list[HumanDataSample]) -> None:
        """Write ``pred_part_map`` (H, W) uint8 at the original size, and ``pred_part_scores`` if asked for."""
        for sample, logits in zip(samples, output.float(), strict=True):
            input_shape, ori_shape, warp = sample_frames(sample, logits.shape[-2:])
            logits = F.interpolate(logits[None], size=input_shape, mode='bilinear', align_corners=False)[0]
            sample.set_field(to_host(argmax_to_original(logits, warp, ori_shape)), 'pred_part_map')
            if self.with_scores:
                best = logits.softmax(0).amax(0, keepdim=True)
                sample.set_field(to_host(map_to_original(best, warp, ori_shape)[0]), 'pred_part_scores')


def _at_labels(
    output: torch.Tensor, samples: list[HumanDataSample], chosen: list[int], field: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the chosen samples at the size of their labels, and the labels as integers."""
    labels = torch.stack([samples[i].get(field) for i in chosen]).to(output.device).long()
    logits = F.interpolate(take(output, chosen).float(), size=labels.shape[-2:], mode='bilinear', align_corners=False)
    return logits, labels
