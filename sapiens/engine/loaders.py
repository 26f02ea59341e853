# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Loaders of training data that can be resumed at any batch, and say which samples they had to skip."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

from mmengine.device import get_device
from mmengine.dist import get_dist_info
from mmengine.registry import FUNCTIONS
from torch.utils.data import BatchSampler, DataLoader, Dataset

from ..datasets.base import BAD_SAMPLE
from ..errors import UserError
from ..registry import DATA_SAMPLERS, DATASETS, type_name
from ..utils.workers import start_worker
from .batches import Collate
from .sampling import ResumableBatchSampler, SeededSampler, seed_of, seeded

# Samplers of mmengine whose order `SeededSampler` gives in a form that can be resumed at any point.
_REPLACED = ('DefaultSampler', 'InfiniteSampler')


class SeededDataset(Dataset):
    """Any data set, whose randomness follows the draw number, and whose unreadable samples are skipped and reported.

    A sample that raises a `UserError` or an `OSError` is replaced by another one; which one follows the draw number
    too. What was skipped goes with its batch to the main process, see `batches.Collate`.

    Args:
        dataset: Any map-style data set.
    """

    def __init__(self, dataset: Any, seed: int, max_tries: int = 20) -> None:
        self.dataset, self.seed, self.max_tries = dataset, seed, max_tries
        self.skipped: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name in ('dataset', '__getstate__', '__setstate__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: int) -> Any:
        reason = 'the transforms of the pipeline drop it'
        with seeded(seed_of(self.seed, getattr(index, 'number', int(index)))):
            for choice in self._choices(int(index)):
                try:
                    sample = self.dataset[choice]
                except BAD_SAMPLE as error:
                    reason = ' '.join(str(error).split())[:500]
                    self.skipped.append((choice, reason))
                    continue
                if sample is not None:
                    return sample
        raise UserError(f'{self.max_tries} samples in a row cannot be read; the last: {reason}')

    def _choices(self, index: int) -> Iterator[int]:
        yield index
        near = getattr(self.dataset, 'replacement', None)
        for attempt in range(1, self.max_tries):
            yield near(index, attempt) if near else random.randrange(len(self.dataset))


def complete_loader(cfg: Any) -> Any:
    """A loader's config with pinned memory where there is a GPU, and without what no workers cannot do."""
    if isinstance(cfg, DataLoader):
        return cfg
    cfg = {'pin_memory': get_device() == 'cuda', **copy.deepcopy(cfg)}
    if not cfg.get('num_workers'):
        for key in ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context'):
            cfg.pop(key, None)
    return cfg


def _function(cfg: Any) -> Any:
    """The function that a part of a config names, with its arguments; what is no such part stays."""
    if not isinstance(cfg, dict):
        return cfg
    kind = cfg.pop('type')
    return partial(FUNCTIONS.get(kind) if isinstance(kind, str) else kind, **cfg)


def build_train_dataloader(cfg: Any, seed: int, infinite: bool) -> DataLoader:
    """Build the training loader so that it can be resumed at any batch.

    Args:
        cfg: mmengine's ``train_dataloader``. ``DefaultSampler`` and ``InfiniteSampler`` become a `SeededSampler`;
            other samplers are used as they are, and are run through, without loading, on resume.
        infinite: Training by iterations.

    Returns:
        A loader whose ``dataset`` is a `SeededDataset` and whose ``batch_sampler`` is a `ResumableBatchSampler`.
    """
    if isinstance(cfg, DataLoader):
        return cfg
    cfg = complete_loader(cfg)
    if 'num_batch_per_epoch' in cfg:
        raise UserError('train_dataloader.num_batch_per_epoch: train by iterations instead (train_cfg.by_epoch=False)')
    dataset = DATASETS.build(cfg.pop('dataset'))
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    sampler_cfg = cfg.pop('sampler', dict(type='DefaultSampler', shuffle=True))
    batch_sampler_cfg = cfg.pop('batch_sampler', None)
    batch_size = cfg.pop('batch_size', 1)
    drop_last = cfg.pop('drop_last', False)
    if type_name(sampler_cfg) in _REPLACED:
        shuffle = sampler_cfg.get('shuffle', True)
        order = None
        if shuffle and hasattr(dataset, 'draw_order'):
            world_size = get_dist_info()[1]
            order = dataset.draw_order(seed, batch_size * world_size, world_size, cfg.get('num_workers', 0))
        sampler = SeededSampler(len(dataset), seed, shuffle, infinite, order)
    else:
        sampler = DATA_SAMPLERS.build(sampler_cfg, default_args=dict(dataset=dataset, seed=seed))
    if batch_sampler_cfg is None:
        batches = BatchSampler(sampler, batch_size, drop_last)
        if drop_last and not infinite and not len(batches):
            raise UserError(f'train_dataloader: its {len(dataset)} samples make no whole batch of {batch_size} on each '
                            'process, and drop_last leaves others out; choose a smaller batch_size')  # fmt: skip
    else:
        batches = DATA_SAMPLERS.build(batch_sampler_cfg, default_args=dict(sampler=sampler, batch_size=batch_size))
    collate = _function(cfg.pop('collate_fn', dict(type='pseudo_collate')))
    seeded_dataset = SeededDataset(dataset, seed)
    return DataLoader(
        dataset=seeded_dataset,
        batch_sampler=ResumableBatchSampler(batches, sampler, batch_size),
        collate_fn=Collate(seeded_dataset, collate, cfg.get('pin_memory', False)),
        worker_init_fn=partial(start_worker, _function(cfg.pop('worker_init_fn', None))),
        **cfg,
    )


def reseed(loader: DataLoader, seed: int) -> None:
    """Give a loader, not yet iterated, the seed of the run that is resumed."""
    sampler: Any = getattr(loader.batch_sampler, 'sampler', None)
    if isinstance(loader.dataset, SeededDataset):
        loader.dataset.seed = seed
    parts: list[Any] = [sampler, getattr(sampler, 'order', None)]
    for part in parts:
        if hasattr(part, 'seed'):
            part.seed = seed


def order_layout(loader: DataLoader) -> dict | None:
    """What the order of a loader's data depends on beside the seed, for the checkpoint; None: nothing."""
    return getattr(getattr(getattr(loader.batch_sampler, 'sampler', None), 'order', None), 'layout', None)


def restore_layout(loader: DataLoader, layout: dict | None) -> None:
    """Give a loader, not yet iterated, the order of the run that is resumed, though processes or workers changed."""
    sampler: Any = getattr(loader.batch_sampler, 'sampler', None)
    if layout and order_layout(loader):
        sampler.order.layout = layout
        dataset: Any = loader.dataset
        dataset.keep_chunks(sampler.order, get_dist_info()[1], loader.num_workers)
