# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""mmengine's Visualizer that draws a `HumanDataSample`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.visualization import Visualizer

from ..registry import VISUALIZERS
from ..structures import HumanDataSample
from ..utils.files import write_atomic
from ..utils.on_device import to_numpy
from ..vocabularies import KeypointVocabulary, PartVocabulary
from .keypoints import draw_boxes, draw_keypoints
from .layout import side_by_side
from .maps import draw_depth, draw_normals, draw_parts


@VISUALIZERS.register_module()
class HumanVisualizer(Visualizer):
    """Draws the labels and predictions that a sample carries, each as one picture, and sends them to the backends.

    Args:
        keypoint_vocabulary: Vocabulary of the keypoints, or its name; may also be set on the object later.
        part_vocabulary: Vocabulary of the part ids, or its name.
        threshold: Keypoints with a lower score are left out.
        *args: As for mmengine's `Visualizer`.
        **kwargs: As for mmengine's `Visualizer`.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        *args: Any,
        keypoint_vocabulary: str | KeypointVocabulary | None = None,
        part_vocabulary: str | PartVocabulary | None = None,
        threshold: float = 0.3,
        alpha: float = 0.55,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, *args, **kwargs)
        self.keypoint_vocabulary = keypoint_vocabulary
        self.part_vocabulary = part_vocabulary
        self.threshold = threshold
        self.alpha = alpha

    def draw_sample(self, image: np.ndarray, sample: HumanDataSample, prefix: str = 'pred') -> dict[str, np.ndarray]:
        """Pictures of one side (predictions or labels) of a sample.

        Args:
            image: ``(H, W, 3)`` uint8 RGB, in the frame of the fields drawn.
            sample: The sample; absent fields are left out, keypoints and parts also without a vocabulary.
            prefix: ``'pred'`` or ``'gt'``.

        Returns:
            Task (``'pose'``, ``'seg'``, ``'depth'``, ``'normal'``, or ``'mask'`` where there is no other label) ->
            uint8 RGB picture.
        """
        pictures = {}
        points = _array(sample.get(f'{prefix}_keypoints'))
        if points is not None and self.keypoint_vocabulary is not None:
            scores = _array(sample.get('pred_keypoint_scores' if prefix == 'pred' else 'gt_keypoints_visible'))
            threshold = self.threshold if prefix == 'pred' else 0.5
            pictures['pose'] = draw_keypoints(image, points, scores, self.keypoint_vocabulary, threshold)
            if prefix == 'pred' and 'bbox' in sample:
                pictures['pose'] = draw_boxes(pictures['pose'], np.asarray(sample.bbox))
        parts = _array(sample.get(f'{prefix}_part_map'))
        if parts is not None and self.part_vocabulary is not None:
            parts = parts.reshape(parts.shape[-2:])
            # Labels of heads that are trained at their own resolution have no image of their size.
            canvas = image if parts.shape == image.shape[:2] else np.zeros((*parts.shape, 3), np.uint8)
            pictures['seg'] = draw_parts(canvas, parts, self.part_vocabulary, self.alpha)
        mask = _array(sample.get('gt_mask'))
        depth, normals = _array(sample.get(f'{prefix}_depth')), _array(sample.get(f'{prefix}_normals'))
        if depth is not None:
            valid = mask if mask is not None and mask.shape[-2:] == depth.shape[-2:] else None
            if prefix == 'gt':
                known = depth.reshape(depth.shape[-2:]) > 0
                valid = known if valid is None else known & valid.reshape(known.shape).astype(bool)
            pictures['depth'] = draw_depth(depth, valid)
        if normals is not None:
            pictures['normal'] = draw_normals(normals)
        if mask is not None and prefix == 'gt' and not pictures:
            pictures['mask'] = np.repeat(mask.reshape(*mask.shape[-2:], 1), 3, -1).astype(np.uint8) * 255
        return pictures

    def draw_row(
        self, image: np.ndarray, sample: HumanDataSample, prefixes: Sequence[str] = ('gt', 'pred')
    ) -> np.ndarray:
        """The image and what `draw_sample` makes of the labels, the predictions or both, side by side."""
        tiles = {'image': image}
        for prefix in prefixes:
            word = 'label' if prefix == 'gt' else 'prediction'
            pictures = self.draw_sample(image, sample, prefix)
            tiles.update({f'{task} {word}': picture for task, picture in pictures.items()})
        return side_by_side(list(tiles.values()), list(tiles))

    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: HumanDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
    ) -> None:
        """Draw image, labels and predictions side by side and write, show or send the picture.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            wait_time: Seconds that the window stays; 0 = until a key is pressed.
            out_file: Write the picture there instead of sending it to the backends.
        """
        sample = HumanDataSample() if data_sample is None else data_sample
        picture = self.draw_row(image, sample, ['gt'] * draw_gt + ['pred'] * draw_pred)
        self.set_image(picture)
        if show:
            self.show(picture, win_name=name, wait_time=wait_time)
        if out_file is not None:
            write_atomic(out_file, cv2.imencode(Path(out_file).suffix, picture[..., ::-1])[1].tobytes())
        else:
            self.add_image(name, picture, step)


def _array(value: object) -> np.ndarray | None:
    return None if value is None else to_numpy(value)
