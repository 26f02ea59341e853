# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What `make demo` runs: make people, train tiny models on them for about two minutes, try them on real photos.

Usage: python demo/quickstart.py [--images demo/images] [--people 240] [--iterations 500]

Every step is a command that a user could type; it is printed before it runs. Steps that are done are not repeated.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.panel import Panel

from sapiens.errors import UserError, run_cli

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/multitask/sapiens_tiny_quickstart.py'
DATA, WORK, OUT = 'data/quickstart', 'work_dirs/quickstart', 'outputs/demo'


def run(console: Console, title: str, *command: str) -> None:
    """Show a command and run it in the root of the checkout.

    Raises:
        UserError: It failed; its own message stands above.
    """
    console.rule(f'[bold]{title}')
    console.print('$ python ' + shlex.join(command), style='dim', highlight=False)
    # Half of the cores compute: the other half loads data, and threads that wait for a core stop all the others.
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env={'OMP_NUM_THREADS': threads, **os.environ})
    if done.returncode:
        raise UserError(f'{command[0]} ended with exit code {done.returncode}; see its message above')


def main() -> None:
    """Read the options and run the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', default='demo/images', help='photo or folder to run on')
    parser.add_argument('--people', type=int, default=240, help='pictures of made people to train on')
    parser.add_argument('--iterations', type=int, default=500, help='training steps')
    args = parser.parse_args()
    console = Console()
    console.print(
        Panel(
            'No trained weights ship with the project yet. This demo trains a tiny model (a few million parameters, '
            '128 x 96 pixels) on simple made figures for about two minutes and runs it on real photos.\n'
            'The pictures show that every part works. They do not show what the real models can do.',
            title='What you will see',
        )
    )
    render = ('tools/synthesis/render.py', '--assets', 'fixture', '--out', DATA, '--num', str(args.people))
    options = ('--size', '192x144', '--persons', '1-2', '--samples', '1', '--workers', str(min(os.cpu_count() or 1, 8)))
    run(console, '1/3  make people with labels', *render, *options)

    checkpoint = ROOT / WORK / f'iter_{args.iterations}.pth'
    if checkpoint.is_file():
        console.rule('[bold]2/3  train')
        console.print(f'{checkpoint.relative_to(ROOT)} is there: not trained again')
    else:
        length = (f'train_cfg.max_iters={args.iterations}', f'train_cfg.val_interval={args.iterations}')
        interval = f'default_hooks.checkpoint.interval={args.iterations}'
        train = ('tools/train.py', CONFIG, '--work-dir', WORK, '--cfg-options', *length, interval)
        run(console, '2/3  train four tasks on one backbone', *train)

    model = ('--config', CONFIG, '--checkpoint', str(checkpoint.relative_to(ROOT)))
    # No detector ships either: the boxes of the demo photos were drawn by hand; other photos are taken whole.
    boxes = ROOT / args.images / 'boxes.json'
    persons = ('--detector', f'file:{boxes.relative_to(ROOT)}', '--per-person') if boxes.is_file() else ()
    # A model this young is unsure of its points; a low threshold shows them all the same.
    run(console, '3/3  pose, parts, depth and normals of real photos', 'demo/image_demo.py', args.images, *model,
        *persons, '--threshold', '0.05', '--out-dir', OUT)  # fmt: skip
    console.print(f'\nPictures, JSON and npz are in [bold]{OUT}[/bold]. To use the real models: README, "Use it".')


if __name__ == '__main__':
    run_cli(main)
