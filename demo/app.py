# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A web page: upload a photo, choose task and model, compare by a slider, download the files.

Usage: python demo/app.py --config CONFIG --checkpoint FILE [--config ... --checkpoint ...] [--host HOST] [--port 7860]
Each --config (or --model) with its --checkpoint is one model to choose; it is loaded when it is first used.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sapiens.errors import UserError, run_cli


def main() -> None:
    """Read the options and serve the page."""
    from sapiens.apis import Inferencer, cli
    from sapiens.apis.page import ModelShelf, build_page

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--host', default='127.0.0.1', help='0.0.0.0 shows the page to the network')
    parser.add_argument('--port', type=int, default=7860, help='0 takes a free one')
    cli.add_options(parser)
    args = parser.parse_args()
    names = args.model or args.config
    if not args.checkpoint or (names and len(names) != len(args.checkpoint)):
        raise UserError('give one --checkpoint for each --config or --model')
    options = dict(device=args.device, dtype=args.dtype, detector=args.bbox or args.detector,
                   per_person=args.per_person, flip_test=args.flip_test, allow_partial=args.allow_partial)  # fmt: skip
    makers, tasks = {}, {}
    for config, file in zip(names or [None] * len(args.checkpoint), args.checkpoint, strict=True):
        label = f'{Path(config).stem if config else Path(file).stem} ({Path(file).name})'
        # Loading once says what is wrong with it before anybody uploads a photo.
        tasks[label] = Inferencer(config, file, **options).tasks
        makers[label] = partial(Inferencer, config, file, **options)
    page = build_page(ModelShelf(makers, tasks))
    page.launch(server_name=args.host, server_port=args.port or None, show_error=True, quiet=False)


if __name__ == '__main__':
    run_cli(main)
