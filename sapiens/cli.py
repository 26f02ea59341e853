# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The console command ``sapiens``: finds the command that was typed in `sapiens.commands` and runs it."""

from __future__ import annotations

import difflib
import importlib
import sys

from . import __version__
from .errors import UserError, run_cli

# Command -> what it does, in the order of the help. The module has the same name, with _ for -.
COMMANDS = {
    'predict': 'pose, parts, depth and normals of images: pictures, JSON, arrays',
    'video': 'the same of a video, with tracking and smoothing',
    'webcam': 'the same of a camera, live',
    'app': 'a web page to try models on',
    'train': 'train a model from a config',
    'test': "score a checkpoint with a config's test data",
    'convert': 'convert a checkpoint between layouts and formats',
    'export': 'write a model as ONNX, OpenVINO, ... with its decoding, and compare',
    'download': 'get published weights by name',
    'check-data': 'read every sample of a data set and list what is wrong',
    'browse-data': 'draw augmented samples with their labels',
    'render': 'render synthetic people with exact labels',
    'estimate-memory': 'how much GPU memory a config needs, before there is a GPU',
    'curate': 'choose images for pretraining and pack them into shards',
    'info': 'what is installed here, and what a checkpoint holds',
}


def main() -> None:
    """Entry point of the console script and of ``python -m sapiens``."""
    run_cli(_dispatch)


def _dispatch() -> int | None:
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help', 'help'):
        print(_help())
        return 0
    if name == '--version':
        print(f'sapiens-toolkit {__version__}')
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f'commands are {", ".join(COMMANDS)}'
        raise UserError(f"sapiens has no command '{name}'; {hint}")
    sys.argv = [f'sapiens {name}', *sys.argv[2:]]
    return importlib.import_module(f'.commands.{name.replace("-", "_")}', __package__).main()


def _help() -> str:
    rows = '\n'.join(f'  {name:<15} {what}' for name, what in COMMANDS.items())
    return (
        f'usage: sapiens COMMAND [options]\n\nThe Sapiens toolkit {__version__}: pose, body parts, depth, normals\n\n'
        f'{rows}\n\nExample: sapiens predict photos/ --model pose_308_0.3b --out-dir results\n'
        '`sapiens COMMAND --help` shows the options of a command and an example.'
    )
