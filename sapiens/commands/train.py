# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Train a model from a config.

Example: sapiens train configs/pose/sapiens_tiny_133kpt.py
         sapiens train my_config.py --work-dir runs/a --amp bf16 --resume --cfg-options train_cfg.max_iters=2000
Several processes: tools/dist_train.sh CONFIG NUMBER [options]; several machines: tools/slurm_train.sh.
SIGTERM and SIGUSR1 save a checkpoint and end with exit code 75; the same command with --resume continues.
"""

from __future__ import annotations

from ..errors import UserError
from . import options


def main() -> None:
    """Read the options and train."""
    parser = options.new_parser(__doc__)
    options.add_run_options(parser)
    parser.add_argument(
        '--resume', nargs='?', const='auto', help='continue the last checkpoint of the work directory, or this one'
    )
    parser.add_argument(
        '--amp', nargs='?', const='bf16', choices=('bf16', 'fp16'), help='the same as --precision bf16 or fp16'
    )
    parser.add_argument('--compile', action='store_true', help='torch.compile the model')
    parser.add_argument('--fsdp', action='store_true', help='shard the model over all processes')
    parser.add_argument('--seed', type='number', help='of data order, augmentation and initial weights')
    parser.add_argument(
        '--global-batch', type='number', help='batch over all processes; default: the config, per process'
    )
    args = parser.parse_args()
    from ..engine import cli

    config = cli.prepare(args)
    if config.get('train_dataloader') is None:
        raise UserError(f'{args.config}: has no train_dataloader, there is nothing to train on')
    cli.choose_resume(config, args.resume)
    cli.set_precision(config, args.amp)
    cli.set_global_batch(config, args.global_batch)
    if args.compile:
        config.compile = True
    if args.fsdp:
        config.fsdp = True
    if args.seed is not None:
        config.randomness = {**config.get('randomness', {}), 'seed': args.seed}
    cli.check_compiler(config)
    cli.build_runner(config).train()
