# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Pictures of what a model does, while it trains and when it is tested."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import nn

from ...datasets.image_files import read_image
from ...datasets.label_files import encode_image, encode_npz
from ...datasets.transforms.fields import warp_points
from ...errors import UserError
from ...registry import HOOKS
from ...utils.file_names import safe_stem
from ...utils.files import write_atomic
from ...utils.numbers import check_number
from ...visualization import HumanVisualizer, side_by_side
from ..sampling import seeded
from ..sharding import is_sharded
from ..state import vocabularies_of


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[Any]:
    """The model in eval mode, without gradients, leaving random states as they were."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), seeded(0):
            yield model
    finally:
        model.train(training)


def _painter(model: nn.Module) -> HumanVisualizer:
    known: Any = vocabularies_of(model)
    return HumanVisualizer('pictures', keypoint_vocabulary=known.get('keypoints'), part_vocabulary=known.get('parts'))


def _first(data_batch: dict, count: int) -> dict:
    return {key: value[:count] for key, value in data_batch.items()}


def _rgb(inputs: torch.Tensor) -> np.ndarray:
    """``(3, H, W)`` uint8 tensor -> contiguous ``(H, W, 3)`` array."""
    return np.ascontiguousarray(inputs.permute(1, 2, 0).cpu().numpy())


def _warp_map(values: torch.Tensor, warp: np.ndarray, size: tuple[int, int], outside: float = 0) -> torch.Tensor:
    """A map of the original image, ``(H, W)`` or ``(C, H, W)``, in the network's input, for looking at."""
    options: Any = dict(flags=cv2.INTER_NEAREST, borderValue=outside)
    planes = values.cpu().numpy().astype(np.float32).reshape(-1, *values.shape[-2:])
    moved = [cv2.warpAffine(plane, np.asarray(warp)[:2], size[::-1], **options) for plane in planes]
    return torch.from_numpy(np.stack(moved)).reshape(*values.shape[:-2], *size).to(values.dtype)


def _in_input_frame(samples: Sequence[Any]) -> list[Any]:
    """Copies of samples whose maps and predictions lie in the network's input instead of the original image.

    Test pipelines keep label maps in the original frame, where metrics compare, and predictions are made there.
    """
    copies = []
    for sample in samples:
        sample = copy.deepcopy(sample)
        shape, warp = sample.get('img_shape'), sample.get('warp_mat')
        for task in ('part_map', 'depth', 'normals', 'mask'):
            for field in (f'gt_{task}', f'pred_{task}'):
                values = sample.get(field)
                # A label of the input's size is in its frame already.
                moved = values is not None and (field[0] == 'p' or tuple(values.shape[-2:]) != tuple(shape or ()))
                if moved and shape is not None and warp is not None:
                    outside = np.nan if field == 'pred_depth' else 0
                    sample.set_field(_warp_map(values, warp, tuple(shape[:2]), outside), field)
        if 'pred_keypoints' in sample and warp is not None:
            points = warp_points(sample.pred_keypoints.cpu().numpy(), np.asarray(warp))
            sample.set_field(torch.from_numpy(points), 'pred_keypoints')
        if shape is not None:
            sample.set_metainfo(dict(ori_shape=shape))
        sample.set_metainfo(dict(warp_mat=np.eye(3)[:2]))
        if 'bbox' in sample:
            delattr(sample, 'bbox')
        copies.append(sample)
    return copies


