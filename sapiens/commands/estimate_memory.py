# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Say how much memory a config needs, before there is a GPU: the real step runs on tensors that have no memory.

What autograd keeps and checkpointing drops is counted, not guessed. The table holds the tensors; a CUDA context, the
kernels' workspaces and the gaps of the allocator take a tenth more.

Example: sapiens estimate-memory configs/pose/sapiens_1b_308kpt.py --batch-size 4
         sapiens estimate-memory configs/pretrain/sapiens_2b_mae.py --fsdp 8 --layers
         sapiens estimate-memory --grid
"""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from ..errors import UserError
from ..utils.numbers import check_number
from . import options

if TYPE_CHECKING:
    from mmengine.config import Config

    from ..engine.memory import MemoryEstimate

GIB = 2**30
SIZES = ('0.3b', '0.6b', '1b', '2b')
LAST, RANK = 4, 16
ROWS: dict[str, dict[str, Any]] = {
    'inference': dict(training=False),
    'finetune': dict(with_cp=False),
    'finetune, checkpointing': dict(with_cp=True),
    'finetune, every 2nd layer': dict(with_cp=2),
    f'last {LAST} layers': dict(with_cp=False, tune=f'last:{LAST}'),
    f'LoRA, rank {RANK}': dict(with_cp=False, tune=f'lora:{RANK}'),
    'heads alone': dict(with_cp=False, tune='none'),
}
PRETRAINING = {name.replace('finetune', 'pretrain'): row for name, row in ROWS.items() if 'finetune' in name}


def main() -> None:
    """Read the options and print a table."""
    parser = options.new_parser(__doc__)
    options.add_config_options(parser, nargs='?')
    parser.add_argument('--grid', action='store_true', help='all sizes instead of one config: pose 308 and pretraining')
    parser.add_argument('--batch-size', type='count', help="images on each GPU; default: the config's, 1 with --grid")
    parser.add_argument('--precision', choices=('bf16', 'fp16', 'fp32'), default='bf16', help='default: bf16')
    parser.add_argument(
        '--shape', type='count', nargs=2, metavar=('H', 'W'), help="input size; the config's by default"
    )
    parser.add_argument('--fsdp', type='count', default=1, metavar='N', help='GPUs that share the states of training')
    parser.add_argument(
        '--gpu-memory', type='amount', default=80.0, metavar='GB', help='of the GPU, for the largest batch; default: 80'
    )
    parser.add_argument('--layers', action='store_true', help='what each layer leaves for the backward pass')
    args = parser.parse_args()
    if (args.config is None) == (not args.grid):
        parser.error('give a config, or --grid')
    print_grid(args) if args.grid else print_config(args)


def estimate(config: Config, row: dict[str, Any], args: Any, batch_size: int) -> MemoryEstimate:
    """One row of a table: a config with another way to train."""
    from ..engine.memory import estimate_memory

    config = copy.deepcopy(config)
    config.model.backbone.update({key: value for key, value in row.items() if key != 'training'})
    shape = tuple(args.shape) if args.shape else None
    return estimate_memory(config, batch_size, row.get('training', True), args.precision, args.fsdp, shape)


def largest_batch(config: Config, row: dict[str, Any], args: Any) -> int:
    """The most images that fit the GPU with a tenth and a context to spare; memory grows by as much for each.

    Two batches, large enough that activations decide the peak, give the line.
    """
    from ..engine.memory import CONTEXT

    room = args.gpu_memory * 1e9 / 1.1 - CONTEXT
    few, many = (estimate(config, row, args, n).peak for n in (8, 16))
    if few > room:
        return max((n for n in (1, 2, 4) if estimate(config, row, args, n).peak <= room), default=0)
    return int(8 + 8 * (room - few) / (many - few))


def print_config(args: Any) -> None:
    """One config in all ways to use it."""
    from ..engine.config import load_config
    from ..models.backbones import resolve_arch

    config = load_config(args.config, args.cfg_options)
    model = config.get('model') or {}
    if not isinstance(model.get('backbone'), dict):
        raise UserError(f'{args.config}: has no model with a backbone')
    rows = PRETRAINING if model.get('type', '').endswith('MAEPretrainer') else ROWS
    arch = model['backbone'].get('arch')
    if arch and resolve_arch(arch)['num_layers'] < LAST:
        rows = {name: row for name, row in rows.items() if row.get('tune') != f'last:{LAST}'}
    batch_size = args.batch_size or (config.get('train_dataloader') or {}).get('batch_size', 1)
    check_number(f'{args.config}: train_dataloader.batch_size', batch_size, 1, whole=True)
    shared = f', {args.fsdp} GPUs with FSDP' if args.fsdp > 1 else ''
    table = Table(title=f'{args.config}: GiB on each GPU, batch {batch_size}, {args.precision}{shared}')
    kinds = ('parameters', 'gradients', 'optimiser', 'weights in half precision', 'gathered', 'activations')
    estimates = {name: estimate(config, row, args, batch_size) for name, row in track(rows.items(), transient=True)}
    columns = tuple(c for c in kinds if any(c in e.parts for e in estimates.values()))
    for column in ('', 'trained', *columns, 'sum', f'largest batch in {args.gpu_memory:g} GB'):
        table.add_column(column, justify='right' if column else 'left')
    for name, row in track(rows.items(), transient=True):
        one = estimates[name]
        parts = (f'{one.parts[c] / GIB:.2f}' if c in one.parts else '-' for c in columns)
        table.add_row(name, f'{one.trainable / 1e6:,.1f} M', *parts, f'{one.peak / GIB:.2f}',
                      str(largest_batch(config, row, args)))  # fmt: skip
    console = Console()
    console.print(table)
    if args.layers:
        print_layers(console, estimates)


def print_layers(console: Console, estimates: dict[str, MemoryEstimate]) -> None:
    """What the modules leave for the backward pass, under each policy."""
    trained = {name: e.layers for name, e in estimates.items() if e.layers}
    table = Table(title='MiB that the forward pass leaves for the backward pass')
    for column in ('module', *trained):
        table.add_column(column, justify='left' if column == 'module' else 'right')
    modules = dict.fromkeys(m for layers in trained.values() for m in layers)
    sizes = [(module, [layers.get(module, 0.0) / 2**20 for layers in trained.values()]) for module in modules]
    rows = [(module, [f'{value:,.1f}' for value in values]) for module, values in sizes if max(values) >= 0.05]
    for values, group in itertools.groupby(rows, key=lambda row: row[1]):
        names = ['losses' if module == 'other' else module for module, _ in group]
        table.add_row(names[0] if len(names) == 1 else f'{names[0]} to {names[-1]}, each', *values)
    console.print(table)


def print_grid(args: Any) -> None:
    """All sizes."""
    from ..engine.config import load_config

    batch_size = args.batch_size or 1
    shared = f', {args.fsdp} GPUs with FSDP' if args.fsdp > 1 else ''
    table = Table(
        title=f'GiB on each GPU at batch {batch_size}, {args.precision}{shared} (largest batch in '
        f'{args.gpu_memory:g} GB); 308 keypoints at 1024 x 768, pretraining at 1024 x 1024'
    )
    table.add_column('')
    for size in SIZES:
        table.add_column(size, justify='right')
    for name, row in track([*ROWS.items(), *PRETRAINING.items()], 'estimating', transient=True):
        kind = 'pretrain/sapiens_{}_mae.py' if name in PRETRAINING else 'pose/sapiens_{}_308kpt.py'
        configs = [load_config(kind.format(size), args.cfg_options) for size in SIZES]
        peaks = [estimate(config, row, args, batch_size).peak / GIB for config in configs]
        largest = [largest_batch(config, row, args) for config in configs]
        table.add_row(name, *(f'{peak:.1f} ({most})' for peak, most in zip(peaks, largest, strict=True)))
    Console().print(table)
