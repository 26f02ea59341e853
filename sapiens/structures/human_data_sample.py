# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One image (or one person's crop of it) with any of its labels and predictions."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import BaseDataElement

from .views import openmmlab_views


class HumanDataSample(BaseDataElement):
    """An image with any of: keypoints, part labels, depth, normals, human mask.

    Sizes are ``(H, W)``. Labels (``gt_*``) lie in the frame of the network's input, after every transform.
    Predictions (``pred_*``) lie in the frame of the original image, unless a head says otherwise. A field
    that is absent is unknown; nothing is filled in. Spatial axes are rows down, columns right.

    Metainfo (all optional):
        img_path (str), img_id (int | str), ann_id (int | str): Where the sample comes from.
        ori_shape (H, W): Size of the file's image after EXIF rotation.
        img_shape (H, W): Size of the network's input.
        warp_mat (2, 3) float64: Affine map of pixel centres ``(x, y, 1)`` of the original image to the input.
        bbox (4,) float32: Person box ``x1, y1, x2, y2`` in the original image; bbox_score (float).
        flipped (bool): Whether the warp mirrors the image.

    Labels:
        gt_keypoints (K, 2) float32: x, y in input pixels.
        gt_keypoints_visible (K,) float32: 0 = unlabelled (weight 0), 1 hidden, 2 visible. Points
            outside the input keep theirs; the codec leaves them out.
        gt_part_map (H, W) uint8: Part ids; 255 = ignore.
        gt_depth (1, H, W) float32: Metres (or any unit that grows with distance); 0 = unknown.
        gt_normals (3, H, W) float32: Unit vectors, x right, y up, z towards the viewer; (0, 0, 0) = unknown.
        gt_mask (1, H, W) bool: True on people.
        gt_boxes (N, 4) float32: x1, y1, x2, y2 of all people, in input pixels.

    Predictions:
        pred_keypoints (K, 2) float32, pred_keypoint_scores (K,) float32 in [0, 1].
        pred_part_map (H, W) uint8; pred_part_scores (H, W) float32: probability of the chosen class.
        pred_depth (1, H, W) float32: Affine-invariant; larger = farther.
        pred_normals (3, H, W) float32: Unit vectors, axes as the labels.
    """

    def pin_memory(self) -> HumanDataSample:
        """Move the fields into pinned memory, as torch's loaders ask for, so that copies to a GPU need no waiting."""
        for name, value in self.items():
            if isinstance(value, torch.Tensor):
                self.set_field(value.pin_memory(), name)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Metainfo and fields in one dict, with the entries that OpenMMLab's metrics read (see `views`)."""
        sample = super().to_dict()
        return {**sample, **openmmlab_views(sample)}
