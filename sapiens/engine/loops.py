# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Training loops that continue an interrupted run exactly, and log the losses of all processes."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from ..errors import UserError
from ..registry import LOOPS
from ..utils.numbers import check_number
from .loaders import build_train_dataloader
from .sampling import ResumableBatchSampler, seed_all, seed_of

# Slots of the message that carries a step's losses between processes; fixed so that sizes always agree.
_SLOTS = 64


def mean_over_processes(outputs: dict[str, Any]) -> dict[str, Any]:
    """Average the logged values of a step over all processes; equal batches give the mean of the global batch.

    ``loss`` is always averaged. The others are when every process logs the same names, else they stay as they are.
    All come to the host in one copy: this is the one place of a step that waits for the device.

    Args:
        outputs: Name -> scalar tensor or number.
    """
    _, world_size = get_dist_info()
    names = [k for k, v in outputs.items() if k != 'loss' and (not torch.is_tensor(v) or v.numel() == 1)][: _SLOTS - 3]
    if not outputs:
        return outputs
    checksum = float(zlib.crc32('\n'.join(names).encode()) & 0xFFFF)
    device = next((v.device for v in outputs.values() if torch.is_tensor(v)), torch.device('cpu'))
    # The square of a CRC needs float64, which MPS lacks; there is no second process either.
    message = torch.zeros(_SLOTS, dtype=torch.float32 if device.type == 'mps' else torch.float64, device=device)
    for slot, value in enumerate([outputs.get('loss', 0.0), checksum, checksum**2, *(outputs[k] for k in names)]):
        message[slot] = value.detach().squeeze() if torch.is_tensor(value) else value
    if world_size > 1:
        all_reduce(message)
    reduced = message.tolist()
    result = dict(outputs)
    if 'loss' in outputs:
        result['loss'] = torch.tensor(reduced[0] / world_size)
    if reduced[1] == checksum * world_size and reduced[2] == checksum**2 * world_size:
        result.update({k: torch.tensor(reduced[3 + i] / world_size) for i, k in enumerate(names)})
    return result


