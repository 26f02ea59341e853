# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Several processes, on GPUs (NCCL) or CPUs (gloo)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.device import get_device

from .. import errors
from ..errors import UserError


def init_distributed(launcher: str, backend: str | None = None, timeout: int = 1800) -> None:
    """Join the other processes, whatever started them.

    Args:
        launcher: ``'pytorch'`` (torchrun, tools/dist_train.sh) or ``'slurm'`` (srun starts every process).
        backend: ``'nccl'`` or ``'gloo'``; by default NCCL with GPUs and gloo without.
        timeout: Seconds to wait for other processes in one exchange.

    Raises:
        UserError: The launcher's environment is missing, torchrun could not start a process again, or there are more
            processes than GPUs on this machine.
    """
    if launcher == 'slurm':
        _environment_of_slurm()
    elif launcher != 'pytorch':
        raise UserError(f"launcher '{launcher}' is not known; use 'none', 'pytorch' or 'slurm'")
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR') if name not in os.environ]
    if missing:
        raise UserError(
            f'--launcher pytorch needs {", ".join(missing)} in the environment: '
            'start with tools/dist_train.sh or torchrun'
        )
    restarts = os.environ.get('TORCHELASTIC_MAX_RESTARTS', '0') != '0'
    if restarts and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True':
        # Seen with torch 2.13: in the store that it keeps, some find the address of a process that was killed.
        raise UserError(
            'processes that torchrun starts again would wait for the dead ones: give it --rdzv-backend=c10d, and '
            'TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment on all machines (or --max-restarts=0)'
        )
    if get_device() == 'cuda' and backend != 'gloo':
        local, count = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
        if local >= count:
            raise UserError(f'process {local} of this machine has no GPU: {count} are visible; start {count} processes')
        torch.cuda.set_device(local)
        backend = 'nccl'
    else:
        backend = 'gloo'
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    # A thread of gloo that still holds a tensor asks for the interpreter's lock when there is none any more.
    errors.leave_at_once = backend == 'gloo'


@contextmanager
def lost_processes(timeout: int) -> Iterator[None]:
    """Say in one line that another process hangs or has ended, which the backends tell in several.

    Args:
        timeout: Seconds that an exchange waits.
    """
    try:
        yield
    except RuntimeError as error:
        text, rank = str(error).lower(), os.environ.get('RANK', '?')
        if 'timed out' in text or 'timeout' in text:
            reason = f'process {rank} waited {timeout} s for the others: one hangs, or is far slower'
        elif 'connection closed' in text or 'connection reset' in text or 'broken pipe' in text:
            reason = f'process {rank} lost another one, which has ended'
        else:
            raise
        raise UserError(f'{reason}; look at its log, then continue with --resume') from error


def _environment_of_slurm() -> None:
    if 'SLURM_PROCID' not in os.environ:
        raise UserError('--launcher slurm works under srun; start with tools/slurm_train.sh')
    env = os.environ
    env['RANK'], env['WORLD_SIZE'] = env['SLURM_PROCID'], env['SLURM_NTASKS']
    env['LOCAL_RANK'] = env.get('SLURM_LOCALID', '0')
    env.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in env:
        nodes = subprocess.run(
            ['scontrol', 'show', 'hostnames', env['SLURM_JOB_NODELIST']], capture_output=True, text=True, check=True
        )
        env['MASTER_ADDR'] = nodes.stdout.split()[0]
