# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""mmengine's Runner, completed: CPUs as equals of GPUs, one precision, compiled and sharded models."""

from __future__ import annotations

import copy
import inspect
import os
import platform
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property, partial
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
from torch.nn.parallel import DistributedDataParallel

from .. import __version__
from ..errors import UserError
from ..openmmlab import prepare_torchvision
from ..registry import RUNNERS
from ..utils.files import only_writer
from ..utils.workers import start_worker
from .batches import Collate
from .checkpointing import CheckpointRunner
from .complete import check_agreement, complete_config
from .distributed import init_distributed, lost_processes
from .hooks.preemption import PreemptionHook
from .loaders import complete_loader
from .loops import ExactEpochLoop, ExactIterLoop
from .precision import Precision, choose_precision, complete_optimizer, precision_of
from .sharding import is_sharded, on_main_process, repeated_layers, shard_model
from .start import choose_start


def _backend_available(backend: Any) -> bool:
    kind = backend.get('type') if isinstance(backend, dict) else None
    if kind == 'TensorboardVisBackend':
        return find_spec('tensorboard') is not None or find_spec('tensorboardX') is not None
    if kind == 'WandbVisBackend':
        return find_spec('wandb') is not None and any(k in os.environ for k in ('WANDB_API_KEY', 'WANDB_MODE'))
    return True


@RUNNERS.register_module()
class SapiensRunner(CheckpointRunner):
    """Trains and tests from a config, as mmengine's ``Runner`` does, with these differences.

    * A resumed run gives the losses of an uninterrupted one (see `sampling` and `loops`).
    * Checkpoints are written whole or not at all, hold plain data only, and are read without running their code.
      They carry config, vocabularies and patch padding in ``meta['sapiens']``.
    * ``load_from`` reports what was covered, and fails when the encoder is incomplete or a head does not fit.
      ``load_skip`` in the config lists prefixes of parameters to leave at their initial values.
    * Several processes work without GPUs (gloo). ``fsdp=True`` in the config shards the model.
    * ``compile=True`` (or options of `torch.compile`) compiles layers and heads in place, so that names stay.
    """

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

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Put the model on its device, and share it between processes by DDP, or FSDP when the config says so."""
        if self.cfg.get('fsdp', False):
            return self._shard(model)
        if not self.distributed or model_wrapper_cfg is not None or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        device = get_device()
        newer = 'forward_sync_buffers' in inspect.signature(DistributedDataParallel).parameters
        return MMDistributedDataParallel(
            module=model.to(device),
            device_ids=[int(os.environ['LOCAL_RANK'])] if device == 'cuda' else None,
            **{'forward_sync_buffers' if newer else 'broadcast_buffers': False},
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
        """Train; another process that hangs or has ended is one line.

        Afterwards signals mean what they did before, and no worker is left that would end with the interpreter.

        Raises:
            UserError: Another training is at work in the work directory, or a process was lost.
        """
        try:
            with lost_processes(self._timeout), ExitStack() as stack:
                on_main_process(lambda: stack.enter_context(only_writer(self.work_dir)))
                return super().train()
        finally:
            if isinstance(self._train_loop, BaseLoop):
                self._train_loop.dataloader._iterator = None
            for hook in self.hooks:  # last: launchers repeat a signal while workers end
                if isinstance(hook, PreemptionHook):
                    hook.after_train(self)

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """None leaves any of them out; mmengine takes it for its own alone, not for a ``budget``, say."""
        its_own = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
        hooks = {name: hook for name, hook in (hooks or {}).items() if hook is not None or name in its_own}
        super().register_default_hooks(hooks)

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
        loader = Runner.build_dataloader(complete_loader(dataloader), *args, **kwargs)
        loader.worker_init_fn = partial(start_worker, loader.worker_init_fn)
        loader.collate_fn = Collate(loader.dataset, loader.collate_fn, loader.pin_memory)
        return loader

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
        gpus = f', {torch.cuda.get_device_name()}' if get_device() == 'cuda' else ''
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
