# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Keep the last N checkpoints and the best one; there is a whole one on disk at every moment."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from mmengine.dist import is_distributed, is_main_process
from mmengine.hooks import Hook

from ...errors import UserError
from ...registry import HOOKS
from ...utils.files import write_atomic
from ...utils.numbers import check_number
from ..containers import CheckpointError
from ..sharded_checkpoint import SUFFIX

# Parts of metric names for which less is better.
_LESS_IS_BETTER = ('loss', 'error', 'rmse', 'absrel', 'abs_rel', 'sqrel', 'log10', 'nme', 'epe', 'mae', 'angular',
                   'normal/mean', 'median')  # fmt: skip


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Save checkpoints at intervals, at the end, and when a metric is better than ever.

    A new file is complete before ``last_checkpoint`` points to it, and only then are old ones deleted. Checkpoints
    are taken where no gradients are half accumulated, so with ``accumulative_counts`` an interval may be stretched.

    Args:
        interval: Epochs or iterations between checkpoints; -1 saves at the end only.
        by_epoch: Count epochs; else iterations.
        max_keep_ckpts: How many of the last checkpoints to keep; -1 keeps all.
        save_last: Save at the end of training whatever the interval.
        save_best: Name of a validation metric (``'auto'``: the first one) whose best checkpoint is kept beside them.
        rule: ``'greater'`` or ``'less'``; by default guessed from the name of the metric.
        out_dir: Folder; the work directory by default.
        filename_tmpl: Name with ``{}`` for the step.
        sharded: In several processes, each writes its own part of ``iter_N.dcp`` while training goes on, and no process
            ever holds the whole; any number of processes resumes from it. A part that cannot be written costs that
            checkpoint, not the run.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        interval: int = -1,
        by_epoch: bool = False,
        max_keep_ckpts: int = -1,
        save_last: bool = True,
        save_best: str | None = None,
        rule: str | None = None,
        save_optimizer: bool = True,
        out_dir: str | None = None,
        filename_tmpl: str | None = None,
        sharded: bool = False,
    ) -> None:
        if rule not in (None, 'greater', 'less'):
            raise UserError(f"SafeCheckpointHook.rule is 'greater' or 'less', not '{rule}'")
        check_number('SafeCheckpointHook.interval', interval, -1, whole=True)
        check_number('SafeCheckpointHook.max_keep_ckpts', max_keep_ckpts, -1, whole=True)
        self.interval, self.by_epoch = interval or -1, by_epoch
        self.max_keep_ckpts, self.save_last = max_keep_ckpts, save_last
        self.save_best, self.rule, self.save_optimizer, self.out_dir = save_best, rule, save_optimizer, out_dir
        self.filename_tmpl = filename_tmpl or ('epoch_{}.pth' if by_epoch else 'iter_{}.pth')
        self.sharded, self._writing = sharded, ''
        self.kept: list[str] = []
        self.best: dict[str, Any] = {}
        self._due = False
        self._saved_at = -1

    def before_train(self, runner: Any) -> None:
        """Find out where to save."""
        self.folder = Path(self.out_dir or runner.work_dir)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Take over the files of the run that is resumed."""
        state = checkpoint.get('meta', {}).get('checkpoint_hook') if runner._resume else None
        if state:
            self.kept, self.best = list(state['kept']), dict(state['best'])

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Remember the files, for the run that resumes from this one."""
        checkpoint['meta']['checkpoint_hook'] = dict(kept=list(self.kept), best=dict(self.best))

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save when an interval of iterations is over."""
        if self.by_epoch:
            return
        self._due = self._due or self.every_n_train_iters(runner, self.interval)
        last = self.save_last and self.is_last_train_iter(runner)
        if (self._due and at_update(runner)) or last:
            self.save(runner, runner.epoch, runner.iter + 1)
            self._due = False
        elif self._writing and is_main_process() and runner.shards.is_done():
            self.settle(runner)

    def after_train(self, runner: Any) -> None:
        """Save what a hook has stopped before its end."""
        if self.save_last and runner.train_loop.stop_training:
            self.save(runner, runner.epoch, runner.iter)
        self.settle(runner, must=True)

    def after_train_epoch(self, runner: Any) -> None:
        """Save when an interval of epochs is over."""
        if not self.by_epoch:
            return
        if self.every_n_epochs(runner, self.interval) or (self.save_last and self.is_last_train_epoch(runner)):
            self.save(runner, runner.epoch + 1, runner.iter)

    def save(self, runner: Any, epoch: int, iteration: int, name: str = '') -> Path:
        """Write a checkpoint, point to it, then delete surplus ones. Every process must call it.

        Args:
            epoch: Finished epochs.
            iteration: Finished iterations.
            name: Of the file; by default as ``filename_tmpl`` says.
        """
        name = name or self.filename_tmpl.format(epoch if self.by_epoch else iteration)
        if self.sharded and is_distributed():
            name = Path(name).with_suffix(SUFFIX).name
            self.settle(runner)
        if self._saved_at == iteration and (self.folder / self.kept[-1]).exists():
            return self.folder / self.kept[-1]
        path = self.folder / name
        runner.logger.info(f'Saving {path}')
        self.kept = [n for n in self.kept if n != name] + [name]
        runner.save_checkpoint(
            str(self.folder), name, save_optimizer=self.save_optimizer, meta=dict(epoch=epoch, iter=iteration)
        )
        self._saved_at = iteration
        if path.suffix == SUFFIX:
            self._writing = name
        else:
            self._point_to(runner, path)
        return path

    def settle(self, runner: Any, must: bool = False) -> None:
        """Wait for a checkpoint that is written in the background and point to it. Every process must call it.

        Raises:
            CheckpointError: It could not be written, though it ``must``; else that is told, and training goes on.
        """
        if not self._writing:
            return
        name, self._writing = self._writing, ''
        try:
            runner.shards.finish()
        except CheckpointError as error:
            self.kept = [n for n in self.kept if n != name]
            self._saved_at = -1
            last = f'the last one is {self.kept[-1]}' if self.kept else 'there is none yet'
            if must:
                raise CheckpointError(f'{error}; {last}: make room, then continue with --resume') from error
            runner.logger.warning(f'{error}; {last}; training goes on, and the next checkpoint may succeed')
        else:
            self._point_to(runner, self.folder / name)

    def _point_to(self, runner: Any, path: Path) -> None:
        if is_main_process():
            write_atomic(Path(runner.work_dir) / 'last_checkpoint', str(path.resolve()), sync=True)
        while 0 < self.max_keep_ckpts < len(self.kept):
            old = self.folder / self.kept.pop(0)
            if is_main_process() and old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            elif is_main_process():
                old.unlink(missing_ok=True)

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Save when the metric is better than ever."""
        if self.save_best is None or not metrics or not runner.train_loop:
            return
        key = next(iter(metrics)) if self.save_best == 'auto' else self.save_best
        if key not in metrics:
            raise UserError(f"save_best='{key}' is not among the metrics: {', '.join(metrics)}")
        score = metrics[key]
        if score is None or not math.isfinite(score):
            return
        rule = self.rule or ('less' if any(word in key.lower() for word in _LESS_IS_BETTER) else 'greater')
        if self.best and (score <= self.best['score'] if rule == 'greater' else score >= self.best['score']):
            return
        step = f'epoch_{runner.epoch}' if self.by_epoch else f'iter_{runner.iter}'
        name = f'best_{key.replace("/", "_")}_{step}.pth'
        old, self.best = self.best.get('file'), dict(metric=key, score=float(score), file=name)
        runner.save_checkpoint(
            str(self.folder),
            name,
            save_optimizer=False,
            save_param_scheduler=False,
            meta=dict(epoch=runner.epoch, iter=runner.iter),
        )
        runner.logger.info(f'Best {key} so far: {score:.4f}, saved as {name}')
        if old and old != name and is_main_process():
            (self.folder / old).unlink(missing_ok=True)


def at_update(runner: Any) -> bool:
    """Whether the optimiser has just stepped, so that no gradients wait."""
    wrapper = runner.optim_wrapper
    return wrapper.should_update() if hasattr(wrapper, 'should_update') else True
