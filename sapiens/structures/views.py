# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A sample as the OpenMMLab toolkits' metrics expect it, so that they can be used in our configs as they are.

``val_evaluator = dict(type='mmseg.IoUMetric')`` reads ``pred_sem_seg`` and ``gt_sem_seg``, ``'mmpose.CocoMetric'``
reads ``pred_instances`` and ``gt_instances`` in the original image's frame, ``'mmseg.DepthMetric'`` reads
``pred_depth_map`` and ``gt_depth_map``. Maps are views of the sample's own tensors; only the labels of an image of
which a crop was predicted are copied, without what lies outside of the crop.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch

from ..utils.on_device import to_numpy
from .coco_entries import AREA_OF_BOX
from .geometry import covered_window, to_original

_MAPS = {
    'pred_part_map': ('pred_sem_seg', None),
    'gt_part_map': ('gt_sem_seg', 255),
    'pred_depth': ('pred_depth_map', None),
    'gt_depth': ('gt_depth_map', 0),
}
"""Our maps -> their names, and what labels say where they say nothing."""


def openmmlab_views(sample: dict[str, Any]) -> dict[str, Any]:
    """The further entries that OpenMMLab's metrics read.

    Args:
        sample: ``HumanDataSample.to_dict()`` without views: metainfo and fields by our names.

    Returns:
        ``pred_sem_seg`` / ``gt_sem_seg`` / ``pred_depth_map`` / ``gt_depth_map``: ``{'data': (1, H, W) tensor}``;
        ``pred_instances`` and ``gt_instances``: arrays with a leading axis of one person, boxes ``x1, y1, x2, y2``;
        ``id``, ``category_id`` and, where keypoints are labelled, ``raw_ann_info`` (a COCO annotation). Only what
        the sample's fields allow, and nothing that the sample has already.
    """
    views: dict[str, Any] = {}
    for ours, (theirs, unknown) in _MAPS.items():
        if sample.get(ours) is not None:
            tensor = torch.as_tensor(sample[ours])
            tensor = tensor[None] if tensor.ndim == 2 else tensor
            views[theirs] = {'data': tensor if unknown is None else _shown(tensor, sample, unknown)}
    if sample.get('pred_keypoints') is not None or sample.get('gt_keypoints') is not None:
        views.update(_persons(sample))
    return {name: value for name, value in views.items() if name not in sample}


def _shown(label: torch.Tensor, sample: dict[str, Any], unknown: int) -> torch.Tensor:
    """A label without what the network was not shown of its image; a copy only where that is something."""
    shape = tuple(label.shape[-2:])
    (rows, columns), shown = covered_window(sample.get('warp_mat'), sample.get('img_shape'), shape)
    if shown is None and (rows, columns) == (slice(0, shape[0]), slice(0, shape[1])):
        return label
    cut = label[..., rows, columns]
    if shown is not None:
        cut = cut.masked_fill(~torch.from_numpy(shown).to(label.device), unknown)
    label = torch.full_like(label, unknown)
    label[..., rows, columns] = cut
    return label


def _persons(sample: dict[str, Any]) -> dict[str, Any]:
    predicted: dict[str, np.ndarray] = {}
    labelled: dict[str, np.ndarray] = {}
    views: dict[str, Any] = {'id': _identity(sample), 'category_id': 1}
    box = None
    if sample.get('bbox') is not None:
        box = to_numpy(sample['bbox']).reshape(-1)[:4]
        score = sample.get('bbox_score')
        labelled['bboxes'] = box[None]
        labelled['bbox_scores'] = np.array([1.0 if score is None else float(score)], np.float32)
        labelled['bbox_scales'] = (box[2:] - box[:2])[None]
        predicted['bboxes'], predicted['bbox_scores'] = labelled['bboxes'], labelled['bbox_scores']
    if sample.get('pred_keypoints') is not None:
        predicted['keypoints'] = to_numpy(sample['pred_keypoints']).reshape(1, -1, 2)
        predicted['keypoint_scores'] = to_numpy(sample['pred_keypoint_scores']).reshape(1, -1)
    if sample.get('gt_keypoints') is not None:
        points = to_original(sample['gt_keypoints'], sample.get('warp_mat')).reshape(-1, 2)
        visible = to_numpy(sample['gt_keypoints_visible']).reshape(-1)
        labelled['keypoints'] = points[None].astype(np.float32)
        labelled['keypoints_visible'] = visible[None]
        views['raw_ann_info'] = _annotation(sample, points, visible, box, views['id'])
    views['pred_instances'], views['gt_instances'] = predicted, labelled
    return views


def _annotation(
    sample: dict[str, Any], points: np.ndarray, visible: np.ndarray, box: np.ndarray | None, identity: int | str
) -> dict[str, Any]:
    """The labelled person as a COCO annotation; points that are not labelled are (0, 0, 0) as in COCO's files."""
    if box is None:
        seen = points[visible > 0] if (visible > 0).any() else np.zeros((1, 2))
        box = np.concatenate([seen.min(0), seen.max(0)])
    width, height = (box[2:] - box[:2]).tolist()
    area = sample.get('area')
    triplets = np.concatenate([points, visible[:, None]], 1) * (visible > 0)[:, None]
    return {
        'id': identity,
        'image_id': sample.get('img_id'),
        'category_id': 1,
        'bbox': [float(box[0]), float(box[1]), width, height],
        'area': width * height * AREA_OF_BOX if area is None else float(area),
        'iscrowd': 0,
        'num_keypoints': int((visible > 0).sum()),
        'keypoints': triplets.reshape(-1).tolist(),
    }


def _identity(sample: dict[str, Any]) -> int | str:
    """What tells the persons of an image apart; their metrics drop persons of equal ``id``."""
    for name in ('ann_id', 'sample_idx'):
        if sample.get(name) is not None:
            return sample[name]
    where = repr((sample.get('img_id'), to_numpy(sample['bbox']).tolist() if sample.get('bbox') is not None else None))
    return zlib.crc32(where.encode())
