# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A runner's checkpoints: weights of any origin to start from, and whole states of training, saved and resumed."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import Any

import mmengine
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from .. import __version__
from ..errors import UserError
from .checkpoint import fit_state_dict
from .files import read_checkpoint, save_plain
from .hooks.ema import EMAHook
from .loaders import order_layout, reseed, restore_layout
from .schedules import replay, restore, same_course, scheduled
from .sharded_checkpoint import SUFFIX, ShardWriter, read_shards
from .sharding import (
    from_main_process,
    on_main_process,
    optimizer_names,
    set_optimizer_settings,
    set_whole_optimizer,
    set_whole_weights,
    whole_optimizer,
    whole_weights,
)
from .start import checkpoints_of, read_training_state
from .state import describe_model, message_hub_state, restore_message_hub


def _named(schedules: Any) -> dict[str, list]:
    """Schedules by their optimiser, of which there is one without a name unless the config names several."""
    return schedules if isinstance(schedules, dict) else {'': schedules}


class CheckpointRunner(Runner):
    """mmengine's ``Runner`` whose checkpoints are plain data, written whole or not at all.

    The main process alone reads and writes whole files; of ``.dcp`` folders every process has a part.
    """

    optim_wrapper: Any
    param_schedulers: Any

    @cached_property
    def shards(self) -> ShardWriter:
        """Writes checkpoints of which every process has a part."""
        return ShardWriter()

    @property
    def bare_model(self) -> nn.Module:
        """The model without its DDP wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def load_or_resume(self) -> None:
        """Resume from the work directory when asked and possible, else load the weights of ``load_from``."""
        if self._has_loaded:
            return
        if self._resume and self._load_from is None and not any(checkpoints_of(self.work_dir)):
            self.logger.info(f'Nothing to resume in {self.work_dir}: starting anew')
        elif self._resume:
            self.resume(self._load_from)
        elif self._load_from is not None:
            self.load_checkpoint(self._load_from)

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', strict: bool = False, **_: Any) -> dict:
        """Load weights of any origin: completely for testing, the encoder at least for training.

        The main process alone reads, on the CPU; every process must call it. Known prefixes are found by themselves.

        Args:
            filename: See `sapiens.engine.checkpoint.read_checkpoint`.
            strict: Ask for every parameter also in training.

        Raises:
            CheckpointError: Missing, damaged or unsafe file, or one for another model.
        """
        training = self._train_loop is not None and self.optim_wrapper is not None

        def read() -> dict:
            state, meta = read_checkpoint(filename)
            skip = self.cfg.get('load_skip') or ()
            fitted, report = fit_state_dict(
                self.bare_model, state, meta, source=str(filename), allow_partial=training and not strict, skip=skip
            )
            self.logger.info(str(report))
            return {'state_dict': fitted, 'meta': meta}

        checkpoint = self._load_shared(on_main_process(read))
        self._has_loaded = True
        return checkpoint

    def _load_shared(self, read: dict | None) -> dict:
        """Let hooks see what the main process has read, then give every process its part of the weights.

        Returns:
            All but the tensors, which the main process keeps; in several parts (see `sharded_checkpoint`) all is small.
        """
        large = () if read and read.get('in_parts') else ('state_dict', 'ema_state_dict', 'optimizer')
        small = {k: v for k, v in (read or {}).items() if k not in large}
        small = from_main_process(small)
        checkpoint = read if read is not None else {**small, 'state_dict': self.bare_model.state_dict()}
        if checkpoint.get('in_parts'):
            return checkpoint
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        if self._resume and is_main_process():
            # A hook may have exchanged them with their moving average.
            state, meta = checkpoint['state_dict'], checkpoint['meta']
            checkpoint['state_dict'], _ = fit_state_dict(self.bare_model, state, meta, source='the checkpoint')
        set_whole_weights(self.bare_model, checkpoint['state_dict'])
        return checkpoint

    def resume(self, filename: str | None = None) -> None:
        """Continue an interrupted run. The main process alone reads, on the CPU; every process must call it.

        Args:
            filename: A checkpoint that training wrote; by default the last whole one of the work directory.

        Raises:
            CheckpointError: Not a training checkpoint, or one for another model.
        """

        def read() -> dict:
            path, checkpoint = read_training_state(filename, self.work_dir, self.logger.warning)
            if not path.is_dir():
                weights, meta = checkpoint['state_dict'], checkpoint['meta']
                _, report = fit_state_dict(self.bare_model, weights, meta, source=str(path))
                for name, (there, here) in report.resized.items():
                    raise UserError(
                        f'cannot resume {path}: it was trained on another input_size ({name} is of '
                        f'{there[0]}x{there[1]} patches, that of the config {here[0]}x{here[1]}); resume with the '
                        'same config, or use load_from to start from the weights alone'
                    )
            return {**checkpoint, 'path': str(path)}

        self._resume = True
        checkpoint = self._load_shared(on_main_process(read))
        meta = checkpoint['meta']
        loop = self.train_loop
        if hasattr(loop, 'restore'):
            loop.restore(meta['epoch'], meta['iter'], meta.get('draws'))
            restore_layout(self.train_dataloader, meta.get('data_order'))
        else:
            loop._epoch, loop._iter = meta['epoch'], meta['iter']
        self._resume_seed(meta.get('seed'))
        restore_message_hub(self.message_hub, checkpoint.get('message_hub', {}))
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        groups = _named(self.param_schedulers or [])
        starts = {name: scheduled(schedulers) for name, schedulers in groups.items()}
        if checkpoint.get('in_parts'):
            self._read_parts(checkpoint)
        else:
            state, names = checkpoint.get('optimizer'), checkpoint.get('optimizer_names')
            set_whole_optimizer(self.optim_wrapper, self.bare_model, state, names)
        saved = _named(checkpoint.get('param_schedulers', {}))
        for name, schedulers in groups.items():
            if name in saved:
                self._resume_schedules(schedulers, saved[name], starts[name])
        self._has_loaded = True
        self.logger.info(f'Resumed {checkpoint["path"]} at epoch {self.epoch}, iteration {self.iter}')

    def _read_parts(self, checkpoint: dict) -> None:
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        averages = [hook for hook in self.hooks if isinstance(hook, EMAHook)]
        for hook in averages:
            hook.before_train(self)
        average, wrapper = averages[0].average if averages else None, self.optim_wrapper
        read_shards(Path(checkpoint['path']), self.bare_model, wrapper.optimizer, average)
        set_optimizer_settings(wrapper, self.bare_model, checkpoint['optimizer'], checkpoint['optimizer_names'])

    def _resume_seed(self, seed: int | None) -> None:
        if seed is None or seed == self.seed:
            return
        if self._randomness_cfg.get('seed') is not None:
            self.logger.warning(f'The seed of the checkpoint ({seed}) replaces that of the config ({self.seed})')
        self._randomness_cfg.update(seed=seed)
        self.set_randomness(**self._randomness_cfg)
        reseed(self.train_dataloader, self.seed)

    def _resume_schedules(self, schedulers: list, states: list, start: list) -> None:
        if same_course(schedulers, states):
            for scheduler, state in zip(schedulers, states, strict=True):
                restore(scheduler, state)
            return
        epochs = any(scheduler.by_epoch for scheduler in schedulers)
        replay(schedulers, start, self.iter, len(self.train_dataloader) if epochs else 0)
        self.logger.warning(
            'The learning rate or its schedules are not those of the checkpoint: from here on it is what a run with '
            'those of the config from the beginning would have'
        )

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        **_: Any,
    ) -> None:
        """Write a checkpoint of plain data, whole or not at all. Every process must call it.

        With a name that ends in ``.dcp``, each process begins to write its own part; ``self.shards.finish`` ends it.

        Args:
            meta: Plain data to add.
            by_epoch: The epoch now running is finished; else the iteration is.
        """
        meta = dict(meta or {})
        meta.setdefault('epoch', self.epoch + 1 if by_epoch else self.epoch)
        meta.setdefault('iter', self.iter if by_epoch else self.iter + 1)
        meta.update(
            cfg=self.cfg.pretty_text,
            seed=self.seed,
            experiment_name=self.experiment_name,
            time=time.strftime('%Y%m%d_%H%M%S', time.localtime()),
            mmengine_version=mmengine.__version__,
            sapiens_version=__version__,
            world_size=self.world_size,
            sapiens=describe_model(self.bare_model),
        )
        loader = self.train_dataloader
        if hasattr(self.train_loop, 'draws'):
            meta.update(draws=self.train_loop.draws(meta['iter']), data_order=order_layout(loader))
        if hasattr(loader.dataset, 'metainfo'):
            meta['dataset_meta'] = loader.dataset.metainfo
        model, wrapper, in_parts = self.bare_model, self.optim_wrapper, filename.endswith(SUFFIX)
        checkpoint: dict[str, Any] = {
            'meta': meta,
            'state_dict': dict(model.state_dict()) if in_parts else whole_weights(model),
            'message_hub': message_hub_state(self.message_hub),
            **({'in_parts': True} if in_parts else {}),
        }
        if save_optimizer or in_parts:
            settings = {**wrapper.state_dict(), 'state': {}}  # in parts, that of the parameters goes with the tensors
            checkpoint['optimizer'] = settings if in_parts else whole_optimizer(wrapper, model)
            checkpoint['optimizer_names'] = optimizer_names(wrapper.optimizer, model)
        if save_param_scheduler and self.param_schedulers is not None:
            schedules = self.param_schedulers
            states = {name: [s.state_dict() for s in group] for name, group in _named(schedules).items()}
            checkpoint['param_schedulers'] = states if isinstance(schedules, dict) else states['']
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        if in_parts:
            from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

            tensors: dict[str, Any] = {
                key: checkpoint.pop(key) for key in ('state_dict', 'ema_state_dict') if key in checkpoint
            }
            tensors['optimizer'] = get_optimizer_state_dict(model, wrapper.optimizer)['state']
            self.shards.start(Path(out_dir) / filename, checkpoint, tensors)
        elif is_main_process():
            save_plain(checkpoint, Path(out_dir) / filename)
