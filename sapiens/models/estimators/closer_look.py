# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A second look of the same network at a part of a person that is small in the first one: the head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dist import is_distributed

from ...errors import UserError
from ...structures import HumanDataSample
from ...utils.numbers import check_number
from ...vocabularies import KeypointVocabulary
from ..heads.frames import sample_frames

LEAST_ZOOM = 1.15
"""What fills the input nearly already is not looked at again."""
SURE = 0.3
"""Score that a point needs in the second look to count."""
AS_SURE = 0.7
"""And the share of its score in the first."""


class CloserLook:
    """Keypoints of a part of the body from a window around it, enlarged to the network's input.

    Args:
        vocabulary: Of the pose head.
        around: Keypoints, or groups of them, that say where the part is; one may be a word.
        also: What else is taken from the second look, besides those.
        extent: Half the height of the window, in root mean squared distances of ``around`` from their centre.

    Raises:
        UserError: The vocabulary has no such keypoint or group, ``around`` is empty, or ``extent`` no number above 0.
    """

    def __init__(
        self,
        vocabulary: KeypointVocabulary,
        around: str | Sequence[str],
        also: str | Sequence[str] = (),
        extent: float = 4.5,
    ) -> None:
        if not around:
            raise UserError('model.test_cfg.closer_look: around names no keypoint; name some, e.g. nose and eyes')
        check_number('model.test_cfg.closer_look: extent', extent, above=True)
        self.around, self.extent = _indices(vocabulary, around), extent
        self.points = np.union1d(self.around, _indices(vocabulary, also))

    def __call__(
        self,
        inputs: torch.Tensor,
        samples: Sequence[HumanDataSample],
        predict: Callable[[torch.Tensor, list[HumanDataSample]], None],
    ) -> None:
        """Improve ``pred_keypoints`` and ``pred_keypoint_scores``.

        Args:
            inputs: ``(B, 3, H, W)`` of the first look.
            samples: Its predictions.
            predict: Writes the same fields into samples for inputs.
        """
        size = tuple(inputs.shape[-2:])
        windows = [self._window(sample, size) for sample in samples]
        chosen = [i for i, (_, half) in enumerate(windows) if size[0] / 2 >= LEAST_ZOOM * half]
        if not chosen:
            if is_distributed():  # a model that processes share runs on all of them or on none
                predict(inputs[:1], [HumanDataSample()])
            return
        thetas, seconds = [], []
        for i in chosen:
            (x, y), half = windows[i]
            zoom, (height, width) = size[0] / 2 / half, size
            thetas.append([[1 / zoom, 0, (2 * x + 1) / width - 1], [0, 1 / zoom, (2 * y + 1) / height - 1]])
            _, ori_shape, warp = sample_frames(samples[i], size)
            closer = warp.numpy() * zoom
            closer[:, 2] += (width - 1) / 2 - zoom * x, (height - 1) / 2 - zoom * y
            seconds.append(HumanDataSample(metainfo=dict(img_shape=size, ori_shape=ori_shape, warp_mat=closer)))
        theta = torch.tensor(thetas, dtype=torch.float32, device=inputs.device)
        grid = F.affine_grid(theta, [len(chosen), 3, *size], align_corners=False)
        views = F.grid_sample(inputs[chosen].float(), grid, padding_mode='border', align_corners=False)
        if not inputs.is_floating_point():  # exported files take bytes
            views = views.round()
        predict(views.to(inputs.dtype), seconds)
        for i, second in zip(chosen, seconds, strict=True):
            first = samples[i]
            better = torch.zeros(len(first.pred_keypoint_scores), dtype=torch.bool)
            better[self.points] = True
            better &= second.pred_keypoint_scores >= (AS_SURE * first.pred_keypoint_scores).clamp(min=SURE)
            for field in ('pred_keypoints', 'pred_keypoint_scores'):
                values = first.get(field).clone()
                values[better] = second.get(field)[better]
                first.set_field(values, field)

    def _window(self, sample: HumanDataSample, size: tuple[int, int]) -> tuple[np.ndarray, float]:
        """Centre x, y and half the height of what to look at, in pixels of the input."""
        warp = sample_frames(sample, size)[2].numpy()
        points = sample.pred_keypoints.numpy()[self.around] @ warp[:, :2].T + warp[:, 2]
        weights = sample.pred_keypoint_scores.numpy()[self.around].astype(np.float64).clip(1e-6)
        centre = np.average(points, axis=0, weights=weights)
        spread = float(np.sqrt(np.average(((points - centre) ** 2).sum(1), weights=weights)))
        return centre, max(self.extent * spread, 0.04 * size[0])


def _indices(vocabulary: KeypointVocabulary, names: str | Sequence[str]) -> np.ndarray:
    names = [names] if isinstance(names, str) else [str(name) for name in names]
    known = {**{name: [i] for i, name in enumerate(vocabulary.names)}, **vocabulary.groups}
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise UserError(f"model.test_cfg.closer_look: '{vocabulary.name}' has no keypoint or group '{unknown}'; name "
                        'others, or set closer_look=None')  # fmt: skip
    return np.array([i for name in names for i in known[name]], np.int64)
