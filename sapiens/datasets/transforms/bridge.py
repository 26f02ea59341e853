# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Data sets of the OpenMMLab toolkits in our pipelines, and steps of their pipelines that have no twin in ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UserError
from ...registry import TRANSFORMS
from ...vocabularies import load_keypoints
from .base import Transform
from .fields import IGNORE, Sample
from .loading import LoadImage, LoadLabels


@TRANSFORMS.register_module()
@dataclass(eq=False)
class FromOpenMMLab(Transform):
    """Turn a record of an mmpose top-down, mmseg or mmpretrain data set into our sample; put it first in the pipeline.

    So ``type='mmpose.CocoWholeBodyDataset'`` or ``'mmseg.LIPDataset'`` work with our transforms and models.

    Args:
        keypoint_vocabulary: Vocabulary of the points, e.g. ``'wholebody133'``.
        part_vocabulary: Vocabulary of the classes, e.g. ``'parts20'``.

    Raises:
        UserError: The record has another number of points than the vocabulary, or several people.
    """

    keypoint_vocabulary: str | None = None
    part_vocabulary: str | None = None

    def transform(self, record: Sample) -> Sample:
        """Convert; fields that we do not know are left out."""
        results: Sample = {k: record[k] for k in ('img_path', 'img_id', 'sample_idx', 'area') if k in record}
        results['ann_id'] = record.get('id', record.get('ann_id'))
        if record.get('bbox') is not None:
            self._one(record, 'bbox')
            results['bbox'] = np.asarray(record['bbox'], np.float32).reshape(4)
            results['bbox_score'] = float(np.ravel(record.get('bbox_score', 1.0))[0])
        if record.get('keypoints') is not None:
            self._one(record, 'keypoints')
            points = np.asarray(record['keypoints'], np.float32)[0, :, :2]
            if self.keypoint_vocabulary is None:
                raise UserError("FromOpenMMLab: name the points, e.g. keypoint_vocabulary='coco17'")
            expected = load_keypoints(self.keypoint_vocabulary).num_keypoints
            if len(points) != expected:
                raise UserError(f"{record.get('img_path')}: has {len(points)} keypoints, '{self.keypoint_vocabulary}' "
                                f'has {expected}; name the vocabulary of the data set')  # fmt: skip
            visible = np.asarray(record['keypoints_visible'], np.float32)
            # Some versions keep (coordinate weight, visibility) in a last axis.
            visible = visible[0, :, 0] if visible.ndim == 3 else visible[0]
            results.update(keypoints=points, keypoints_visible=visible, keypoint_vocabulary=self.keypoint_vocabulary)
        if record.get('seg_map_path') is not None:
            results.update(label_files={'parts': record['seg_map_path']}, part_vocabulary=self.part_vocabulary)
            results['label_map'] = self._table(record)
        return results

    @staticmethod
    def _one(record: Sample, field: str) -> None:
        if len(record[field]) != 1:
            raise UserError(f"{record.get('img_path')}: {field} of {len(record[field])} people in one record; "
                            "use data_mode='topdown'")  # fmt: skip

    @staticmethod
    def _table(record: Sample) -> np.ndarray | None:
        """Both ways in which mmseg renames ids as one table: the zero label first, then the label map."""
        table = np.arange(256)
        if record.get('reduce_zero_label'):
            table = np.where((table == 0) | (table == IGNORE), IGNORE, table - 1)
        names = record.get('label_map') or {}
        table = np.array([names.get(int(i), i) for i in table], np.uint8)
        return None if (table == np.arange(256)).all() else table


@TRANSFORMS.register_module()
class LoadImageFromFile(LoadImage):
    """`LoadImage` of the full image by mmcv's name; what they say about colours and back ends does not matter here."""

    def __init__(self, **theirs: Any) -> None:
        super().__init__(reduce=False, backend_args=theirs.get('backend_args'))


@TRANSFORMS.register_module()
class LoadAnnotations(LoadLabels):
    """`LoadLabels` of the parts by mmsegmentation's name: as their file has them, moved by what follows alone.

    So it comes right behind `LoadImageFromFile`, or in tests behind the geometry, whose labels stay as they were.

    Args:
        **theirs: What the data set says here (``label_map``).
    """

    def __init__(self, **theirs: Any) -> None:
        if theirs.get('reduce_zero_label'):
            raise UserError("LoadAnnotations: say reduce_zero_label by the data set's label_map={0: 255, 1: 0, ...}")
        super().__init__(('parts',), frame='original')


@TRANSFORMS.register_module()
class GenerateTarget(Transform):
    """Does nothing: mmpose's step before packing, which the head's codec does on the device."""

    def __init__(self, **theirs: Any) -> None:
        pass

    def transform(self, results: Sample) -> Sample:
        """As they are."""
        return results
