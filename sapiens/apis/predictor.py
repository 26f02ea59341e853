# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One model on one device: the config's test pipeline, `HumanEstimator.predict`, outputs in the image's frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose

from ..datasets.transforms.base import settle
from ..datasets.transforms.topdown import PersonBox
from ..errors import UserError
from ..registry import TRANSFORMS
from ..structures import HumanDataSample
from ..structures.geometry import covered_window
from ..utils.surroundings import out_of_surroundings
from .loading import LoadedModel, test_dataset
from .results import Features
from .sources import Frame

_PERSON = (dict(type='PersonBox'), dict(type='LoadImage'), dict(type='TopdownAffine'), dict(type='PackHumanInputs'))
_WHOLE = (dict(type='LoadImage'), dict(type='Resize'), dict(type='PackHumanInputs'))
# What reads labels, or turns the records of a data set of others into ours.
_OF_TRAINING = ('LoadLabels', 'LoadAnnotations', 'FromOpenMMLab')
_ARRAYS = {
    'pred_keypoints': 'keypoints',
    'pred_keypoint_scores': 'keypoint_scores',
    'pred_part_map': 'parts',
    'pred_part_scores': 'part_scores',
    'pred_depth': 'depth',
    'pred_normals': 'normals',
}


@dataclass(eq=False)
class Crop:
    """One input of a network, and after `Predictor.run` what it says.

    Attributes:
        inputs: ``(3, H, W)`` uint8 RGB; None once it has been run.
        sample: Metainfo of the pipeline; then predictions, maps of the region's size, keypoints in the image's pixels.
        region: ``x0, y0, x1, y1``: pixels of the image that the input covers (``x1, y1`` excluded).
        person: Number of the person in the image, -1 for the whole image.
    """

    inputs: Any
    sample: HumanDataSample
    region: tuple[int, int, int, int]
    tasks: tuple[str, ...]
    person: int = -1

    @property
    def empty(self) -> bool:
        """Whether it shows nothing of the image (a box beside it)."""
        return self.region[2] <= self.region[0] or self.region[3] <= self.region[1]


