# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Reconstructions of a masked autoencoder as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..datasets.label_files import encode_image
from ..errors import UserError
from ..utils.files import write_atomic
from ..visualization import side_by_side
from .loading import choose_device, load_model
from .sources import open_frames


def draw_reconstructions(
    image: str | Path | np.ndarray,
    out: str | Path | None,
    weights: str | Path,
    config: str | Path | None = None,
    mask_ratios: Sequence[float] = (0.75, 0.85, 0.95),
    seed: int = 0,
    device: str = 'auto',
) -> np.ndarray:
    """Draw original | masked | reconstruction, one row per mask ratio.

    Args:
        image: File, or ``(H, W, 3)`` uint8 RGB.
        out: File to write, or None.
        weights: Checkpoint with the decoder.
        config: Of the pretraining; None: the shipped one of the checkpoint's size.
        mask_ratios: Parts of the patches to remove.

    Returns:
        The picture, ``(H', W', 3)`` uint8 RGB.

    Raises:
        UserError: Unreadable image, wrong checkpoint, or one without decoder.
    """
    pixels = next(open_frames(image, 'rgb')).image
    chosen = choose_device(device)
    loaded = load_model('mae' if config is None else None, weights, config)
    model: Any = loaded.network.to(chosen)
    if not hasattr(model, 'neck') or not hasattr(model, 'reconstruct'):
        raise UserError(f'{weights}: holds no MAE decoder ({loaded.layout}), nothing can be reconstructed with it')
    height, width = model.backbone.img_size
    shrink = pixels.shape[0] > height or pixels.shape[1] > width
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    rows, titles = [], []
    for ratio in mask_ratios:
        pictures = model.reconstruct(batch, ratio, torch.Generator().manual_seed(seed))
        rows += [pictures[k][0].permute(1, 2, 0).cpu().numpy() for k in ('original', 'masked', 'reconstruction')]
        titles += ['original', f'{ratio:.0%} masked', 'reconstruction']
    picture = side_by_side(rows, titles, columns=3)
    if out is not None:
        out = Path(out)
        if out.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
            raise UserError(f'{out}: the name of the picture must end in .png or .jpg')
        write_atomic(out, encode_image(picture, out.suffix.lower()))
    return picture
