# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What the metrics of maps share: prediction and label of one image, and which of its pixels count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..structures.geometry import covered_window
from ..utils.on_device import to_numpy
from .base import Case, field, sample_name


@dataclass
class DensePair:
    """Prediction and label of one image, cut to what the network was shown of it.

    A sample may be one person's crop of an image with many people: what lies outside of the crop was not predicted.

    Attributes:
        prediction, label: ``(h, w)`` or ``(C, h, w)``.
        window: Rows and columns of the original image.
        counted: ``(h, w)`` bool of the pixels to look at.
        masked: Whether people were told from the rest (always True where only the labels were asked for).
        cropped: Whether the sample shows a part of its image.
    """

    prediction: np.ndarray
    label: np.ndarray
    window: tuple[slice, slice]
    counted: np.ndarray
    masked: bool
    cropped: bool


def dense_pair(sample: dict, prediction: str, label: str, metric: str, people: bool = True) -> DensePair:
    """Prediction and label of one image, both in the frame of the original image.

    Args:
        sample: With the two fields, and ``warp_mat`` and ``img_shape`` where the network saw a part of the image.
        people: Count only pixels of people (``gt_mask``, else the part labels), where the sample has either.

    Raises:
        UserError: One is missing or the sizes differ; the message names the image and both sizes.
    """
    why = "; the test pipeline needs LoadLabels(frame='original')" if label.startswith('gt_') else ''
    pred, gt = field(sample, prediction, metric), field(sample, label, metric, why)
    pred, gt = (array[0] if array.ndim == 3 and array.shape[0] == 1 else array for array in (pred, gt))
    if pred.shape != gt.shape:
        raise UserError(
            f'{sample_name(sample)}: {prediction} is {_size(pred)} but {label} is {_size(gt)} (H x W); '
            'both must have the size of the original image'
        )
    shape = gt.shape[-2:]
    window, shown = covered_window(sample.get('warp_mat'), sample.get('img_shape'), shape)
    cut = (..., *window)
    mask = person_mask(sample, shape) if people else None
    counted = np.ones(gt[cut].shape[-2:], bool) if mask is None else mask[window]
    if shown is not None:
        counted = counted & shown
    cropped = shown is not None or counted.shape != shape
    return DensePair(pred[cut], gt[cut], window, counted, mask is not None or not people, cropped)


def count_cases(records: list[dict], missing: str, unmasked: str = '') -> list[Case]:
    """Samples without a prediction (and what they count as) and without a human mask (and what counts)."""
    absent = sum(record['missing'] for record in records)
    unknown = unmasked and sum(not record['masked'] for record in records)
    return [
        (absent, f'{absent} of {len(records)} images have no prediction; {missing}'),
        (unknown, f'{unknown} images have no human mask; {unmasked}'),
    ]


def extent_text(records: list[dict], images: int) -> str:
    """What the labels are of: whole images, or the crops that the network saw."""
    crops = sum(record['cropped'] for record in records)
    if not crops:
        return f'{images} images at original size'
    return f'{images} samples, {crops} of them crops of their image (what lies outside is not judged)'


def person_mask(sample: dict, shape: Sequence[int]) -> np.ndarray | None:
    """``(H, W)`` bool of people, from ``gt_mask`` or the part labels; None when the sample has neither.

    Raises:
        UserError: The mask's size is not that of the labels.
    """
    if sample.get('gt_mask') is not None:
        mask = to_numpy(sample['gt_mask']) > 0
    elif sample.get('gt_part_map') is not None:
        parts = to_numpy(sample['gt_part_map'])
        mask = (parts > 0) & (parts != 255)
    else:
        return None
    mask = mask.reshape(mask.shape[-2:])
    if mask.shape != tuple(shape):
        raise UserError(
            f'{sample_name(sample)}: the human mask is {_size(mask)} but the labels are {shape[0]}x{shape[1]} '
            '(H x W); all labels of an image must have its original size'
        )
    return mask


def _size(array: np.ndarray) -> str:
    return 'x'.join(str(n) for n in array.shape[-2:])
