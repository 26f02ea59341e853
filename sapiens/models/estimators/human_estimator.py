# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The one estimator of all tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import nn

from ...errors import UserError
from ...registry import MODELS
from ...structures import HumanDataSample
from ...utils.numbers import check_number
from ...utils.on_device import take, wait
from ..heads.frames import cut_to_input
from ..heads.pose import PoseHead
from .closer_look import CloserLook


@MODELS.register_module()
class HumanEstimator(BaseModel):
    """A backbone with one head (the paper's models) or several (all tasks in one pass).

    Args:
        backbone: Config of the backbone.
        heads: Task name (``'pose'``, ``'seg'``, ``'depth'``, ``'normal'``) -> config of its head; ``in_channels``
            and the codec's ``input_size`` come from the backbone unless given.
        neck: Config of what stands between the backbone and all heads (`UpsamplingNeck`); None = nothing.
        data_preprocessor: Config; `HumanDataPreprocessor` by default.
        test_cfg: ``flip_test`` (bool): average the outputs of the image and of its mirror. ``scales`` (numbers): and
            those of the mirrored image (of both with ``flip_test``) at these shares of its size, in whole patches.
            ``closer_look`` (dict): arguments of a `CloserLook` at some keypoints of each person, of a `PoseHead`.

    Raises:
        UserError: ``scales`` are no numbers above 0, or ``closer_look`` is not what `CloserLook` takes.
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
        self.neck = None
        if neck is not None:
            widths = {'in_channels': self.backbone.embed_dims, 'skip_channels': self.backbone.stem_channels}
            self.neck = MODELS.build({**{key: value for key, value in widths.items() if value is not None}, **neck})
        self.heads = nn.ModuleDict({task: MODELS.build(self._complete(head)) for task, head in heads.items()})
        self.test_cfg = dict(test_cfg or {})
        scales = self.test_cfg.get('scales', ())
        if not isinstance(scales, (list, tuple)):
            raise UserError(f'model.test_cfg.scales is {scales!r}; give a list of numbers above 0, e.g. (0.75,)')
        for scale in scales:
            check_number('model.test_cfg.scales: one', scale, above=True)
        self._closer_look()  # what is wrong with it shows at once
        self._batch = 0  # that the parts are compiled for

    def _closer_look(self) -> tuple[str | None, CloserLook | None]:
        """The task whose keypoints are looked at closer, and how; None if none are."""
        options = self.test_cfg.get('closer_look')
        task = next((name for name, head in self.heads.items() if isinstance(head, PoseHead)), None)
        if not options or task is None:
            return None, None
        try:
            return task, CloserLook(self.heads[task].vocabulary, **options)
        except TypeError:
            raise UserError(f'model.test_cfg.closer_look is {options!r}; give None, or a dict of around=[...] and '
                            'perhaps also=[...] and extent') from None  # fmt: skip

    def _complete(self, head: dict) -> dict:
        """Fill in what the backbone decides: the width of the features and the input size of a codec."""
        width = getattr(self.backbone, 'embed_dims', None) if self.neck is None else self.neck.out_channels
        head = dict(head) if width is None else {'in_channels': width, **head}
        if 'codec' in head and hasattr(self.backbone, 'img_size'):
            head['codec'] = {'input_size': self.backbone.img_size, **head['codec']}
        return head

    def set_precision(self, dtype: torch.dtype) -> None:
        """Keep encoder, neck and heads in another precision (inference without autocast)."""
        for part in filter(None, (self.backbone, self.neck)):
            part.to(dtype)
        for head in self.heads.values():
            head.set_precision(dtype)

    def compile_for(self, batch: int) -> None:
        """Compile encoder, neck and heads for inference in batches of one size; smaller ones are filled up to it.

        Weights become constants of the compiled graphs, so they must not change afterwards.
        """
        self._batch = batch
        for part in filter(None, (self.backbone, self.neck, *self.heads.values())):
            part.compile(options={'freezing': True})

    def extract_feat(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """``(B, 3, H, W)`` normalised images -> the backbone's features, or the neck's."""
        feats = self.backbone(inputs)
        return feats if self.neck is None else self.neck(feats)

    def outputs(
        self,
        inputs: torch.Tensor,
        flip_test: bool = False,
        heads: Sequence[str] | None = None,
        rows: dict[str, Sequence[int]] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Raw outputs of the heads, ``(B, C, h, w)``, each covering just its input.

        Args:
            inputs: ``(B, 3, H, W)`` normalised RGB.
            flip_test: Average with the outputs of the mirrored images.
            heads: Tasks to run; None = all.
            rows: Task -> the inputs that it runs on; tasks that are not named run on all.
        """
        chosen = {task: (rows or {}).get(task) for task in (self.heads if heads is None else heads)}
        outputs = self._at_scales(inputs, chosen)
        if flip_test:
            mirrored = self._at_scales(inputs.flip(-1), chosen)
            outputs = {task: (out + self.heads[task].flip_back(mirrored[task])) / 2 for task, out in outputs.items()}
        return outputs

    def _at_scales(self, inputs: torch.Tensor, chosen: dict[str, Sequence[int] | None]) -> dict[str, torch.Tensor]:
        outputs = self._run_heads(inputs, chosen)
        scales, patch = self.test_cfg.get('scales', ()), getattr(self.backbone, 'patch_size', 1)
        sums = dict(outputs)
        for scale in scales:
            size = [max(1, round(length * scale / patch)) * patch for length in inputs.shape[-2:]]
            # Mirrored, since two looks that differ more make less of the same errors, at no cost.
            other = F.interpolate(inputs.flip(-1), size=size, mode='bilinear', align_corners=False)
            for task, output in self._run_heads(other, chosen).items():
                output = self.heads[task].flip_back(output)
                size = outputs[task].shape[-2:]
                sums[task] = sums[task] + F.interpolate(output, size=size, mode='bilinear', align_corners=False)
        return {task: output / (1 + len(scales)) for task, output in sums.items()} if scales else outputs

    def _run_heads(
        self, inputs: torch.Tensor, chosen: dict[str, Sequence[int] | None], **options: bool
    ) -> dict[str, torch.Tensor]:
        if self._batch and len(inputs) < self._batch:
            filled = torch.cat([inputs, inputs[-1:].expand(self._batch - len(inputs), -1, -1, -1)])
            outputs = self._run_heads(filled, dict.fromkeys(chosen), **options)
            rows_of = {task: range(len(inputs)) if rows is None else rows for task, rows in chosen.items()}
            return {task: outputs[task][list(rows)] for task, rows in rows_of.items() if len(rows)}
        feats = self.extract_feat(inputs)
        outputs = {}
        for task, rows in chosen.items():
            part = feats if rows is None or len(rows) == len(inputs) else tuple(take(feat, rows) for feat in feats)
            if rows is None or len(rows):
                outputs[task] = self._cover_input(self.heads[task](part, **options), feats[-1], inputs)
        return outputs

    def _cover_input(self, output: torch.Tensor, feat: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Cut off what the output says about the padding of an input whose sides are no multiple of the patch."""
        patch = getattr(self.backbone, 'patch_size', None)
        if patch is None or feat.ndim != 4:
            return output
        covered = tuple(n * patch // getattr(self.neck, 'upsampling', 1) for n in feat.shape[-2:])
        return cut_to_input(output, covered, tuple(inputs.shape[-2:]))

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
            hidden = self._run_heads(inputs, dict.fromkeys(self.heads), last=False)
            return {
                f'{task}.{name}': value
                for task, head in self.heads.items()
                for name, value in head.losses(hidden.pop(task), data_samples).items()
            }
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        raise ValueError(f"mode is 'tensor', 'loss' or 'predict', not '{mode}'")

    @torch.no_grad()
    def predict(
        self,
        inputs: torch.Tensor,
        data_samples: list[HumanDataSample] | None = None,
        heads: Sequence[str] | None = None,
        rows: dict[str, Sequence[int]] | None = None,
        flip_test: bool | None = None,
    ) -> list[HumanDataSample]:
        """The one way from inputs to predictions, which tests, hooks and `sapiens.apis` take.

        Args:
            inputs: ``(B, 3, H, W)`` normalised RGB.
            data_samples: Their metainfo (``ori_shape``, ``warp_mat``); None: each input is its own original.
            heads: Tasks to run; None = all.
            rows: Task -> the inputs that it runs on; tasks that are not named run on all.
            flip_test: Average with the mirrored images; None = as ``test_cfg`` says.

        Returns:
            The samples, with ``pred_*`` fields in the original images' frames.
        """
        samples = [HumanDataSample() for _ in inputs] if data_samples is None else data_samples
        for sample in samples:
            if 'img_shape' not in sample:
                sample.set_metainfo({'img_shape': tuple(inputs.shape[-2:])})
        flip_test = self.test_cfg.get('flip_test', False) if flip_test is None else flip_test
        self._predict(inputs, samples, flip_test, heads, rows)
        task, closer_look = self._closer_look()
        if closer_look is not None and (heads is None or task in heads):
            chosen = (rows or {}).get(task, range(len(samples)))
            closer_look(
                take(inputs, chosen),
                [samples[i] for i in chosen],
                lambda views, seconds: self._predict(views, seconds, flip_test, [task]),
            )
        return samples

    def _predict(
        self,
        inputs: torch.Tensor,
        samples: list[HumanDataSample],
        flip_test: bool,
        heads: Sequence[str] | None,
        rows: dict[str, Sequence[int]] | None = None,
    ) -> None:
        for task, output in self.outputs(inputs, flip_test, heads, rows).items():
            chosen = (rows or {}).get(task)
            self.heads[task].predict(output, samples if chosen is None else [samples[i] for i in chosen])
        wait(inputs.device)
