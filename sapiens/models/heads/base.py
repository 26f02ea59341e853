# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The network that all four heads share: deconvolutions, 1 x 1 convolutions, one output layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import nn

from ...errors import UserError
from ...registry import MODELS
from ...structures import HumanDataSample
from ...utils.full_precision import full_precision
from ...utils.on_device import take, to_host
from ..losses import KeypointLoss, NormalLoss, SiLogLoss, WeightedCrossEntropy
from ..randomness import ChannelDropout
from .frames import sample_frames


def _block(layer: nn.Module, channels: int) -> list[nn.Module]:
    return [layer, nn.InstanceNorm2d(channels), nn.SiLU(inplace=True)]


class DeconvHead(BaseModule):
    """Upsample features by 2 per deconvolution (kernel 4, stride 2), then 1 x 1 convolutions.

    Every layer but the last is followed by InstanceNorm without parameters and SiLU, which gives the published
    parameter names ``deconv_layers.{0,3,..}``, ``conv_layers.{0,3,..}``; the last layer is ``final_layer``.

    The layers run in the precision of the features; the last one, losses and predictions run in float32, also under
    autocast and in heads derived from these.

    Args:
        in_channels: Width of the features.
        out_channels: Channels of the output.
        deconv_channels, conv_channels: Widths of the layers.
        dropout: Channel dropout before the last layer when training.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Whatever a head computes from outputs, it computes in float32."""
        super().__init_subclass__(**kwargs)
        for name in {'loss', 'predict', 'flip_back'} & set(vars(cls)):
            setattr(cls, name, full_precision(vars(cls)[name]))

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        deconv_channels: Sequence[int],
        conv_channels: Sequence[int],
        dropout: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.register_buffer('swap', None, persistent=False)
        self.upsampling = 2 ** len(deconv_channels)
        layers, width = [], in_channels
        for channels in deconv_channels:
            layers += _block(nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1, bias=False), channels)
            width = channels
        self.deconv_layers = nn.Sequential(*layers)
        layers = []
        for channels in conv_channels:
            layers += _block(nn.Conv2d(width, channels, 1), channels)
            width = channels
        self.conv_layers = nn.Sequential(*layers)
        self.dropout = ChannelDropout(dropout)
        self.final_layer = nn.Conv2d(width, out_channels, 1)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(module.weight, std=0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, feats: Sequence[torch.Tensor] | torch.Tensor, last: bool = True) -> torch.Tensor:
        """Features ``(B, C, h, w)`` (the last of a sequence) -> ``(B, out_channels, 2^n h, 2^n w)`` float32.

        In training too: rounding a heatmap to bf16 is an error as large as the loss of a trained model. Without the
        ``last`` layer, what `losses` takes.
        """
        x = feats if isinstance(feats, torch.Tensor) else feats[-1]
        x = x if self.dtype is None else x.to(self.dtype)
        x = self.dropout(self.conv_layers(self.deconv_layers(x)))
        return self._last(x) if last else x

    @full_precision
    def _last(self, x: torch.Tensor) -> torch.Tensor:
        """The output layer, whose values are read between pixels."""
        return self.final_layer(x)

    @property
    def dtype(self) -> torch.dtype | None:
        """Of the layers before the last; None without any."""
        return next((p.dtype for p in (*self.deconv_layers.parameters(), *self.conv_layers.parameters())), None)

    def set_precision(self, dtype: torch.dtype) -> DeconvHead:
        """Keep the layers before the last in another precision, the encoder's (inference without autocast)."""
        self.deconv_layers.to(dtype)
        self.conv_layers.to(dtype)
        self.final_layer.float()  # files may hold half precision
        return self

    fits: type  # the loss that `loss` is written for
    loss_module: Any
    swap: torch.Tensor | None  # channel -> its partner on the other side, of heads that know left and right

    def build_loss(self, config: dict) -> Any:
        """The loss module of a config.

        Raises:
            UserError: It is made for another head. Losses of users are taken as they are, but `KeypointLoss` is needed
                where its errors of single heatmaps are asked for.
        """
        loss = MODELS.build(config)
        fits = vars(next(kind for kind in type(self).__mro__ if 'loss' in vars(kind))).get('fits', object)
        ours = {kind.forward for kind in (KeypointLoss, NormalLoss, SiLogLoss, WeightedCrossEntropy)}
        if not isinstance(loss, fits) and (fits is KeypointLoss or getattr(type(loss), 'forward', None) in ours):
            raise UserError(
                f'{type(self).__name__}: {type(loss).__name__} is no {fits.__name__}; leave loss out, or give '
                'one that is made for this head (docs/architecture.md, "Add a loss")'
            )
        return loss

    @full_precision
    def flip_back(self, output: torch.Tensor) -> torch.Tensor:
        """Turn the output ``(B, C, h, w)`` of a mirrored image into that of the image itself."""
        output = output.flip(-1)
        return output if self.swap is None else output[:, self.swap]

    def losses(self, hidden: torch.Tensor, samples: list[HumanDataSample]) -> dict[str, torch.Tensor]:
        """As `loss`, from what comes before the last layer."""
        return self.loss(self._last(hidden), samples)

    def loss(self, output: torch.Tensor, samples: list[HumanDataSample]) -> dict[str, torch.Tensor]:
        """Losses (names start with ``loss``) and accuracies of an output against the labels of the samples."""
        raise NotImplementedError

    def predict(self, output: torch.Tensor, samples: list[HumanDataSample]) -> None:
        """Write the predictions in the original images' frames into the samples."""
        raise NotImplementedError

    def by_name(self, value: Any, name: str, share: float = 1.0) -> dict[str, torch.Tensor]:
        """What the head's loss module gave, times a share: of a dict each by its name, a scalar under the head's.

        A module with a ``loss_name``, as those of mmsegmentation have, says the name of its scalar itself.
        """
        losses = value if isinstance(value, dict) else {getattr(self.loss_module, 'loss_name', name): value}
        return {key: loss * share for key, loss in losses.items()}

    @staticmethod
    def labelled(samples: list[HumanDataSample], field: str) -> list[int]:
        """Positions of the samples that carry a label; the others have no part in the loss."""
        return [i for i, sample in enumerate(samples) if field in sample]

    @staticmethod
    def no_loss(output: torch.Tensor) -> torch.Tensor:
        """A loss of 0 with zero gradients, whatever the output holds: parameters without a gradient stop DDP."""
        return output[:0].float().sum()


