# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Our metrics under the names and arguments of mmpose and mmsegmentation: configs port by changing their scope.

Figures are ours (fractions in [0, 1]) under the prefix of the original, so that ``save_best='coco/AP'`` and
``save_best='mIoU'`` stay as they are. The originals remain at hand as ``'mmpose.CocoMetric'`` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..datasets.transforms.base import accept
from ..errors import UserError
from ..registry import METRICS
from ..structures.coco_entries import AREA_OF_BOX
from .keypoint_ap import KeypointAP
from .part_iou import IGNORE, PartIoU
from .pck import PCK


@METRICS.register_module()
@accept(keypoint_score_thr=('keypoint_threshold',), nms_thr=('nms_threshold',))
class CocoMetric(KeypointAP):
    """`KeypointAP` with mmpose's arguments.

    Args:
        ann_file: As in `KeypointAP`.
        use_area: False takes 0.53 of the box for every person's area.
        iou_type: Only ``'keypoints'``.
        nms_mode: ``'oks_nms'`` or ``'none'``.
        kwargs: Of `KeypointAP`; ``keypoint_score_thr`` is its ``keypoint_threshold``, ``nms_thr`` its
            ``nms_threshold``.
    """

    default_prefix = 'coco'

    def __init__(
        self,
        ann_file: str | None = None,
        use_area: bool = True,
        iou_type: str = 'keypoints',
        nms_mode: str = 'oks_nms',
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if iou_type != 'keypoints' or nms_mode not in ('oks_nms', 'none'):
            raise UserError(f"{name}: takes iou_type='keypoints' and nms_mode='oks_nms' or 'none', not '{iou_type}' "
                            f"and '{nms_mode}'; type='mmpose.{name}' has the rest")  # fmt: skip
        super().__init__(ann_file, **kwargs)
        if nms_mode == 'none':
            self.nms_threshold = None
        if not use_area and self.labels is not None:
            for person in self.labels.persons:
                person.area = 0.0 if person.bbox is None else float(person.bbox[2:].prod()) * AREA_OF_BOX


@METRICS.register_module()
class CocoWholeBodyMetric(CocoMetric):
    """`CocoMetric` for the 133 points of COCO-WholeBody, by parts."""

    default_prefix = 'coco-wholebody'

    def __init__(self, ann_file: str | None = None, vocabulary: str = 'wholebody133', **kwargs: Any) -> None:
        super().__init__(ann_file, vocabulary=vocabulary, **kwargs)


@METRICS.register_module()
class PCKAccuracy(PCK):
    """`PCK` with mmpose's arguments; ``PCK`` is the share at ``thr``.

    Args:
        thr: The only threshold.
        norm_item: ``'bbox'``; heads and torsos are ``norm=(name, name)`` of `PCK`.
    """

    default_prefix = None

    def __init__(self, thr: float = 0.05, norm_item: str | Sequence[str] = 'bbox', **kwargs: Any) -> None:
        if list([norm_item] if isinstance(norm_item, str) else norm_item) != ['bbox']:
            raise UserError(f"PCKAccuracy: norm_item is 'bbox', not {norm_item!r}; "
                            "type='PCK', norm=('left_shoulder', 'right_hip') takes two keypoints")  # fmt: skip
        super().__init__(thresholds=(thr,), **kwargs)


@METRICS.register_module()
class IoUMetric(PartIoU):
    """`PartIoU` with mmsegmentation's arguments.

    Args:
        ignore_index: Id of labelled pixels that do not count.
        iou_metrics: Only ``['mIoU']``.
        kwargs: Further arguments of `PartIoU` (``vocabulary``, ...).
    """

    default_prefix = None

    def __init__(self, ignore_index: int = IGNORE, iou_metrics: Sequence[str] = ('mIoU',), **kwargs: Any) -> None:
        if list(iou_metrics) != ['mIoU']:
            raise UserError(f"IoUMetric: iou_metrics are ['mIoU'], not {list(iou_metrics)}; "
                            "type='mmseg.IoUMetric' has the rest")  # fmt: skip
        if ignore_index != IGNORE:
            given = kwargs.get('label_map') or {}
            given = given if isinstance(given, Mapping) else dict(enumerate(given))
            kwargs['label_map'] = {**given, ignore_index: IGNORE}
        super().__init__(**kwargs)
