# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What `make demo` runs: the small model that ships, on real photos. With --train: train one on made people first.

Usage: python demo/quickstart.py [--images demo/images]
       python demo/quickstart.py --train [--people 240] [--iterations 500]

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
    parser.add_argument('--train', action='store_true', help='first train a model on simple made people, two minutes')
    parser.add_argument('--people', type=int, default=240, help='with --train: pictures of made people')
    parser.add_argument('--iterations', type=int, default=500, help='with --train: training steps')
    args = parser.parse_args()
    console = Console()
    model = train(console, args) if args.train else ('--model', 'tiny')
    boxes = ROOT / args.images / 'boxes.json'
    persons = ('--detector', f'file:{boxes.relative_to(ROOT)}' if boxes.is_file() else 'tiny')
    # Models this small are unsure of their points; a low threshold shows those that are right all the same.
    run(console, 'pose, parts, depth and normals of real photos', 'demo/image_demo.py', args.images, *model, *persons,
        '--threshold', '0.2', '--out-dir', OUT)  # fmt: skip
    console.print(f'\nPictures, maps and JSON are in [bold]{OUT}[/bold]. Your own: sapiens predict PHOTO.')
    if not args.train:
        console.print('This model has 5 million parameters and has seen few photographs; what it can and cannot '
                      'do: docs/model_zoo.md. The large ones: README, "Use it".')  # fmt: skip


def train(console: Console, args: argparse.Namespace) -> tuple[str, ...]:
    """Make people, train on them; the options that name the model."""
    console.print(
        Panel(
            'This trains a tiny model (128 x 96 pixels) on simple made figures for about two minutes and runs it on '
            'real photos.\nThe pictures show that every part works. They do not show what the real models can do.',
            title='What you will see',
        )
    )
    render = ('tools/synthesis/render.py', '--assets', 'fixture', '--out', DATA, '--num', str(args.people))
    options = ('--size', '192x144', '--persons', '1-2', '--samples', '1', '--workers', str(min(os.cpu_count() or 1, 8)))
    run(console, 'make people with labels', *render, *options)
    checkpoint = ROOT / WORK / f'iter_{args.iterations}.pth'
    if checkpoint.is_file():
        console.print(f'{checkpoint.relative_to(ROOT)} is there: not trained again')
    else:
        length = (f'train_cfg.max_iters={args.iterations}', f'train_cfg.val_interval={args.iterations}')
        interval = f'default_hooks.checkpoint.interval={args.iterations}'
        command = ('tools/train.py', CONFIG, '--work-dir', WORK, '--cfg-options', *length, interval)
        run(console, 'train four tasks on one backbone', *command)
    return '--config', CONFIG, '--checkpoint', str(checkpoint.relative_to(ROOT))


if __name__ == '__main__':
    run_cli(main)
