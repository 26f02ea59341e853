# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Train in the processes of a Ray cluster; those that die are started again and go on from the last checkpoint.

    python tools/ray_train.py CONFIG --workers 16 --address auto --global-batch 512 --work-dir /shared/run

Other options are those of tools/train.py. With `--workers 8:16` it goes on with fewer while a machine is missing. The
work directory is on a file system that all machines see. Without --address, Ray is started on this machine. SIGTERM and
SIGUSR1 save a checkpoint and end with exit code 75; the same command continues.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sapiens.commands.options import new_parser
from sapiens.curation.cluster import plain_errors, start_ray
from sapiens.engine.config import load_config
from sapiens.engine.hooks.preemption import EXIT_REQUEUE
from sapiens.errors import UserError, run_cli
from sapiens.utils.optional import need


class StopRequest:
    """An actor: how a signal to the command reaches the training, which Ray runs in threads that get none."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def ask(self) -> None:
        """All shall save and end."""
        self.asked.set()

    async def wait(self) -> None:
        """Until somebody has asked."""
        await self.asked.wait()


def train_here(settings: dict[str, Any]) -> None:
    """What each process does; Ray has joined it with the others.

    Args:
        settings: ``command`` of the training, ``folder`` to be in, ``root`` of the toolkit, ``stop``: the actor.
    """
    sys.path.insert(0, settings['root'])
    os.chdir(settings['folder'])
    sys.argv = settings['command']
    import ray

    from sapiens.commands.train import main
    from sapiens.engine.hooks.preemption import Preempted, PreemptionHook

    def listen() -> None:
        ray.get(settings['stop'].wait.remote())
        PreemptionHook.asked = True

    threading.Thread(target=listen, daemon=True).start()
    with contextlib.suppress(Preempted):  # Ray would start it again; the command ends with the code
        main()


def main() -> None:
    """Start the processes and wait."""
    parser = new_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--workers', required=True, metavar='N[:MAX]', help='processes: one per GPU, or of CPUs')
    parser.add_argument('--cpus-per-worker', type='count', default=1, help='for its loader; default: 1')
    parser.add_argument('--address', help="of a cluster, 'auto' for the one of this machine; default: start one here")
    parser.add_argument(
        '--max-failures', type=int, default=3, help='times that processes are started again; -1: always'
    )
    parser.add_argument('--work-dir', required=True, help='folder that all machines see')
    args, options = parser.parse_known_args()
    numbers = args.workers.split(':')
    if not all(n.isdigit() and int(n) for n in numbers) or len(numbers) > 2:
        raise UserError(f'--workers {args.workers}: give a number of processes, or two as 8:16')
    load_config(args.config)
    why, how = 'training on Ray', dict(package='ray[train]')
    ray, train = need('ray', why, **how), need('ray.train', why, **how)
    torch_of = need('ray.train.torch', why, **how)
    work_dir = Path(args.work_dir).resolve()
    command = [
        'tools/train.py',
        args.config,
        '--launcher',
        'pytorch',
        '--resume',
        '--work-dir',
        str(work_dir),
        *options,
    ]
    least, most = int(numbers[0]), int(numbers[-1])
    start_ray(args.address, **({} if args.address else dict(include_dashboard=False)))
    gpus = ray.cluster_resources().get('GPU', 0) >= least
    stop = ray.remote(StopRequest).options(num_cpus=0, max_concurrency=most + 1).remote()
    stopped = False

    def on_signal(number: int, frame: Any) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(number, signal.SIG_DFL)  # who asks twice does not want to wait
        stop.ask.remote()

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, on_signal)
    trainer = torch_of.TorchTrainer(
        train_here,
        train_loop_config=dict(command=command, folder=os.getcwd(), root=sys.path[0], stop=stop),
        torch_config=torch_of.TorchConfig(backend='nccl' if gpus else 'gloo'),
        scaling_config=train.ScalingConfig(
            num_workers=least if least == most else (least, most),
            use_gpu=gpus,
            resources_per_worker={'CPU': args.cpus_per_worker, **({'GPU': 1} if gpus else {})},
        ),
        run_config=train.RunConfig(
            name='ray', storage_path=str(work_dir), failure_config=train.FailureConfig(max_failures=args.max_failures)
        ),
    )
    with plain_errors():
        trainer.fit()
    if stopped:
        raise SystemExit(EXIT_REQUEUE)


if __name__ == '__main__':
    run_cli(main)
