# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The end of a pipeline: tensors and a data sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...registry import TRANSFORMS
from ...structures import HumanDataSample
from .base import Transform
from .fields import Sample

META_KEYS = (
    'img_path',
    'img_id',
    'ann_id',
    'sample_idx',
    'ori_shape',
    'img_shape',
    'warp_mat',
    'bbox',
    'bbox_score',
    'area',
    'flipped',
    'camera',
)


@TRANSFORMS.register_module(name=['PackHumanInputs', 'PackPoseInputs', 'PackSegInputs'])
@dataclass(eq=False)
class PackHumanInputs(Transform):
    """Sample dict -> ``dict(inputs=(3, H, W) uint8 RGB tensor, data_samples=HumanDataSample)``.

    Every label present is packed (see `HumanDataSample` for names and shapes). Points that left the frame keep their
    visibility: the codec gives those without a target no weight, and metrics map all back to the original image.

    Args:
        meta_keys: Fields to keep as meta information, where present.
    """

    meta_keys: Sequence[str] = META_KEYS

    def transform(self, results: Sample) -> dict[str, Any]:
        """Pack."""
        sample = HumanDataSample(metainfo={k: results[k] for k in self.meta_keys if results.get(k) is not None})
        if 'warp_mat' in results:
            sample.set_metainfo({'warp_mat': np.asarray(results['warp_mat'], np.float64)[:2]})
        if 'keypoints' in results:
            sample.gt_keypoints = torch.from_numpy(np.asarray(results['keypoints'], np.float32))
            sample.gt_keypoints_visible = torch.from_numpy(np.asarray(results['keypoints_visible'], np.float32))
        if 'boxes' in results:
            sample.gt_boxes = torch.from_numpy(np.asarray(results['boxes'], np.float32))
        if 'part_map' in results:
            sample.gt_part_map = _tensor(results['part_map'])
        if 'depth' in results:
            sample.gt_depth = _tensor(results['depth'])[None]
        if 'normals' in results:
            sample.gt_normals = _tensor(results['normals'].transpose(2, 0, 1))
        if 'mask' in results:
            sample.gt_mask = _tensor(results['mask'] > 0)[None]
        return {'inputs': _tensor(results['img'].transpose(2, 0, 1)), 'data_samples': sample}


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
