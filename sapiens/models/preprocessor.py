# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From uint8 images of the loader to normalised batches on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor

from ..errors import UserError
from ..registry import MODELS


@MODELS.register_module()
class HumanDataPreprocessor(BaseDataPreprocessor):
    """Move to the device, stack and normalise.

    Args:
        mean, std: RGB, on the scale 0 to 255. The defaults are the published models'.
        non_blocking: Do not wait for copies to the device; loaders pin memory where there is a GPU.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking)
        if len(mean) != 3 or len(std) != 3 or not all(one > 0 for one in std):
            raise UserError(f'HumanDataPreprocessor: mean={tuple(mean)}, std={tuple(std)}: give three numbers of each, '
                            'RGB from 0 to 255, and std above 0')  # fmt: skip
        # As it was said: buffers are rounded, and on the device.
        self.normalisation = {'mean': [float(one) for one in mean], 'std': [float(one) for one in std]}
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise a collated batch.

        Args:
            data: ``inputs``: list of (or one stacked) uint8 RGB ``(3, H, W)``; ``data_samples`` passes through.
            training: Unused; the same in both modes.

        Returns:
            ``inputs`` (B, 3, H, W) float32 and ``data_samples`` on the device.

        Raises:
            UserError: The images of the batch differ in size, or were not packed.
        """
        if 'inputs' not in data:
            raise UserError('a batch holds no inputs: end the pipeline with PackHumanInputs')
        data = self.cast_data(data)
        inputs = data['inputs']
        if not isinstance(inputs, torch.Tensor):
            sizes = {tuple(image.shape) for image in inputs}
            if len(sizes) > 1:
                raise UserError(
                    f'a batch holds images of different sizes {sorted(sizes)}: end the pipeline with one size, '
                    "say by dict(type='Pad') before packing"
                )
            inputs = torch.stack(list(inputs))
        return {'inputs': (inputs.float() - self.mean) / self.std, 'data_samples': data.get('data_samples')}

    def denormalise(self, images: torch.Tensor, fill: int = 0) -> torch.Tensor:
        """Back to pictures: ``(B, 3, H, W)`` normalised -> uint8 RGB; NaN becomes ``fill``."""
        pixels = images.float() * self.std + self.mean
        return torch.nan_to_num(pixels, nan=float(fill)).round().clamp(0, 255).to(torch.uint8)
