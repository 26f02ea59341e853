# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""mmengine's Runner with exact resuming, safe checkpoints, CPUs as equals of GPUs, and sharded models."""

from __future__ import annotations

import copy
import os
import platform
import time
from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mmengine
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn

from .. import __version__
from ..errors import UserError
from ..openmmlab import prepare_torchvision
from ..registry import RUNNERS
from .checkpoint import fit_state_dict, read_checkpoint, save_plain
from .complete import check_agreement, complete_config
from .distributed import init_distributed, lost_processes
from .hooks.ema import EMAHook
from .last import checkpoints_of, read_training_state
from .loops import ExactEpochLoop, ExactIterLoop
from .precision import Precision, choose_precision, complete_optimizer, precision_of
from .sampling import complete_loader, order_layout, reseed, restore_layout
from .sharded_checkpoint import SUFFIX, ShardWriter, read_shards
from .sharding import (
    from_main_process,
    is_sharded,
    named_optimizer_state,
    on_main_process,
    optimizer_names,
    optimizer_settings,
    repeated_layers,
    set_optimizer_settings,
    set_whole_optimizer,
    set_whole_weights,
    shard_model,
    whole_optimizer,
    whole_weights,
)
from .start import choose_start
from .state import describe_model, message_hub_state, restore_message_hub


def _backend_available(backend: Any) -> bool:
    kind = backend.get('type') if isinstance(backend, dict) else None
    if kind == 'TensorboardVisBackend':
        return find_spec('tensorboard') is not None or find_spec('tensorboardX') is not None
    if kind == 'WandbVisBackend':
        return find_spec('wandb') is not None and any(k in os.environ for k in ('WANDB_API_KEY', 'WANDB_MODE'))
    return True


def _named(schedules: Any) -> dict[str, list]:
    """Schedules by their optimiser, of which there is one without a name unless the config names several."""
    return schedules if isinstance(schedules, dict) else {'': schedules}