@HOOKS.register_module()
class PredictionVisHook(Hook):
    """Draw image, labels and predictions of a few samples, in the frame that the network sees.

    Pictures go to the visualizer's backends (by default PNG files under ``vis_data/vis_image`` and TensorBoard).
    Models that are not a `HumanEstimator` are left alone.

    Args:
        interval: Training iterations between pictures; 0 draws none while training.
        max_images: Samples per picture, one row each; 0 draws none.
        val_batches: Batches of each validation to draw.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 1000, max_images: int = 4, val_batches: int = 1) -> None:
        check_number('PredictionVisHook.interval', interval, whole=True)
        check_number('PredictionVisHook.max_images', max_images, whole=True)
        check_number('PredictionVisHook.val_batches', val_batches, whole=True)
        self.interval, self.max_images, self.val_batches = interval, max_images, val_batches

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Draw part of the batch just trained on."""
        if not (self.max_images and self.every_n_train_iters(runner, self.interval) and is_main_process()):
            return
        # Running a sharded model is a joint act; a picture on one process alone would wait for ever.
        if not hasattr(runner.bare_model, 'heads') or is_sharded(runner.bare_model):
            return
        batch = _first(data_batch, self.max_images)
        with _evaluating(runner.bare_model) as model:
            samples = _in_input_frame(batch['data_samples'])
            prepared = model.data_preprocessor({**batch, 'data_samples': samples}, False)
            predicted = model(**prepared, mode='predict')
        self._draw(runner, batch, predicted, 'train', runner.iter + 1)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Draw what the validation predicted for its first batches."""
        wanted = self.max_images and batch_idx < self.val_batches and is_main_process()
        if wanted and hasattr(runner.bare_model, 'heads'):
            predicted = _in_input_frame(list(outputs)[: self.max_images])
            self._draw(runner, _first(data_batch, self.max_images), predicted, f'val_{batch_idx}', runner.iter)

    def _draw(self, runner: Any, batch: dict, predicted: Sequence[Any], name: str, step: int) -> None:
        painter = _painter(runner.model)
        rows = [painter.draw_row(_rgb(image), sample) for image, sample in zip(batch['inputs'], predicted, strict=True)]
        width = max(row.shape[1] for row in rows)
        rows = [np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows]
        runner.visualizer.add_image(name, np.concatenate(rows), step)


@HOOKS.register_module()
class MAEVisHook(Hook):
    """Draw original | masked | reconstruction for several mask ratios, one row per ratio and image.

    Models without ``reconstruct`` are left alone.

    Args:
        interval: Training iterations between pictures; 0 draws none while training.
        max_images: Images per picture; 0 draws none.
        mask_ratios: Parts of the patches to remove.
    """

    priority = 'LOW'

    def __init__(
        self, interval: int = 1000, max_images: int = 2, mask_ratios: Sequence[float] = (0.75, 0.85, 0.95)
    ) -> None:
        check_number('MAEVisHook.interval', interval, whole=True)
        check_number('MAEVisHook.max_images', max_images, whole=True)
        for ratio in mask_ratios:
            check_number('MAEVisHook.mask_ratios: one', ratio, 0, 1, below=True)
        self.interval, self.max_images, self.mask_ratios = interval, max_images, tuple(mask_ratios)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Draw part of the batch just trained on."""
        if self.every_n_train_iters(runner, self.interval):
            self._draw(runner, data_batch, 'mae_train', runner.iter + 1)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Draw part of the first batch of a validation."""
        if batch_idx == 0:
            self._draw(runner, data_batch, 'mae_val', runner.iter)

    def _draw(self, runner: Any, data_batch: dict, name: str, step: int) -> None:
        bare = runner.bare_model
        if not self.max_images or not hasattr(bare, 'reconstruct') or is_sharded(bare) or not is_main_process():
            return
        images = torch.stack(list(data_batch['inputs'][: self.max_images]))
        rows = []
        with _evaluating(runner.bare_model) as model:
            for ratio in self.mask_ratios:
                generator = torch.Generator().manual_seed(0)
                result = model.reconstruct(images, mask_ratio=ratio, generator=generator)
                for i in range(len(images)):
                    tiles = [_rgb(result[key][i]) for key in ('original', 'masked', 'reconstruction')]
                    rows.append(side_by_side(tiles, ['original', f'{ratio:.0%} masked', 'reconstruction']))
        runner.visualizer.add_image(name, np.concatenate(rows), step)


@HOOKS.register_module()
class ResultHook(Hook):
    """Write the predictions of a test: arrays for programs, pictures for people.

    Args:
        out_dir: Folder of ``<image>_<n>.npz`` with every ``pred_*`` field, in the original image's frame; None: none.
        show_dir: Folder of PNG pictures; None: none. The original image is drawn on where it can be read again, else
            the network's input.
    """

    priority = 'LOW'

    def __init__(self, out_dir: str | None = None, show_dir: str | None = None) -> None:
        self.out_dir, self.show_dir = out_dir, show_dir
        self._painter: HumanVisualizer | None = None

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write one batch."""
        for position, sample in enumerate(outputs or []):
            path = sample.get('img_path')
            stem = safe_stem(Path(path).stem) if path else 'sample'
            name = f'{stem}_r{runner.rank}_{batch_idx:05d}_{position:02d}'
            fields = {key: value for key, value in sample.items() if key.startswith('pred_')}
            if self.out_dir:
                arrays = {key: np.asarray(torch.as_tensor(value).cpu()) for key, value in fields.items()}
                write_atomic(Path(self.out_dir) / f'{name}.npz', encode_npz(**arrays))
            if self.show_dir and fields:
                self._show(runner, sample, data_batch['inputs'][position], Path(self.show_dir) / f'{name}.png')

    def _show(self, runner: Any, sample: Any, inputs: torch.Tensor, out: Path) -> None:
        if self._painter is None:
            self._painter = _painter(runner.model)
        image = None
        with suppress(UserError):
            image = read_image(str(sample.get('img_path')))
        # Predictions lie in a frame of this size.
        shape = tuple(sample.get('ori_shape', inputs.shape[-2:])[:2])
        if image is None or image.shape[:2] != shape:
            image = _rgb(inputs)
        if image.shape[:2] != shape:
            runner.logger.warning(f'No picture of {out.stem}: its original image cannot be read again')
            return
        picture = self._painter.draw_row(image, sample, ('pred',))
        write_atomic(out, encode_image(picture, '.png'))