class DenseHead(DeconvHead):
    """A head of maps: parts, depth or normals."""

    @staticmethod
    def at_labels(
        output: torch.Tensor, samples: list[HumanDataSample], chosen: list[int], field: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``(n, C, H, W)`` output of the chosen samples at the size of their labels, and the labels on its device."""
        labels = torch.stack([samples[i].get(field) for i in chosen]).to(output.device)
        output = take(output, chosen).float()
        return F.interpolate(output, size=labels.shape[-2:], mode='bilinear', align_corners=False), labels

    @staticmethod
    def keep_people(valid: torch.Tensor, samples: list[HumanDataSample], chosen: list[int]) -> torch.Tensor:
        """``(n, 1, H, W)`` bool of pixels that count, without those off the people of samples that have a mask."""
        for row, i in enumerate(chosen):
            if 'gt_mask' in samples[i]:
                valid[row] &= samples[i].gt_mask.to(valid.device).bool()
        return valid

    def predict(self, output: torch.Tensor, samples: list[HumanDataSample]) -> None:
        """Write the maps at the original size; 0 where the input does not cover the original."""
        for sample, values in zip(samples, output.float(), strict=True):
            input_shape, ori_shape, warp = sample_frames(sample, values.shape[-2:])
            values = F.interpolate(values[None], size=input_shape, mode='bilinear', align_corners=False)[0]
            for name, field in self.fields(values, warp, ori_shape).items():
                sample.set_field(to_host(field), name)

    def fields(self, values: torch.Tensor, *frame: Any) -> dict[str, torch.Tensor]:
        """Predictions by name of ``(C, H, W)`` at the input's size; ``frame`` is what `map_to_original` takes."""
        raise NotImplementedError
