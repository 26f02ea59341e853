# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The one estimator of all tasks."""

from __future__ import annotations

import torch
from mmengine.model import BaseModel
from torch import nn

from ...registry import MODELS
from ...structures import HumanDataSample


@MODELS.register_module()
class HumanEstimator(BaseModel):
    """A backbone with one head (the paper's models) or several (all tasks in one pass).

    Args:
        backbone: Config of the backbone.
        heads: Task name (``'pose'``, ``'seg'``, ``'depth'``, ``'normal'``) -> config of its head; ``in_channels``
            and the codec's ``input_size`` come from the backbone unless given.
        neck: Config of what stands between the backbone and all heads (`UpsamplingNeck`); None = nothing.
        data_preprocessor: Config; `HumanDataPreprocessor` by default.
        test_cfg: ``flip_test`` (bool): average the outputs of the image and of its mirror.
    """

    def __init__(
        self,
        backbone: dict,
        heads: dict[str, dict],
        neck: dict | None = None,
        data_preprocessor: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(MODELS.build(data_preprocessor or dict(type='sapiens.HumanDataPreprocessor')), init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = None if neck is None else MODELS.build(self._complete_neck(neck))
        self.heads = nn.ModuleDict({task: MODELS.build(self._complete(head)) for task, head in heads.items()})
        self.test_cfg = dict(test_cfg or {})

    def _complete(self, head: dict) -> dict:
        """Fill in what the backbone decides: the width of the features and the input size of a codec."""
        width = getattr(self.backbone, 'embed_dims', None) if self.neck is None else self.neck.out_channels
        head = dict(head) if width is None else {'in_channels': width, **head}
        if 'codec' in head and hasattr(self.backbone, 'img_size'):
            head['codec'] = {'input_size': self.backbone.img_size, **head['codec']}
        return head

    def _complete_neck(self, neck: dict) -> dict:
        widths = {'in_channels': self.backbone.embed_dims, 'skip_channels': self.backbone.stem_channels}
        return {**{key: value for key, value in widths.items() if value is not None}, **neck}

    def extract_feat(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """``(B, 3, H, W)`` normalised images -> the backbone's features, or the neck's."""
        feats = self.backbone(inputs)
        return feats if self.neck is None else self.neck(feats)

    def outputs(self, inputs: torch.Tensor, flip_test: bool = False) -> dict[str, torch.Tensor]:
        """Raw output of every head; with ``flip_test`` the mean with that of the mirrored images."""
        feats = self.extract_feat(inputs)
        outputs = {task: head(feats) for task, head in self.heads.items()}
        if flip_test:
            feats = self.extract_feat(inputs.flip(-1))
            outputs = {task: (outputs[task] + head.flip_back(head(feats))) / 2 for task, head in self.heads.items()}
        return outputs

    def forward(
        self, inputs: torch.Tensor, data_samples: list[HumanDataSample] | None = None, mode: str = 'tensor'
    ) -> dict[str, torch.Tensor] | list[HumanDataSample]:
        """Entry for mmengine.

        Args:
            inputs: ``(B, 3, H, W)`` normalised RGB.
            data_samples: Labels (``'loss'``) or metainfo (``'predict'``) of the images.
            mode: ``'tensor'`` -> task -> raw output; ``'loss'`` -> ``<task>.<loss name>`` -> scalar; ``'predict'`` ->
                the samples with ``pred_*`` fields in the original images' frames.
        """
        if mode == 'tensor':
            return self.outputs(inputs)
        if mode == 'loss':
            outputs = self.outputs(inputs)
            return {
                f'{task}.{name}': value
                for task, head in self.heads.items()
                for name, value in head.loss(outputs[task], data_samples).items()
            }
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        raise ValueError(f"mode is 'tensor', 'loss' or 'predict', not '{mode}'")

    @torch.no_grad()
    def predict(self, inputs: torch.Tensor, data_samples: list[HumanDataSample] | None) -> list[HumanDataSample]:
        """Predictions in the original images' frames; without samples each input is its own original."""
        samples = data_samples
        if samples is None:
            samples = [HumanDataSample(metainfo=dict(img_shape=tuple(inputs.shape[-2:]))) for _ in inputs]
        for task, output in self.outputs(inputs, self.test_cfg.get('flip_test', False)).items():
            self.heads[task].predict(output, samples)
        return samples
