# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A data set of made images whose augmentation draws from Python's, numpy's and torch's generators."""

import errno
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from torch.utils.data import Dataset

from sapiens.engine import checkpointing as engine_checkpointing
from sapiens.engine import start as engine_start
from sapiens.errors import UserError
from sapiens.registry import DATASETS, HOOKS, METRICS
from sapiens.structures import HumanDataSample


@DATASETS.register_module()
class ToyHumans(Dataset):
    """Labels of all tasks for a random disc on a random background.

    Args:
        size: Number of samples.
        shape: ``(H, W)``.
        bad: Indices that cannot be read.
        augment: Add noise drawn from all three generators.
        **facts: What the samples are in, as `HumanDataset` says it.
    """

    metainfo = {'dataset_name': 'toy', 'sigmas': np.ones(3, np.float32)}

    def __init__(self, size=24, shape=(64, 48), bad=(), augment=True, points=17, **facts):
        vars(self).update(facts)  # keypoint_vocabulary, part_vocabulary, input_size
        self.size, self.shape, self.bad = size, tuple(shape), set(bad)
        self.augment, self.points = augment, points

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        index = int(index)
        if index in self.bad:
            raise UserError(f'toy_{index:03d}.jpg: cannot be read')
        height, width = self.shape
        own = np.random.default_rng(index)
        center = own.uniform(0.3, 0.7, 2) * (width, height)
        rows, columns = np.mgrid[:height, :width]
        mask = np.hypot(columns - center[0], rows - center[1]) < width / 3
        image = own.integers(0, 80, (3, height, width))
        image[:, mask] += own.integers(60, 120, (3, 1))
        if self.augment:
            image = image + random.randint(0, 20) + np.random.randint(0, 20, image.shape)
            image = image + torch.randint(0, 20, image.shape).numpy()
        sample = HumanDataSample(metainfo=dict(img_path=f'toy_{index:03d}.jpg', img_shape=self.shape))
        angle = np.linspace(0, 2 * np.pi, self.points, endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle)], 1) * width / 4 + center
        sample.set_field(torch.from_numpy(ring.astype(np.float32)), 'gt_keypoints')
        sample.set_field(torch.full((self.points,), 2.0), 'gt_keypoints_visible')
        sample.set_field(torch.from_numpy(np.where(mask, 1 + (rows > center[1]), 0).astype(np.uint8)), 'gt_part_map')
        depth = torch.from_numpy(np.where(mask, 2 + rows / height, 0).astype(np.float32))[None]
        sample.set_field(depth, 'gt_depth')
        sample.set_field(torch.from_numpy(mask)[None], 'gt_mask')
        normals = np.zeros((3, height, width), np.float32)
        normals[2, mask] = 1
        sample.set_field(torch.from_numpy(normals), 'gt_normals')
        return dict(inputs=torch.from_numpy(np.clip(image, 0, 255).astype(np.uint8)), data_samples=sample)


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """Mean of a predicted field."""

    def __init__(self, field='pred_keypoint_scores', **kwargs):
        super().__init__(**kwargs)
        self.field = field

    def process(self, data_batch, data_samples):
        self.results += [float(torch.as_tensor(s[self.field]).float().mean()) for s in data_samples]

    def compute_metrics(self, results):
        return {'score': sum(results) / len(results), 'undefined': float('nan')}


@HOOKS.register_module()
class CrashHook(Hook):
    """Before iteration ``at`` (from 0): raise, or wait to be killed (or for a file ``go``), the first time."""

    def __init__(self, at, wait=False):
        self.at, self.wait = at, wait

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter != self.at:
            return
        if not self.wait:
            raise RuntimeError('crash')
        paused = Path(runner.work_dir) / f'paused{runner.rank}'
        if not paused.exists():
            paused.touch()
            end = time.monotonic() + 600
            while time.monotonic() < end and not paused.with_name('go').exists():
                time.sleep(0.1)


@HOOKS.register_module()
class HangHook(Hook):
    """The second process stops doing anything before iteration ``at`` (from 0)."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at and runner.rank == 1:
            time.sleep(3600)


@HOOKS.register_module()
class SlowHook(Hook):
    """The third process waits for its data, the second computes slowly."""

    def before_train(self, runner):
        if runner.rank == 1:
            runner.bare_model.backbone.layers[0].register_forward_hook(lambda *_: time.sleep(0.3))
        if runner.rank == 2:
            dataset, get = runner.train_dataloader.dataset, type(runner.train_dataloader.dataset).__getitem__
            type(dataset).__getitem__ = lambda self, index: (time.sleep(0.15), get(self, index))[1]


@HOOKS.register_module()
class FullDiskHook(Hook):
    """The disk of the second process is full while the checkpoints of some steps are written."""

    def __init__(self, steps):
        self.steps = steps

    def before_run(self, runner):
        from torch.distributed.checkpoint import FileSystemWriter

        write = FileSystemWriter.write_data

        def refuse(writer, *args, **kwargs):
            if any(f'iter_{step}.dcp' in str(writer.path) for step in self.steps):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(writer, *args, **kwargs)

        if runner.rank == 1:
            FileSystemWriter.write_data = refuse


@HOOKS.register_module()
class OneReaderHook(Hook):
    """Let no process but the first read a checkpoint, nor hold a whole model that is sharded."""

    def before_run(self, runner):
        if runner.rank == 0:
            return

        def forbidden(*args, **kwargs):
            raise RuntimeError(f'process {runner.rank} reads a file')

        for module in (engine_checkpointing, engine_start):
            for name in ('read_checkpoint', 'load_plain'):
                if hasattr(module, name):
                    setattr(module, name, forbidden)
        if runner.cfg.get('fsdp'):
            assert runner._whole is None
            held = sum(p.to_local().numel() for p in runner.model.parameters())
            assert held < 0.7 * sum(p.numel() for p in runner.model.parameters())


@HOOKS.register_module()
class RecordHook(Hook):
    """Keep the losses and image names of every step."""

    priority = 'LOWEST'

    def __init__(self):
        self.losses, self.names = {}, {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses[runner.iter] = float(outputs['loss'])
        self.names[runner.iter] = [sample.img_path for sample in data_batch['data_samples']]