class Predictor:
    """A loaded model that runs, in the manner of segment-anything's predictor: arrays in, arrays out.

    ::

        predictor = Predictor(load_model('pose_308', 'pose.safetensors'))
        predictor.predict(image, box=[10, 20, 200, 400])['keypoints']  # (308, 2) pixels of the image

    Of the model it needs ``predict(inputs, samples, heads, rows, flip_test)`` as `HumanEstimator` has it, ``heads``
    and ``data_preprocessor``; a runner of exported files that has these works as well.

    Args:
        dtype: Of encoder and heads but for the heads' last layer; decoding stays in float32, since keypoints are read
            between pixels.
        flip_test: Average with the mirrored image; None = as the config says.
        part_scores: Keep the probability of the chosen part.

    Attributes:
        topdown: Whether its pipeline looks at persons.
        vocabularies: Task -> vocabulary of its head, or None.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        device: str | torch.device = 'cpu',
        dtype: torch.dtype = torch.float32,
        flip_test: bool | None = None,
        part_scores: bool = False,
    ) -> None:
        self.model: Any = loaded.network
        self.source, self.dtype, self.flip_test = loaded.source, dtype, flip_test
        self.model.to(device)
        # Pretraining has no heads, its encoder gives features.
        getattr(self.model, 'set_precision', self.model.backbone.to)(dtype)
        # A head that finds people is for `TinyDetector`.
        heads = getattr(self.model, 'heads', {}).items()
        self.heads = {name: head for name, head in heads if not getattr(head, 'makes_boxes', False)}
        self.tasks = tuple(self.heads)
        for head in [self.heads['seg']] if 'seg' in self.heads else ():
            head.outlines, head.with_scores = True, part_scores or getattr(head, 'with_scores', False)
        dataset = test_dataset(loaded.config)
        self.input_size = tuple(dataset.get('input_size') or self.model.backbone.img_size)
        self.vocabularies = {task: getattr(head, 'vocabulary', None) for task, head in self.heads.items()}
        fields = {'parts': 'part_vocabulary', 'keypoints': 'keypoint_vocabulary'}
        self._facts = {fields[known.kind]: known for known in self.vocabularies.values() if known is not None}
        default = _PERSON if 'pose' in self.heads else _WHOLE
        own = [s for s in dataset.get('pipeline') or default if not str(s['type']).endswith(_OF_TRAINING)]
        own = self._pipeline(own)
        self.topdown = any(isinstance(step, PersonBox) for step in own.transforms)
        other = self._pipeline(_WHOLE if self.topdown else _PERSON)
        self._person, self._whole = (own, other) if self.topdown else (other, own)

    def _pipeline(self, steps: Sequence[dict]) -> Compose:
        transforms = [TRANSFORMS.build(dict(step)) for step in steps]
        settle(transforms, input_size=self.input_size)
        return Compose(transforms)

    def prepare(
        self, frame: Frame, box: Any = None, tasks: Sequence[str] | None = None, person: int = -1, score: float = 1.0
    ) -> Crop:
        """Take an image, or one person of it, through the pipeline.

        Args:
            box: ``x1, y1, x2, y2``; None = the whole image, by the pipeline of the config or a plain resize.
            tasks: Heads to run; None = all.
        """
        height, width = frame.image.shape[:2]
        sample = {
            'img': frame.image,
            'img_path': str(frame.path or frame.name),
            'sample_idx': frame.index,
            **self._facts,
        }
        if frame.data is not None:
            sample['img_bytes'] = frame.data
        if box is not None:
            sample.update(bbox=np.asarray(box, np.float32).reshape(4), bbox_score=np.float32(score))
        packed = (self._whole if box is None else self._person)(sample)
        if packed is None or 'data_samples' not in packed:
            fault = f'drops {frame.name}' if packed is None else 'does not end with PackHumanInputs'
            raise UserError(f'{self.source}: the test pipeline of its config {fault}; mend the pipeline')
        region, sample = (0, 0, width, height), packed['data_samples']
        if box is not None:
            (rows, columns), _ = covered_window(sample.warp_mat, sample.img_shape, (height, width))
            region = (columns.start, rows.start, columns.stop, rows.stop)
        return Crop(packed['inputs'], sample, region, tuple(tasks or self.tasks), person)

    @out_of_surroundings()
    @torch.inference_mode()
    def run(self, crops: Sequence[Crop]) -> None:
        """Fill in the predictions of crops as one batch. Maps are made for the region that a crop covers alone."""
        rows = {
            task: [i for i, crop in enumerate(crops) if task in crop.tasks and (task == 'pose' or not crop.empty)]
            for task in self.tasks
        }
        for crop in crops:
            # The region is the original that predictions are made for: a person's map need not have the image's size.
            x0, y0, x1, y1 = crop.region
            warp = np.asarray(crop.sample.warp_mat, np.float64)[:2] @ [[1, 0, x0], [0, 1, y0], [0, 0, 1]]
            crop.sample.set_metainfo(dict(ori_shape=(max(1, y1 - y0), max(1, x1 - x0)), warp_mat=warp))
        inputs = self.inputs_of([crop.inputs for crop in crops])
        self.predict_tensor(inputs, [crop.sample for crop in crops], [t for t, r in rows.items() if r], rows)
        for crop in crops:
            crop.inputs = None
            if 'pred_keypoints' in crop.sample:
                shift = crop.sample.pred_keypoints.new_tensor(crop.region[:2])
                crop.sample.set_field(crop.sample.pred_keypoints + shift, 'pred_keypoints')

    def inputs_of(self, images: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """``(3, H, W)`` uint8 images of the pipeline -> the network's inputs ``(B, 3, H, W)``, on its device."""
        inputs = self.model.data_preprocessor({'inputs': list(images)}, False)['inputs']
        return inputs if inputs.dtype == torch.uint8 else inputs.to(self.dtype)  # exported files take bytes

    @out_of_surroundings()
    @torch.inference_mode()
    def predict_tensor(
        self,
        inputs: torch.Tensor,
        samples: list[HumanDataSample] | None = None,
        tasks: Sequence[str] | None = None,
        rows: dict[str, list[int]] | None = None,
    ) -> list[HumanDataSample]:
        """See `HumanEstimator.predict`, with the flip test of this predictor."""
        return self.model.predict(inputs, samples, tasks, rows, self.flip_test)

    def predict(self, image: np.ndarray, box: Any = None, tasks: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Predict for one image, or one person of it.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            box: The person, ``x1, y1, x2, y2``; None = the whole image.
            tasks: Heads to run; None = all.

        Returns:
            In the image's frame, of the tasks that ran: ``keypoints (K, 2)``, ``keypoint_scores (K,)``,
            ``parts (H, W)`` uint8, ``part_scores (H, W)``, ``depth (H, W)``, ``normals (H, W, 3)``, and maps of heads
            of your own as they give them; maps are 0 where the network did not look.
        """
        return self.predict_batch([image], [box], tasks)[0]

    @out_of_surroundings()
    def predict_batch(
        self, images: Sequence[np.ndarray], boxes: Sequence[Any] | None = None, tasks: Sequence[str] | None = None
    ) -> list[dict[str, np.ndarray]]:
        """`predict` for several images, of any sizes, in one pass of the network."""
        crops = []
        for i, image in enumerate(images):
            box = None if boxes is None else boxes[i]
            if box is None and self.topdown:
                box = [0, 0, image.shape[1] - 1, image.shape[0] - 1]
            crops.append(self.prepare(Frame(image, f'image_{i}', index=i), box, tasks))
        inputs = self.inputs_of([crop.inputs for crop in crops])
        samples = self.predict_tensor(inputs, [crop.sample for crop in crops], tasks)
        known = [{name: _array(s.get(field)) for field, name in _ARRAYS.items() if field in s} for s in samples]
        return [{**arrays, **own_maps(sample)} for arrays, sample in zip(known, samples, strict=True)]

    @out_of_surroundings()
    @torch.inference_mode()
    def features(self, frames: Sequence[Frame], layers: Sequence[int], cls: bool, pooled: bool) -> list[Features]:
        """Features of whole images; see `Inferencer.extract`."""
        backbone = self.model.backbone
        count = backbone.num_layers
        wrong = [layer for layer in layers if not -count <= layer < count]
        if wrong or not layers:
            layer = wrong[0] if wrong else '()'
            raise UserError(f'layer {layer} does not exist: the encoder has layers 0 to {count - 1}')
        if cls and backbone.cls_token is None:
            raise UserError(
                f'{self.source}: its encoder has no cls token (only pretrained encoders have); leave cls out'
            )
        inputs = self.inputs_of([self.prepare(frame).inputs for frame in frames])
        kept = backbone.get_intermediate_layers(inputs, list(layers), reshape=True, return_class_token=cls)
        tokens: Any = None
        if cls:
            tokens = kept[max(range(len(layers)), key=lambda k: layers[k] % count)][1].float().cpu().numpy()
            kept = [patches for patches, _ in kept]
        maps = [(m.float().mean((-1, -2)) if pooled else m.float()).cpu().numpy() for m in kept]
        return [
            Features(frame.name, {n: m[i] for n, m in zip(layers, maps, strict=True)}, tokens[i] if cls else None)
            for i, frame in enumerate(frames)
        ]


def own_maps(sample: HumanDataSample) -> dict[str, np.ndarray]:
    """Predicted maps ``(..., H, W)`` that no task of ours has, by their names without ``pred_``."""
    size = tuple(sample.ori_shape[:2])
    found = {name.removeprefix('pred_'): value for name, value in sample.items() if name.startswith('pred_')
             and name not in (*_ARRAYS, 'pred_person') and isinstance(value, torch.Tensor)}  # fmt: skip
    return {name: value.cpu().numpy() for name, value in found.items() if tuple(value.shape[-2:]) == size}


def _array(value: torch.Tensor) -> np.ndarray:
    """``(1, H, W)`` -> ``(H, W)``, ``(3, H, W)`` -> ``(H, W, 3)``."""
    array = value.cpu().numpy()
    if array.ndim == 3:
        array = array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
    return array