@RUNNERS.register_module()
class SapiensRunner(Runner):
    """Trains and tests from a config, as mmengine's ``Runner`` does, with these differences.

    * A resumed run gives the losses of an uninterrupted one (see `sampling` and `loops`).
    * Checkpoints are written whole or not at all, hold plain data only, and are read without running their code.
      They carry config, vocabularies and patch padding in ``meta['sapiens']``.
    * ``load_from`` reports what was covered, and fails when the encoder is incomplete or a head does not fit.
      ``load_skip`` in the config lists prefixes of parameters to leave at their initial values.
    * Several processes work without GPUs (gloo). ``fsdp=True`` in the config shards the model.
    * ``compile=True`` (or options of `torch.compile`) compiles layers and heads in place, so that names stay.
    """

    optim_wrapper: Any
    param_schedulers: Any
    _whole: nn.Module | None = None

    @classmethod
    def from_cfg(cls, cfg: Any) -> SapiensRunner:
        """Build from a config, which may say once what several parts need (`complete_config`).

        Raises:
            UserError: There are no weights to start from (`choose_start`).
        """
        cfg = complete_config(copy.deepcopy(cfg) if isinstance(cfg, Config) else Config(copy.deepcopy(dict(cfg))))
        note = choose_start(cfg)
        runner = super().from_cfg(cfg)
        if note:
            runner.logger.info(note)
        return runner

    def setup_env(self, env_cfg: dict) -> None:
        """Join the other processes (gloo without GPUs), then do as mmengine does."""
        prepare_torchvision()  # mmengine imports it to log its version
        if self._launcher in ('pytorch', 'slurm') and not is_distributed():
            init_distributed(self._launcher, env_cfg.get('dist_cfg', {}).get('backend'), self._timeout)
        super().setup_env(env_cfg)
        self.precision.apply()

    @cached_property
    def precision(self) -> Precision:
        """What networks compute in, while training, validating and testing alike."""
        return choose_precision(precision_of(self.cfg), get_device(), training=True)

    @property
    def _timeout(self) -> int:
        return ((self.cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout', 1800)

    @cached_property
    def shards(self) -> ShardWriter:
        """Writes checkpoints of which every process has a part."""
        return ShardWriter()

    @property
    def bare_model(self) -> nn.Module:
        """The model without its DDP wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Put the model on its device, and share it between processes by DDP, or FSDP when the config says so."""
        if self.cfg.get('fsdp', False):
            return self._shard(model)
        if not self.distributed or model_wrapper_cfg is not None or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        device = get_device()
        return MMDistributedDataParallel(
            module=model.to(device),
            device_ids=[int(os.environ['LOCAL_RANK'])] if device == 'cuda' else None,
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get('find_unused_parameters', False),
            gradient_as_bucket_view=True,
        )

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build; when it will be sharded, the main process alone makes the whole, and shapes will do for the others."""
        if not self.cfg.get('fsdp', False) or not isinstance(model, dict):
            return super().build_model(model)
        if precision_of(self.cfg) in ('fp16', 'float16') or self.precision.dtype == torch.float16:
            raise UserError('--fsdp works with --amp bf16, not with fp16')
        if not dist.is_initialized():
            raise UserError('--fsdp shares a model between processes: start with tools/dist_train.sh CONFIG N --fsdp')
        self._whole = super().build_model(model) if is_main_process() else None
        with torch.device('meta'):
            return super().build_model(model)

    def _shard(self, model: nn.Module) -> nn.Module:
        whole: Any = self._whole
        self._whole = None
        if hasattr(whole, 'init_weights'):
            whole.init_weights()
        options = self.cfg.fsdp if isinstance(self.cfg.fsdp, Mapping) else {}
        return shard_model(model, whole, self.precision, **options)

    def _init_model_weights(self) -> None:
        if is_sharded(self.model):
            return
        # mmengine writes three lines for each parameter into the log, to say that nothing happened to it.
        model: Any = self.bare_model
        model._dump_init_info = lambda: None
        super()._init_model_weights()
        del model._dump_init_info

    def _maybe_compile(self, target: str) -> None:
        """Compile each transformer layer (one graph serves all) and each head, however the model calls them."""
        options = self.cfg.get('compile', False)
        if not options:
            return
        options = dict(options) if isinstance(options, dict) else {}
        units = list(repeated_layers(self.bare_model))
        for name in ('neck', 'heads', 'head', 'decode_head'):
            part = getattr(self.bare_model, name, None)
            if isinstance(part, nn.Module) and any(repeated_layers(part)):
                continue
            units += part.values() if isinstance(part, nn.ModuleDict) else [part] if isinstance(part, nn.Module) else []
        if not units:
            units = [self.bare_model]
        # Layers that differ in a number (the rate of drop path) or a size need a graph each; beyond the limit, layers
        # would run uncompiled.
        limit = 'recompile_limit' if hasattr(torch._dynamo.config, 'recompile_limit') else 'cache_size_limit'
        setattr(torch._dynamo.config, limit, max(getattr(torch._dynamo.config, limit), 2 * len(units)))
        for unit in units:
            unit.compile(**options)

    def train(self) -> nn.Module:
        """Train; another process that hangs or has ended is one line."""
        with lost_processes(self._timeout):
            return super().train()

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """``by_epoch`` chooses our loops; a ``type`` chooses any."""
        if isinstance(loop, dict) and 'type' not in loop:
            options = dict(loop)
            kind: Any = ExactEpochLoop if options.pop('by_epoch') else ExactIterLoop
            loop = kind(runner=self, dataloader=self._train_dataloader, **options)
        else:
            loop = super().build_train_loop(loop)
        check_agreement(self.bare_model, loop.dataloader.dataset)
        return loop

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Validate in the precision of training."""
        return self._checked(super().build_val_loop(self._in_precision(loop)))

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Test in the precision that training would have."""
        return self._checked(super().build_test_loop(self._in_precision(loop)))

    def _checked(self, loop: BaseLoop) -> BaseLoop:
        metrics = getattr(getattr(loop, 'evaluator', None), 'metrics', None)
        check_agreement(self.bare_model, loop.dataloader.dataset, metrics or [])
        return loop

    def _in_precision(self, loop: BaseLoop | dict) -> BaseLoop | dict:
        # mmengine's word for autocast, whose type `Precision.apply` has set.
        own = isinstance(loop, dict) and 'type' not in loop
        return {'fp16': self.precision.is_half, **loop} if own else loop

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Complete the config by what the precision asks for."""
        if isinstance(optim_wrapper, dict) and 'optimizer' in optim_wrapper:
            optim_wrapper = complete_optimizer(optim_wrapper, self.precision)
        return super().build_optim_wrapper(optim_wrapper)

    @staticmethod
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        """Any number of workers, 0 included; pinned memory where there is a GPU."""
        return Runner.build_dataloader(complete_loader(dataloader), *args, **kwargs)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """A schedule without ``end`` ends where training does; one that would begin later is left out."""
        if isinstance(scheduler, (list, tuple)) and all(isinstance(item, dict) for item in scheduler):
            scheduler = [item for item in map(self._complete_schedule, scheduler) if item is not None]
        elif isinstance(scheduler, dict) and 'type' in scheduler:
            scheduler = self._complete_schedule(scheduler)
        return super().build_param_scheduler(scheduler)

    def _complete_schedule(self, schedule: dict) -> dict | None:
        by_epoch = schedule.get('by_epoch', True)
        end = self.max_epochs if by_epoch else self.max_iters
        if schedule.get('end') is not None:
            if schedule['end'] > end and schedule.get('begin', 0) < end:
                unit = 'epoch' if by_epoch else 'iteration'
                self.logger.warning(
                    f'{schedule["type"]} goes on until {unit} {schedule["end"]}, but training ends at {end}: the '
                    'learning rate never gets there; shorten it (param_scheduler) or train longer (train_cfg)'
                )
            return schedule
        if schedule.get('begin', 0) >= end:
            self.logger.warning(
                f'{schedule["type"]} begins at {schedule["begin"]}, after the end of training: left out'
            )
            return None
        return {**schedule, 'end': end}

    def get_hooks_info(self) -> str:
        """The hooks by name, in the order of their priority; mmengine's list for each stage fills screens."""
        return '  ' + ', '.join(type(hook).__name__ for hook in self.hooks)

    def _log_env(self, env_cfg: dict) -> None:
        """What this run computes with, in a few lines; the config is written in full beside the log."""
        gpus = f', {torch.cuda.get_device_name()}' if torch.cuda.is_available() else ''
        self.logger.info(
            f'sapiens {__version__}, torch {torch.__version__}, mmengine {mmengine.__version__}, '
            f'Python {platform.python_version()}, {platform.platform()}{gpus}\n'
            f'{self.world_size} process(es), seed {self.seed}, {self.precision}\n'
            f'config {self.cfg.filename or ""}, in full: {Path(self.log_dir) / "vis_data" / "config.py"}'
        )

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """Leave out backends whose package is not installed or, for W&B, that nobody has signed in to."""
        if isinstance(visualizer, dict) and visualizer.get('vis_backends'):
            wanted = visualizer['vis_backends']
            visualizer = {**visualizer, 'vis_backends': [b for b in wanted if _backend_available(b)]}
        return super().build_visualizer(visualizer)

    # ------------------------------------------------------------ loading

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
            skip = tuple(self.cfg.get('load_skip') or ())
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

    def resume(
        self,
        filename: str | None = None,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        **_: Any,
    ) -> None:
        """Continue an interrupted run. The main process alone reads, on the CPU; every process must call it.

        Args:
            filename: A checkpoint that training wrote; by default the last whole one of the work directory.

        Raises:
            CheckpointError: Not a training checkpoint, or one for another model.
        """

        def read() -> dict:
            path, checkpoint = read_training_state(filename, self.work_dir, self.logger.warning)
            if path.is_dir():
                return {**checkpoint, 'path': str(path)}
            fit_state_dict(self.bare_model, checkpoint['state_dict'], checkpoint['meta'], source=str(path))
            return {**checkpoint, 'path': str(path)}

        self._resume = True
        checkpoint = self._load_shared(on_main_process(read))
        meta = checkpoint['meta']
        in_parts = checkpoint.get('in_parts', False)
        loop = self.train_loop
        if hasattr(loop, 'restore'):
            loop.restore(meta['epoch'], meta['iter'], meta.get('draws'))
            restore_layout(self.train_dataloader, meta.get('data_order'))
        else:
            loop._epoch, loop._iter = meta['epoch'], meta['iter']
        self._resume_seed(meta.get('seed'))
        restore_message_hub(self.message_hub, checkpoint.get('message_hub', {}))
        if resume_optimizer:
            self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
            names = checkpoint.get('optimizer_names')
            if not in_parts:
                set_whole_optimizer(self.optim_wrapper, self.bare_model, checkpoint.get('optimizer'), names)
        if in_parts:
            self._read_parts(checkpoint, resume_optimizer)
        if resume_param_scheduler and 'param_schedulers' in checkpoint and self.param_schedulers is not None:
            self._resume_schedules(checkpoint['param_schedulers'])
        self._has_loaded = True
        self.logger.info(f'Resumed {checkpoint["path"]} at epoch {self.epoch}, iteration {self.iter}')

    def _read_parts(self, checkpoint: dict, resume_optimizer: bool) -> None:
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        averages = [hook for hook in self.hooks if isinstance(hook, EMAHook)]
        for hook in averages:
            hook.before_train(self)
        wrapper = self.optim_wrapper if resume_optimizer else None
        average = averages[0].average if averages else None
        read_shards(Path(checkpoint['path']), self.bare_model, wrapper and wrapper.optimizer, average)
        if wrapper:
            set_optimizer_settings(wrapper, self.bare_model, checkpoint['optimizer'], checkpoint['optimizer_names'])

    def _resume_seed(self, seed: int | None) -> None:
        if seed is None or seed == self.seed:
            return
        if self._randomness_cfg.get('seed') is not None:
            self.logger.warning(f'The seed of the checkpoint ({seed}) replaces that of the config ({self.seed})')
        self._randomness_cfg.update(seed=seed)
        self.set_randomness(**self._randomness_cfg)
        reseed(self.train_dataloader, self.seed)

    def _resume_schedules(self, saved: list | dict) -> None:
        self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        for name, schedulers in _named(self.param_schedulers).items():
            states = _named(saved)[name]
            if len(schedulers) != len(states):
                raise UserError(
                    f'cannot resume: the config has {len(schedulers)} schedules, the checkpoint {len(states)}; '
                    'resume with the same config'
                )
            for scheduler, state in zip(schedulers, states, strict=True):
                scheduler.load_state_dict(state)

    # ------------------------------------------------------------ saving

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
        dataset = loader.dataset
        if hasattr(dataset, 'metainfo'):
            meta['dataset_meta'] = dataset.metainfo
        in_parts = filename.endswith(SUFFIX)
        checkpoint: dict[str, Any] = {
            'meta': meta,
            'state_dict': dict(self.bare_model.state_dict()) if in_parts else whole_weights(self.bare_model),
            'message_hub': message_hub_state(self.message_hub),
        }
        if in_parts:
            checkpoint['in_parts'] = True
            checkpoint['optimizer'] = optimizer_settings(self.optim_wrapper)
            checkpoint['optimizer_names'] = optimizer_names(self.optim_wrapper.optimizer, self.bare_model)
        elif save_optimizer:
            checkpoint['optimizer'] = whole_optimizer(self.optim_wrapper, self.bare_model)
            checkpoint['optimizer_names'] = optimizer_names(self.optim_wrapper.optimizer, self.bare_model)
        if save_param_scheduler and self.param_schedulers is not None:
            schedules = self.param_schedulers
            states = {name: [s.state_dict() for s in group] for name, group in _named(schedules).items()}
            checkpoint['param_schedulers'] = states if isinstance(schedules, dict) else states['']
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        if in_parts:
            tensors: dict[str, Any] = {
                key: checkpoint.pop(key) for key in ('state_dict', 'ema_state_dict') if key in checkpoint
            }
            tensors['optimizer'] = named_optimizer_state(self.optim_wrapper.optimizer, self.bare_model)
            self.shards.start(Path(out_dir) / filename, checkpoint, tensors)
        elif is_main_process():
            save_plain(checkpoint, Path(out_dir) / filename)
