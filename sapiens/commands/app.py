# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A web page: upload a photo, choose task and model, compare by a slider, download the files.

Example: sapiens app --model pose_308_0.3b --model seg_28_0.3b
         sapiens app --config one.py --checkpoint one.pth --config two.py --checkpoint two.pth --port 8000
Each --model (by name, or with its --checkpoint) or --config with its --checkpoint is one model to choose; it is loaded
when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path

from ..errors import UserError
from . import options


def main() -> None:
    """Read the options and serve the page."""
    parser = options.new_parser(__doc__)
    parser.add_argument('--host', default='127.0.0.1', help='0.0.0.0 shows the page to the network')
    parser.add_argument('--port', type='number', default=7860, help='0 takes a free one')
    options.add_inference_options(parser)
    args = parser.parse_args()
    from ..apis import Inferencer, cli
    from ..apis.page import ModelShelf, build_page

    names = cli.chosen_models(args)
    settings = cli.settings_of(args)
    makers: dict[str, Callable[[], Inferencer]] = {}
    tasks: dict[str, tuple[str, ...]] = {}
    models = list(zip_longest(names, args.checkpoint))
    for label, (config, file) in zip(labels_of(models), models, strict=True):
        # Loading once says what is wrong with it before anybody uploads a photo.
        does = Inferencer(config, file, **settings).tasks
        tasks[label] = tuple(task for task in does if task in (args.task or does))
        makers[label] = partial(Inferencer, config, file, **settings)
    if not any(tasks.values()):
        raise UserError(f'none of these models does the task {" or ".join(args.task or ["of a person"])}')
    page = build_page(ModelShelf(makers, tasks), threshold=args.threshold)
    try:
        page.launch(server_name=args.host, server_port=args.port or None, show_error=True, quiet=False)
    except (OSError, OverflowError):
        raise UserError(f'--host {args.host} --port {args.port}: cannot be had; --port 0 takes a free one') from None


def labels_of(models: Sequence[tuple[str | None, str | None]]) -> list[str]:
    """What the page calls models of ``(config, checkpoint)``: names, whole paths where they are alike."""
    paths = [(str(config).removesuffix('.py') if config else str(Path(file or '').with_suffix('')), file)
             for config, file in models]  # fmt: skip
    short = [f'{Path(name).name} ({Path(file).name})' if file else Path(name).name for name, file in paths]
    whole = [f'{name} ({file})' if file else name for name, file in paths]
    return [one if short.count(one) == 1 else other for one, other in zip(short, whole, strict=True)]
