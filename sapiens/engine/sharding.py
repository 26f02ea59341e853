# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""States of models that several processes share: one process reads and writes files, all get their part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from mmengine.dist import broadcast_object_list, is_distributed, is_main_process
from torch import nn
from torch.utils._pytree import tree_map_only

from ..errors import UserError
from .precision import Precision

Result = TypeVar('Result')


def on_main_process(work: Callable[[], Result]) -> Result | None:
    """Do something on the main process alone; every process must call it.

    Returns:
        Its result; None on the other processes. When it fails, they end too, without a word.
    """
    result, failed = None, [True]
    try:
        if is_main_process():
            result = work()
        failed = [False]
    finally:
        if is_distributed():
            broadcast_object_list(failed)
    if failed[0]:
        raise SystemExit(1)
    return result


def from_main_process(value: Any) -> Any:
    """What the main process has, on every process."""
    values = [value if is_main_process() else None]
    broadcast_object_list(values)
    return values[0]


def repeated_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The transformer layers of a model: what is sharded, compiled and recomputed one by one."""
    for module in list(model.modules()):
        for name in ('layers', 'decoder_blocks'):
            units = getattr(module, name, None)
            if isinstance(units, nn.ModuleList):
                yield from (unit for unit in units if any(True for _ in unit.parameters()))


def shard_model(model: nn.Module, whole: nn.Module | None, precision: Precision, replicas: int = 1) -> nn.Module:
    """Shard parameters, gradients and optimiser state over all processes (PyTorch's FSDP2), in place.

    Every transformer layer is one unit, the rest of the model another. Parameter names do not change. Parameters stay
    in float32; with a half precision attention and FFN are units whose parameters travel and compute in it, while
    gradients are summed in float32.

    Args:
        model: On the meta device on every process, so that none but the first ever holds the whole.
        whole: The same model with its initial values, on the main process; None on the others.
        replicas: Groups of processes, say machines, that hold a whole model each (hybrid sharding).

    Raises:
        UserError: This torch is too old, or the processes do not divide into so many groups.
    """
    try:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    except ImportError:
        raise UserError(f'--fsdp needs torch 2.6 or newer, this is {torch.__version__}') from None
    world_size = dist.get_world_size()
    if replicas < 1 or world_size % replicas:
        raise UserError(f'fsdp.replicas={replicas} does not divide the {world_size} processes')
    if replicas == 1:
        mesh = dist.device_mesh.init_device_mesh(precision.device, (world_size,))
    else:
        shape = replicas, world_size // replicas
        mesh = dist.device_mesh.init_device_mesh(precision.device, shape, mesh_dim_names=('replicate', 'shard'))
    # The matrices travel in half precision; norms, and what is summed between them, stay float32 as under autocast.
    policy = MixedPrecisionPolicy(param_dtype=precision.dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for unit in repeated_layers(model):
        for part in unit.children() if precision.is_half else ():
            if any(parameter.ndim > 1 for parameter in part.parameters()):
                fully_shard(part, mesh=mesh, mp_policy=policy)
        fully_shard(unit, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.to_empty(device=precision.device)
    model.to(precision.device)  # tells mmengine's preprocessor where it is
    set_whole_weights(model, {} if whole is None else whole.state_dict())
    buffers = {} if whole is None else dict(whole.named_buffers())
    for name, buffer in model.named_buffers():  # those that no state dict holds as well
        if name in buffers:
            buffer.copy_(buffers[name])
        dist.broadcast(buffer, 0)
    return model


def _distributed() -> ModuleType:
    """torch's distributed state dicts; not every build of torch has them, and one process needs none."""
    from torch.distributed.checkpoint import state_dict

    return state_dict


def _options(**options: bool) -> Any:
    return _distributed().StateDictOptions(full_state_dict=True, strict=False, **options)


def is_sharded(model: nn.Module) -> bool:
    """Whether a model went through `shard_model`."""
    return any(hasattr(parameter, 'placements') for parameter in model.parameters())


def whole_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a model, whole and on the CPU; every process must call it.

    Returns:
        On the main process; the others get nothing from a sharded model, and references to their own from another.
    """
    if is_sharded(model):
        return _distributed().get_model_state_dict(model, options=_options(cpu_offload=True))
    state = model.state_dict()
    return {name: tensor.detach().cpu() for name, tensor in state.items()} if is_main_process() else state


def set_whole_weights(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Give every process its part of weights that the main process has; every process must call it.

    Args:
        model: What the state does not name keeps its values.
        state: Whole weights; on other processes than the main one nothing is looked at.
    """
    if not is_distributed():
        model.load_state_dict(state, strict=False)
        return
    own = dict(state) if is_main_process() else {}
    _distributed().set_model_state_dict(model, own, options=_options(broadcast_from_rank0=True))


def optimizer_names(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[str]:
    """Parameter names in the order that an optimiser numbers them."""
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    return [name_of.get(id(p), '?') for group in optimizer.param_groups for p in group['params']]


def whole_optimizer(optim_wrapper: Any, model: nn.Module) -> dict:
    """The state of mmengine's optimiser wrapper, in torch's numbered layout, whole and on the CPU of the main process.

    Every process must call it; the others get nothing of use.
    """
    optimizer = optim_wrapper.optimizer
    state = dict(optim_wrapper.state_dict())
    if is_sharded(model) and optimizer.state:
        named = _distributed().get_optimizer_state_dict(model, optimizer, options=_options(cpu_offload=True))
        number = {name: i for i, name in enumerate(optimizer_names(optimizer, model))}
        state['state'] = {number[name]: value for name, value in named.get('state', {}).items()}
    return tree_map_only(torch.Tensor, lambda t: t.detach().cpu(), state) if is_main_process() else state


# Numbers of an optimiser that are no state of it.
_OF_CONFIG = ('weight_decay', 'betas', 'eps', 'momentum')


def set_whole_optimizer(optim_wrapper: Any, model: nn.Module, state: Any, names: list[str] | None) -> None:
    """Give every process its part of a state that the main process has; every process must call it.

    Args:
        state: As `whole_optimizer` gives it, on the main process; None on the others.
        names: Of its parameters by number; None when another trainer wrote it.

    Raises:
        UserError: The optimiser now has other parameters.
    """
    optimizer = optim_wrapper.optimizer
    current = optimizer_names(optimizer, model)
    on_main_process(lambda: _check_names(current, state['param_groups'], names))
    if not is_distributed():
        _load(optim_wrapper, state)
        return
    own = state if is_main_process() else {'state': {}}
    settings = from_main_process({k: v for k, v in own.items() if k != 'state'})
    if from_main_process(bool(own['state'])):
        named = {current[number]: value for number, value in own['state'].items()}
        # The settings are as they were built, for `_load` to choose from.
        groups = [{**built, 'params': [current[i] for i in group['params']]}
                  for built, group in zip(optimizer.param_groups, settings['param_groups'], strict=True)]  # fmt: skip
        _distributed().set_optimizer_state_dict(
            model, optimizer, {'state': named, 'param_groups': groups}, options=_options(broadcast_from_rank0=True)
        )
    set_optimizer_settings(optim_wrapper, model, settings)


def set_optimizer_settings(
    optim_wrapper: Any, model: nn.Module, settings: dict, names: list[str] | None = None
) -> None:
    """Restore all of `whole_optimizer` but the state of the parameters, which stays, on every process.

    Args:
        settings: The same on every process.
        names: As of `set_whole_optimizer`, which raises the same.
    """
    optimizer = optim_wrapper.optimizer
    _check_names(optimizer_names(optimizer, model), settings['param_groups'], names)
    _load(optim_wrapper, {**settings, 'state': optimizer.state_dict()['state']})


def _load(optim_wrapper: Any, state: dict) -> None:
    """Load a state, but for how a step is computed, which is this machine's and the config's matter."""
    kept = {key for group in state['param_groups'] for key in group if key.startswith('initial_')}
    # Another schedule than that of the learning rate may have changed any of them, one of momentum the betas.
    names = {'fused', 'foreach', *(() if kept - {'initial_lr'} else _OF_CONFIG)}
    # Without a schedule of the config, the rate is the config's, or what a hook makes of it at each step.
    rates = ['initial_lr' if 'initial_lr' in group else 'lr' for group in optim_wrapper.param_groups]
    ways = [{key: group[key] for key in {*names, rate} & group.keys()}
            for group, rate in zip(optim_wrapper.param_groups, rates, strict=True)]  # fmt: skip
    optim_wrapper.load_state_dict(state)
    for group, way in zip(optim_wrapper.param_groups, ways, strict=True):
        group.pop('initial_lr', None)
        group.update(way)


def _check_names(current: list[str], groups: list[dict], names: list[str] | None) -> None:
    count = sum(len(group['params']) for group in groups)
    if count != len(current) or (names is not None and names != current):
        changed = sorted(set(names or ()) ^ set(current)) or ['their order']
        raise UserError(
            f'cannot resume: the optimiser now has other parameters ({len(current)}, the checkpoint {count}; '
            f'e.g. {changed[0]}); resume with the same config, or use load_from to start from the weights alone'
        )
