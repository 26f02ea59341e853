# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One network on one device: cut its inputs out of images, run batches of them, put the outputs back in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..datasets.transforms.dense import Resize
from ..datasets.transforms.topdown import PersonBox, TopdownAffine
from ..errors import UserError
from ..structures import HumanDataSample
from .loading import LoadedModel
from .results import Features


@dataclass
class Crop:
    """One input of a network.

    Attributes:
        pixels: ``(H, W, 3)`` uint8 RGB at the network's input size.
        warp: ``(3, 3)`` float64: pixel centres of the image -> of the input.
        region: ``x0, y0, x1, y1``: pixels of the image that the input covers (``x1, y1`` excluded).
        tasks: Heads to run on it.
        person: Number of the person in the image, -1 for the whole image.
    """

    pixels: np.ndarray
    warp: np.ndarray
    region: tuple[int, int, int, int]
    tasks: tuple[str, ...]
    person: int = -1


class Network:
    """A loaded model that runs.

    Args:
        loaded: Of `load_model`.
        device: Where.
        dtype: Of the encoder; heads and decoding stay in float32, since keypoints are read between pixels.
        flip_test: Average with the mirrored image; None = as the config says.
        part_scores: Keep the probability of the chosen part.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        device: torch.device,
        dtype: torch.dtype,
        flip_test: bool | None = None,
        part_scores: bool = False,
    ) -> None:
        self.model, self.source, self.dtype = loaded.network, loaded.source, dtype
        self.model.to(device)
        self.model.backbone.to(dtype)
        self.heads = dict(getattr(self.model, 'heads', {}).items())
        for head in self.heads.values():
            head.float()
        self.tasks = tuple(self.heads)
        if 'seg' in self.heads and part_scores:
            self.heads['seg'].with_scores = True
        test_cfg = getattr(self.model, 'test_cfg', {})
        self.flip_test = bool(test_cfg.get('flip_test', False)) if flip_test is None else flip_test
        self.input_size = tuple(self.model.backbone.img_size)
        steps = _test_pipeline(loaded)
        # A model that was made on crops of persons gets such crops for all its tasks, and its encoder runs once.
        self.topdown = 'pose' in self.heads or any(s.get('type', '').endswith('TopdownAffine') for s in steps)
        padding = next((s.get('padding', 1.25) for s in steps if s.get('type', '').endswith('PersonBox')), 1.25)
        self._box, self._affine = PersonBox(padding), TopdownAffine(self.input_size)
        self._resize = Resize(self.input_size)

    def crop(self, image: np.ndarray, box: np.ndarray | None, tasks: Sequence[str], person: int = -1) -> Crop:
        """Cut out a person, or resize the whole image (``box`` None)."""
        sample = dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], warp_mat=np.eye(3))
        if box is None:
            sample = self._resize(sample)
        else:
            sample = self._affine(self._box({**sample, 'bbox': box}))
        warp = np.eye(3)
        warp[:2] = np.asarray(sample['warp_mat'])[:2]
        height, width = image.shape[:2]
        region = (0, 0, width, height) if box is None else covered(warp, self.input_size, (height, width))
        return Crop(np.ascontiguousarray(sample['img']), warp, region, tuple(tasks), person)

    @torch.inference_mode()
    def run(self, crops: Sequence[Crop]) -> list[HumanDataSample]:
        """Predict; maps have the size of a crop's region, keypoints are pixels of the image."""
        samples = [HumanDataSample(metainfo=_frames(crop, self.input_size)) for crop in crops]
        rows = {
            task: [i for i, crop in enumerate(crops) if task in crop.tasks and (task == 'pose' or _area(crop.region))]
            for task in self.tasks
        }
        self.predict(self._inputs(crops), samples, rows)
        for crop, sample in zip(crops, samples, strict=True):
            if 'pred_keypoints' in sample:
                shift = sample.pred_keypoints.new_tensor(crop.region[:2])
                sample.set_field(sample.pred_keypoints + shift, 'pred_keypoints')
        return samples

    @torch.inference_mode()
    def predict(self, inputs: torch.Tensor, samples: list[HumanDataSample], rows: dict[str, list[int]]) -> None:
        """Fill in the predictions of normalised inputs ``(B, 3, H, W)``; ``rows``: task -> inputs that it runs on."""
        outputs = self._heads(inputs, rows)
        if self.flip_test:
            mirrored = self._heads(inputs.flip(-1), rows)
            outputs = {task: (out + self.heads[task].flip_back(mirrored[task])) / 2 for task, out in outputs.items()}
        for task, output in outputs.items():
            self.heads[task].predict(output, [samples[i] for i in rows[task]])

    def _inputs(self, crops: Sequence[Crop]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack([crop.pixels for crop in crops])).permute(0, 3, 1, 2).contiguous()
        return self.model.data_preprocessor({'inputs': pixels}, False)['inputs'].to(self.dtype)

    def _heads(self, inputs: torch.Tensor, rows: dict[str, list[int]]) -> dict[str, torch.Tensor]:
        feats = [feat.float() for feat in self.model.extract_feat(inputs)]
        return {
            task: self.heads[task]([feat[chosen] if len(chosen) < len(inputs) else feat for feat in feats]).float()
            for task, chosen in rows.items()
            if chosen
        }

    @torch.inference_mode()
    def features(
        self, images: Sequence[np.ndarray], names: Sequence[str], layers: Sequence[int], cls: bool, pooled: bool
    ) -> list[Features]:
        """Features of whole images; see `Inferencer.extract`."""
        backbone = self.model.backbone
        count = backbone.num_layers
        wrong = [layer for layer in layers if not -count <= layer < count]
        if wrong or not layers:
            raise UserError(
                f'layer {wrong[0] if wrong else "()"} does not exist: the encoder has layers 0 to {count - 1}'
            )
        if cls and backbone.cls_token is None:
            raise UserError(
                f'{self.source}: its encoder has no cls token (only pretrained encoders have); leave cls out'
            )
        inputs = self._inputs([self.crop(image, None, ()) for image in images])
        kept = backbone.get_intermediate_layers(inputs, list(layers), reshape=True, return_class_token=cls)
        tokens = None
        if cls:
            tokens = kept[max(range(len(layers)), key=lambda k: layers[k] % count)][1].float().cpu().numpy()
            kept = [patches for patches, _ in kept]
        maps = [(m.float().mean((-1, -2)) if pooled else m.float()).cpu().numpy() for m in kept]
        return [
            Features(name, {layer: m[i] for layer, m in zip(layers, maps, strict=True)}, tokens[i] if cls else None)
            for i, name in enumerate(names)
        ]


