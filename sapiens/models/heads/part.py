# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Body-part segmentation head."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ...errors import UserError
from ...registry import MODELS
from ...structures import HumanDataSample
from ...utils.numbers import check_number
from ...vocabularies import PartVocabulary, load_vocabulary
from ..losses import WeightedCrossEntropy, pixel_accuracy
from .base import DenseHead
from .frames import argmax_to_original, map_to_original


@MODELS.register_module()
class PartHead(DenseHead):
    """Logits of the classes of a part vocabulary (paper, section 3.4).

    Args:
        in_channels: Width of the features.
        vocabulary: Name or file of a part vocabulary; gives C, the swap table and the class weights.
        deconv_channels, conv_channels: Widths; the published models have three of 768 each.
        loss: Config of the loss; one that takes a ``class_weight`` gets the vocabulary's unless told another.
        dropout: Channel dropout before the last layer.
        with_scores: Also put out the probability of the chosen class (costs a map of all logits).
        person_first: Predict a part where all parts together are likelier than the background, not where one alone is:
            a small model that hesitates between upper and lower clothes still knows that a person is there. In
            training, class weights then only weigh parts against each other: rare ones are found more often, and no
            background is taken for a person because of them.
        least_region: Regions of parts smaller than this share of the largest one are background in predictions: what
            lies apart from the person is seldom a part of it; 0 keeps all.
        with_person: In `sapiens.apis`, also put out the log-odds of a person, by which it fits outlines to the image's
            edges: a coarse map knows where somebody is, but not to the pixel where they end.

    Attributes:
        outlines: Somebody reads what ``with_person`` puts out; tests and validation do not.

    Raises:
        UserError: The vocabulary is not one of parts.
    """

    fits = WeightedCrossEntropy

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
        least_region: float = 0.0,
        with_person: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        vocabulary = load_vocabulary(vocabulary)
        if vocabulary.kind != 'parts':
            raise UserError(f"PartHead needs a part vocabulary; '{vocabulary.name}' has keypoints")
        super().__init__(in_channels, vocabulary.num_classes, deconv_channels, conv_channels, dropout, init_cfg)
        self.vocabulary, self.with_scores = vocabulary, with_scores
        check_number('PartHead.least_region', least_region, 0, 1)
        self.person_first, self.least_region, self.with_person = person_first, least_region, with_person
        self.outlines = False
        loss = {'type': 'sapiens.WeightedCrossEntropy', **(loss or {})}
        kind = MODELS.get(loss['type']) if isinstance(loss['type'], str) else loss['type']
        if 'class_weight' in inspect.signature(kind).parameters:
            loss.setdefault('class_weight', vocabulary.weights.tolist())
        self.loss_module = self.build_loss(loss)
        weights = getattr(self.loss_module, 'class_weight', None)
        if weights is not None and len(weights) != self.out_channels:
            raise UserError(f"PartHead: class_weight of the loss has {len(weights)} numbers, '{vocabulary.name}' has "
                            f'{self.out_channels} classes')  # fmt: skip
        self.ignore = getattr(self.loss_module, 'ignore_index', 255)
        self.swap = torch.from_numpy(vocabulary.swap.copy())

    def forward(self, feats: Sequence[torch.Tensor] | torch.Tensor, last: bool = True) -> torch.Tensor:
        """As `DeconvHead.forward`; a ``person_first`` head weakens the background of predictions, see there."""
        output = super().forward(feats, last)
        if self.training or not (last and self.person_first):
            return output
        parts = output[:, 1:]
        background = output[:, :1] - parts.logsumexp(1, keepdim=True) + parts.amax(1, keepdim=True)
        return torch.cat([background, parts], 1)

    def loss(self, output: torch.Tensor, samples: list[HumanDataSample]) -> dict[str, torch.Tensor]:
        """``loss_ce`` at the labels' resolution (logits are upsampled bilinearly) and ``acc_seg`` in percent.

        Samples with a mask of people instead of parts have a part in it too: there, all parts together are one class.
        """
        chosen = self.labelled(samples, 'gt_part_map')
        outlined = [i for i in self.labelled(samples, 'gt_mask') if 'gt_part_map' not in samples[i]]
        people: torch.Tensor | float = 0.0
        if outlined:
            logits, masks = self.at_labels(output, samples, outlined, 'gt_mask')
            people = self._person_loss(logits, masks[:, 0].float()).mean() * len(outlined) / len(samples)
        if not chosen:
            # The loss may count pixels over all processes: each has to ask it, also one without labels.
            nothing = torch.full_like(output[:, 0], self.ignore, dtype=torch.long)
            return self.by_name(self.loss_module(output, nothing) + people, 'loss_ce')
        logits, labels = self.at_labels(output, samples, chosen, 'gt_part_map')
        labels = labels.long()
        # The plain mean runs over all pixels of the batch, those of unlabelled images included.
        share = len(chosen) / len(samples) if getattr(self.loss_module, 'reduction', '') == 'pixels' else 1.0
        with torch.no_grad():
            accuracy = pixel_accuracy(logits, labels, self.ignore)
        if self.person_first:  # log p(part) = log p(person) + log p(part | person), of which the first has no weights
            known = (labels != self.ignore) * len(chosen) / len(samples)
            people = people + (self._person_loss(logits, (labels > 0).float()) * known).mean()
            logits = torch.cat([torch.full_like(logits[:, :1], -1e4), logits[:, 1:]], 1)
            labels = labels.masked_fill(labels == 0, self.ignore)
        try:
            loss = self.loss_module(logits, labels)
        except IndexError:  # a CPU looks; a GPU must not be made to wait, and data sets check their labels themselves
            raise UserError(f"a label {int(labels.masked_fill(labels == self.ignore, 0).max())} lies outside the "
                            f"{self.out_channels} classes of '{self.vocabulary.name}'; run tools/check_dataset.py or "
                            'set label_map') from None  # fmt: skip
        return {**self.by_name(loss * share + people, 'loss_ce'), 'acc_seg': accuracy}

    def _person_loss(self, logits: torch.Tensor, people: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of person against background, ``(B, H, W)``."""
        person = logits[:, 1:].logsumexp(1) - logits[:, 0]
        loss = F.binary_cross_entropy_with_logits(person, people, reduction='none')
        return loss * getattr(self.loss_module, 'loss_weight', 1.0)

    def fields(self, values: torch.Tensor, *frame: Any) -> dict[str, torch.Tensor]:
        """``pred_part_map`` (H, W) uint8; ``pred_part_scores`` and ``pred_person`` (H, W) if asked for."""
        if self.least_region:
            values = values.clone()
            values[0, small_regions(values[1:].amax(0) > values[0], self.least_region)] = values.amax() + 10
        fields = {'pred_part_map': argmax_to_original(values, *frame)}
        if self.with_scores:
            best = values.softmax(0).amax(0, keepdim=True)
            fields['pred_part_scores'] = map_to_original(best, *frame)[0]
        if self.with_person and self.outlines:
            person = values[1:].amax(0, keepdim=True) - values[:1]
            fields['pred_person'] = map_to_original(person, *frame)[0]
        return fields


def small_regions(person: torch.Tensor, share: float) -> torch.Tensor:
    """``(H, W)`` bool: the connected regions of a mask that are smaller than this share of the largest one."""
    _, regions, facts, _ = cv2.connectedComponentsWithStats(person.cpu().numpy().astype(np.uint8))
    areas = facts[1:, cv2.CC_STAT_AREA]
    small = np.concatenate([[False], areas < share * areas.max(initial=0)])
    return torch.from_numpy(small[regions]).to(person.device)
