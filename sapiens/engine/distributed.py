# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Several processes, on GPUs (NCCL) or CPUs (gloo); sharded models (FSDP2)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.dist import is_main_process
from torch import nn

from .. import errors
from ..errors import UserError


def init_distributed(launcher: str, backend: str | None = None, timeout: int = 1800) -> None:
    """Join the other processes, whatever started them.

    Args:
        launcher: ``'pytorch'`` (torchrun, tools/dist_train.sh) or ``'slurm'`` (srun starts every process).
        backend: ``'nccl'`` or ``'gloo'``; by default NCCL with GPUs and gloo without.
        timeout: Seconds to wait for other processes in one exchange.

    Raises:
        UserError: The launcher's environment is missing, or there are more processes than GPUs on this machine.
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
    if torch.cuda.is_available() and backend != 'gloo':
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


def repeated_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The transformer layers of a model: what is sharded, compiled and recomputed one by one."""
    for module in list(model.modules()):
        for name in ('layers', 'decoder_blocks'):
            units = getattr(module, name, None)
            if isinstance(units, nn.ModuleList):
                yield from (unit for unit in units if any(True for _ in unit.parameters()))


def shard_model(model: nn.Module) -> nn.Module:
    """Shard parameters, gradients and optimiser state over all processes (PyTorch's FSDP2), in place.

    Every transformer layer is one unit, the rest of the model another. Parameter names do not change. Parameters stay
    in fp32 also under ``--amp``, where autocast converts them, so that validation without autocast works as ever.

    Args:
        model: With encoders that have ``layers`` and decoders that have ``decoder_blocks``.

    Raises:
        UserError: This torch is too old.
    """
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise UserError(f'--fsdp needs torch 2.6 or newer, this is {torch.__version__}') from None
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    mesh = dist.device_mesh.init_device_mesh(device, (dist.get_world_size(),))
    for unit in repeated_layers(model):
        fully_shard(unit, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def is_sharded(model: nn.Module) -> bool:
    """Whether a model went through `shard_model`."""
    return any(hasattr(parameter, 'placements') for parameter in model.parameters())


def gather(data: object) -> object:
    """Full CPU copies of the sharded tensors in nested data; every process must call it.

    Returns:
        The data on the main process; on the others the sharded tensors are None, to save memory.
    """
    if isinstance(data, Mapping):
        return {key: gather(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(gather(value) for value in data)
    if hasattr(data, 'full_tensor'):
        full = data.full_tensor()
        return full.cpu() if is_main_process() else None
    if torch.is_tensor(data):
        return data.detach().cpu()
    return data


def scatter_like(full: torch.Tensor, sharded: torch.Tensor) -> torch.Tensor:
    """Shard a full tensor as ``sharded`` is; what is not sharded stays whole."""
    if not hasattr(sharded, 'placements') or full.shape != sharded.shape:
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full.to(sharded.device), sharded.device_mesh, sharded.placements)
