# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Watch a run: numbers that are not finite, samples that cannot be read, speed."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_gather_object, all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook

from ...datasets.base import TooManyBadSamplesError
from ...errors import UserError
from ...models.complexity import count_training_flops
from ...models.estimators import HumanEstimator
from ...models.pretrain import MAEPretrainer
from ...registry import HOOKS, MODELS
from ...utils.files import write_atomic
from ...utils.numbers import check_number
from ..peaks import peak_flops


class TrainingDiverged(UserError):
    """A loss or gradient is not finite."""


def batch_size_of(data_batch: Any) -> int:
    """Number of samples in a collated batch."""
    inputs: Any = data_batch.get('inputs') if isinstance(data_batch, dict) else data_batch
    return len(inputs) if hasattr(inputs, '__len__') else 1


def names_of(data_batch: Any) -> list[str]:
    """Image paths (or ids) of the samples in a batch, as far as they are known."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    names = []
    for sample in samples or []:
        info = getattr(sample, 'metainfo', {})
        names.append(str(info.get('img_path') or info.get('img_id') or '?'))
    return names


@HOOKS.register_module()
class NaNGuardHook(Hook):
    """Stop as soon as a loss or the gradient norm is not finite, and name the batch that did it.

    It acts before a checkpoint of that step could be written, so the last one on disk is sound. With fp16, infinite
    gradients are normal (the step is skipped) and only losses count.

    Args:
        patience: How many bad steps in a row are let pass, with a warning, before the run stops.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, patience: int = 0) -> None:
        check_number('NaNGuardHook.patience', patience, whole=True)
        self.patience = patience
        self.bad_steps = 0

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Check the losses, which are averages over all processes, and the gradient norm."""
        bad = [name for name, value in (outputs or {}).items() if name != 'grad_norm' and is_bad(value)]
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        if not bad and not (scaler is not None and scaler.is_enabled()):
            norm = runner.message_hub.log_scalars.get('train/grad_norm')
            if norm is not None and len(norm.data[0]) and is_bad(norm.current()):
                bad = ['grad_norm']
        if not bad:
            self.bad_steps = 0
            return
        self.bad_steps += 1
        local = getattr(runner.train_loop, 'local_outputs', outputs) or {}
        mine = names_of(data_batch) if bad == ['grad_norm'] or any(is_bad(v) for v in local.values()) else []
        names = [name for part in all_gather_object(mine) for name in part]
        shown = ', '.join(names[:16]) + (f' and {len(names) - 16} more' if len(names) > 16 else '')
        message = (
            f'{", ".join(bad)} not finite at iteration {runner.iter + 1} with the batch: {shown or "(unnamed)"}; '
            'look at these samples (tools/browse_dataset.py), or lower the learning rate and resume'
        )
        if self.bad_steps > self.patience:
            raise TrainingDiverged(message)
        runner.logger.warning(message)


def is_bad(value: Any) -> bool:
    """Whether a logged value is NaN or infinite."""
    if torch.is_tensor(value):
        return value.numel() == 1 and not bool(torch.isfinite(value).all())
    return isinstance(value, float) and not math.isfinite(value)


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log ``samples_per_s``, over all processes, and ``mfu`` beside mmengine's time per iteration and ETA.

    ``mfu`` is the share of the devices' dense peak that the operations of the model are: two per multiply-add, forward
    and backward, attention included, what checkpointing repeats not. It is logged where the peak is known.

    Args:
        peak_tflops: Of one device in the precision of the training; None = as `peaks` knows.
    """

    priority = 'NORMAL'

    def __init__(self, peak_tflops: float | None = None) -> None:
        self.peak = None if peak_tflops is None else peak_tflops * 1e12
        self._flops = 0

    def before_train(self, runner: Any) -> None:
        """Count the operations of a sample, on a copy of the model that has no memory."""
        precision = runner.precision
        if self.peak is None and precision.device == 'cuda':
            self.peak = peak_flops(torch.cuda.get_device_name(), precision.dtype)
        if self.peak and isinstance(runner.bare_model, (HumanEstimator, MAEPretrainer)):
            with torch.device('meta'):
                model = MODELS.build(runner.cfg.model)
            self._flops = count_training_flops(model)
            runner.logger.info(
                f'{self._flops / 1e12:.3g} TFLOP a sample; mfu is a share of {self.peak / 1e12:.4g} TFLOPS'
            )

    def before_train_epoch(self, runner: Any) -> None:
        """Start the clock."""
        self._last = time.perf_counter()

    after_val = before_train_epoch  # validation does not count

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Log the speed of this step."""
        now = time.perf_counter()
        rate = batch_size_of(data_batch) * get_world_size() / max(now - self._last, 1e-9)
        runner.message_hub.update_scalar('train/samples_per_s', rate)
        if self._flops and self.peak:
            runner.message_hub.update_scalar('train/mfu', rate * self._flops / (self.peak * get_world_size()))
        self._last = now


@HOOKS.register_module()
class BadSampleHook(Hook):
    """Count samples that could not be read and were replaced; list them at the end; stop when there are too many.

    Too many is more than a fraction of the data set or, when there were 1000 draws at least, of the draws. The list
    is ``bad_samples.json`` in the work directory.

    Args:
        max_fraction: Bad samples that are put up with.
    """

    priority = 'NORMAL'

    def __init__(self, max_fraction: float = 0.01) -> None:
        check_number('BadSampleHook.max_fraction', max_fraction, 0, 1)
        self.max_fraction = max_fraction
        self.bad: dict[int, str] = {}
        self.everywhere: dict[int, str] = {}
        self._told: set[str] = set()
        self.bad_draws = 0
        self.draws = 0
        self._seen = 0.0

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Collect what was skipped for this batch, see `loaders.Collate`."""
        self.draws += batch_size_of(data_batch)
        for index, message in getattr(data_batch, 'skipped', ()):
            if message not in self._told:  # a damaged shard says it for many samples
                runner.logger.warning(f'Sample {index} skipped: {message}')
                self._told.add(message)
            self.bad[index] = message
            self.bad_draws += 1
        if self.every_n_train_iters(runner, 10):
            self._check(runner)

    def after_train(self, runner: Any) -> None:
        """List them."""
        self._check(runner)
        if self.everywhere:
            first = '; '.join(list(self.everywhere.values())[:5])
            more = '; ...' if len(self.everywhere) > 5 else ''
            runner.logger.warning(
                f'{len(self.everywhere)} of {len(runner.train_dataloader.dataset)} samples could not be read and were '
                f'replaced: {first}{more}; all are listed in {self._path(runner)}'
            )

    def _check(self, runner: Any) -> None:
        """Compare with the limits, over all processes."""
        counts = torch.tensor([float(self.bad_draws), float(self.draws)], device=get_device())
        all_reduce(counts)
        bad_draws, draws = counts.tolist()
        if bad_draws == self._seen:
            return
        self._seen = bad_draws
        self.everywhere = {index: text for part in all_gather_object(self.bad) for index, text in part.items()}
        if is_main_process():
            items = [dict(index=index, reason=self.everywhere[index]) for index in sorted(self.everywhere)]
            write_atomic(self._path(runner), json.dumps(items, indent=1))
        total = len(runner.train_dataloader.dataset)
        of_data = len(self.everywhere) > self.max_fraction * total
        if of_data or (draws >= 1000 and bad_draws > self.max_fraction * draws):
            share = f'{len(self.everywhere)} of {total} samples' if of_data else f'{bad_draws:.0f} of {draws:.0f} draws'
            raise TooManyBadSamplesError(
                f'{share} cannot be read, more than {self.max_fraction:.1%}; first: '
                f'{next(iter(self.everywhere.values()))}; all are in {self._path(runner)}; mend them, or raise '
                'BadSampleHook.max_fraction'
            )

    def _path(self, runner: Any) -> Path:
        return Path(runner.work_dir) / 'bad_samples.json'