class _ExactSteps:
    """One training step, whose randomness depends on (seed, iteration) only, see `models.randomness`."""

    runner: Any
    dataloader: Any
    val_interval: Any

    @staticmethod
    def checked(length: str, options: dict[str, Any]) -> dict[str, Any]:
        """Options of mmengine's loop: a training has steps, and validations come at intervals.

        Raises:
            UserError: A number that makes no sense.
        """
        check_number(f'train_cfg.{length}', options[length], 1, whole=True)
        check_number('train_cfg.val_begin', options.get('val_begin', 1), whole=True)
        hint = '; val_dataloader = None leaves validation out'
        check_number('train_cfg.val_interval', options.get('val_interval', 1), 1, whole=True, hint=hint)
        pairs = options.get('dynamic_intervals')
        if not pairs:
            return options
        try:
            pairs = [(int(begin), int(interval)) for begin, interval in pairs]
        except (TypeError, ValueError):
            pairs = [(0, 0)]
        if min(interval for _, interval in pairs) < 1 or pairs != sorted(pairs):
            raise UserError(
                f'train_cfg.dynamic_intervals is {options["dynamic_intervals"]!r}; give pairs of a step and '
                'the interval from there on, which is 1 at least, by their steps, e.g. [(1000, 50)]'
            )
        return {**options, 'dynamic_intervals': pairs}

    def run_step(self, batch_idx: int, data_batch: Any) -> None:
        """Train on one batch.

        Args:
            batch_idx: Number of the batch in its epoch (or of the iteration, when there are no epochs).
        """
        runner = self.runner
        runner.call_hook('before_train_iter', batch_idx=batch_idx, data_batch=data_batch)
        seed_all(seed_of(runner.seed, 1, self._iter))
        outputs = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        norm = vars(runner.optim_wrapper).pop('grad_norm', None)
        outputs = outputs if norm is None else {**outputs, 'grad_norm': norm}
        self.local_outputs = outputs
        outputs = mean_over_processes(outputs)
        runner.call_hook('after_train_iter', batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def restore(self, epoch: int, iteration: int, draws: int | None = None) -> None:
        """Continue after ``iteration`` finished steps, in epoch ``epoch`` (both from 0).

        Args:
            draws: Samples drawn in them over all processes, which may have made smaller or larger batches.
        """
        self._epoch, self._iter = epoch, iteration
        self._restored = iteration, draws

    def draws(self, iteration: int) -> int | None:
        """Samples that all processes have drawn in ``iteration`` steps; None where batches have no fixed size."""
        sampler = self.dataloader.batch_sampler
        if not isinstance(sampler, ResumableBatchSampler) or sampler.batch_size is None:
            return None
        first, before = self._restored
        batch = sampler.batch_size * sampler.world_size
        return iteration * batch if before is None else before + (iteration - first) * batch

    _restored: tuple[int, int | None] = 0, None

    def _skip(self, batches: int, draws: int | None = None) -> None:
        if not batches:
            return
        sampler = self.dataloader.batch_sampler
        if not isinstance(sampler, ResumableBatchSampler):
            raise UserError('resuming needs the loader as a config, not as an object, so that it can start anywhere')
        sampler.skip(batches, draws)


@LOOPS.register_module()
class ExactIterLoop(_ExactSteps, IterBasedTrainLoop):
    """Train for a number of iterations over an endless order of the data.

    Args:
        **kwargs: As mmengine's ``IterBasedTrainLoop`` (``val_begin``, ``val_interval``, ``dynamic_intervals``).
    """

    def __init__(self, runner: Any, dataloader: dict, max_iters: int, **kwargs: Any) -> None:
        options = self.checked('max_iters', dict(max_iters=max_iters, **kwargs))
        loader = build_train_dataloader(dataloader, runner.seed, infinite=True)
        super().__init__(runner, _Unstarted(loader), **options)
        self.dataloader = loader

    def run(self) -> torch.nn.Module:
        """Train to the end, or until a hook stops it."""
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        self._skip(self._iter, self.draws(self._iter))
        batches = iter(self.dataloader)
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            try:
                data_batch = next(batches)
            except StopIteration:  # a custom sampler with an end: begin again
                sampler: Any = getattr(self.dataloader.batch_sampler, 'sampler', None)
                if hasattr(sampler, 'set_epoch'):
                    sampler.set_epoch(getattr(sampler, 'epoch', 0) + 1)
                batches = iter(self.dataloader)
                data_batch = next(batches)
            self.run_step(self._iter, data_batch)
            self._decide_current_val_interval()
            if (
                runner.val_loop is not None
                and self._iter >= self.val_begin
                and (self._iter % self.val_interval == 0 or self._iter == self._max_iters)
            ):
                runner.val_loop.run()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model


@LOOPS.register_module()
class ExactEpochLoop(_ExactSteps, EpochBasedTrainLoop):
    """Train for a number of epochs; a run interrupted in mid-epoch continues there.

    Args:
        **kwargs: As mmengine's ``EpochBasedTrainLoop``.
    """

    def __init__(self, runner: Any, dataloader: dict, max_epochs: int, **kwargs: Any) -> None:
        options = self.checked('max_epochs', dict(max_epochs=max_epochs, **kwargs))
        super().__init__(runner, build_train_dataloader(dataloader, runner.seed, infinite=False), **options)

    def restore(self, epoch: int, iteration: int, draws: int | None = None) -> None:
        """As for iterations; where an epoch begins depends on the batch."""
        here, length = self.draws(iteration), len(self.dataloader)
        if draws not in (None, here) or not epoch * length <= iteration <= (epoch + 1) * length:
            raise UserError(
                f'resuming in epoch {epoch + 1}, iteration {iteration}: epochs of this run have {length} batches, '
                'those of the checkpoint had not (batch size, processes or images have changed); '
                'keep them (--global-batch), train by iterations (train_cfg.max_iters), or start anew (load_from)'
            )
        super().restore(epoch, iteration, draws)

    def run_epoch(self) -> None:
        """Train one epoch, or the rest of it, or until a hook stops it."""
        runner = self.runner
        runner.call_hook('before_train_epoch')
        runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        if done < len(self.dataloader):
            self._skip(done)
            for index, data_batch in enumerate(self.dataloader, start=done):
                self.run_step(index, data_batch)
                if self.stop_training:
                    return
        runner.call_hook('after_train_epoch')
        self._epoch += 1


class _Unstarted:
    """A loader that mmengine's loop may look at but that starts no workers yet, since the seed may still change."""

    def __init__(self, loader: Any) -> None:
        self.dataset = loader.dataset

    def __iter__(self) -> Any:
        return iter(())