def covered(warp: np.ndarray, input_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Pixels of an image of ``size`` whose centres an axis-aligned input covers: ``x0, y0, x1, y1``, ends excluded."""
    inverse = np.linalg.inv(warp)
    low = inverse @ np.array([-0.5, -0.5, 1])
    high = inverse @ np.array([input_size[1] - 0.5, input_size[0] - 0.5, 1])
    x0, y0 = (int(np.ceil(v)) for v in low[:2])
    x1, y1 = (int(np.floor(v)) + 1 for v in high[:2])
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(size[1], x1), min(size[0], y1)
    return (x0, y0, max(x0, x1), max(y0, y1))


def _area(region: tuple[int, int, int, int]) -> int:
    return (region[2] - region[0]) * (region[3] - region[1])


def _frames(crop: Crop, input_size: tuple[int, int]) -> dict:
    x0, y0, x1, y1 = crop.region
    shift = np.array([[1, 0, x0], [0, 1, y0], [0, 0, 1]], np.float64)
    warp = torch.from_numpy((crop.warp @ shift)[:2].copy())
    return dict(img_shape=input_size, ori_shape=(max(1, y1 - y0), max(1, x1 - x0)), warp_mat=warp)


def _test_pipeline(loaded: LoadedModel) -> list[dict]:
    dataset = (loaded.config.get('test_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    return [dict(step) for step in dataset.get('pipeline') or []]
