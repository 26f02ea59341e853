# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Options that several commands share."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
from functools import partial
from typing import Any


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows its command's docstring.

    It has types ``'number'`` (0, 1, ...), ``'count'`` (1, 2, ...) and ``'amount'`` (no less than 0).
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=_Help)
    parser.register('type', 'number', partial(_whole, 0))
    parser.register('type', 'count', partial(_whole, 1))
    parser.register('type', 'amount', _amount)
    parser._negative_number_matcher = re.compile(r'-\.?\d')  # --bbox -5,10,200,400 is no option, either
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Says every default that the text of an option does not say itself."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ''
        told = not action.option_strings or action.nargs == 0 or 'default' in text
        told = told or action.default in (None, '', [], {}, argparse.SUPPRESS)
        return text if told else f'{text}; default: %(default)s'.removeprefix('; ')


def _whole(least: int, text: str) -> int:
    """A whole number that numpy takes for a seed, too."""
    if not text.isdecimal() or not least <= int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of at least {least}")
    return int(text)


def _amount(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is no number of at least 0")


class OptionsAction(argparse.Action):
    """``--cfg-options a.b=1 c=[1,2]``: mmengine's syntax, but what is a path or another text stays as it is."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Collect ``key=value`` pairs."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in values:
            key, is_one, value = pair.partition('=')
            if not is_one:
                parser.error(f"{option_string}: '{pair}' is not of the form key=value")
            try:
                options[key] = parse_value(value)
            except ValueError:
                parser.error(f'{option_string}: {pair}: give numbers, names, [lists] and (tuples); no dicts')
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """What the text of an option means: a number, True, False, None, ``[a,b]``, ``a,b``, ``(a,b)`` or the text itself.

    ``'a,b'`` in quotes of its own is text too, and so is ``2024_11_27``, which Python takes for a number.

    Raises:
        ValueError: A dict, or brackets that do not match.
    """
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in '\'"' and text[0] not in text[1:-1]:
        return parse_value(text[1:-1]) if text[1:2] in ('[', '(') else text[1:-1]
    if text.startswith('{'):
        raise ValueError(text)
    parts = _split_at_commas(text)
    if len(parts) > 1:
        return [parse_value(part) for part in parts if part.strip()]
    if text[:1] + text[-1:] in ('[]', '()'):
        inner = [parse_value(part) for part in _split_at_commas(text[1:-1]) if part.strip()]
        return tuple(inner) if text[0] == '(' else inner
    if '_' not in text:
        for number in (int, float):
            with contextlib.suppress(ValueError):
                return number(text)
    return {'true': True, 'false': False, 'None': None}.get(text if text == 'None' else text.lower(), text)


def _split_at_commas(text: str) -> list[str]:
    """The parts between commas that no bracket and no quotes hold."""
    parts, quote, depth = [''], '', 0
    for character in text:
        if character in '\'"' and quote in ('', character) and (quote or not parts[-1].strip(' [(')):
            quote = '' if quote else character
        depth += 0 if quote else (character in '[(') - (character in '])')
        if character == ',' and not quote and not depth:
            parts.append('')
        else:
            parts[-1] += character
    if ',' in text and (depth or quote):
        raise ValueError(text)
    return parts


def add_config_options(
    parser: argparse.ArgumentParser, what: str = 'config file, e.g. configs/pose/sapiens_tiny_133kpt.py', **how: Any
) -> None:
    """The config and what overrides it; ``how`` is argparse's of the config."""
    parser.add_argument('config', help=what, **how)
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, default={}, metavar='KEY=VALUE', help='override the config'
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options of training and testing."""
    add_config_options(parser)
    parser.add_argument('--work-dir', help='folder for logs and checkpoints; default: work_dirs/<name of the config>')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none', help='who started us')
    parser.add_argument(
        '--device', choices=('auto', 'cpu', 'cuda'), default='auto', help='default: a GPU if there is one'
    )
    parser.add_argument(
        '--precision',
        choices=('auto', 'probe', 'bf16', 'fp16', 'tf32', 'fp32'),
        help="of the network; default: the config's, else auto (bf16 and TF32 on GPUs that have them, fp32 on CPUs; "
        'probe: bf16 also on a CPU that is faster with it)',
    )
    # torch.distributed.launch of old passes this.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """Options of commands that read a config's data set, see `build_dataset`."""
    add_config_options(parser)
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train', help='default: train')


def build_dataset(args: argparse.Namespace) -> Any:
    """The data set that `add_dataset_options` chose.

    Raises:
        UserError: No such config, or it has no such split.
    """
    from mmengine.registry import init_default_scope

    from ..engine.config import load_config
    from ..errors import UserError
    from ..registry import DATASETS

    config = load_config(args.config, args.cfg_options)
    init_default_scope(config.get('default_scope', 'sapiens'))
    loader = config.get(f'{args.split}_dataloader')
    if loader is None:
        raise UserError(f'{args.config}: has no {args.split}_dataloader')
    return DATASETS.build(loader.dataset)


def add_inference_options(parser: argparse.ArgumentParser) -> None:
    """Options of models, persons and devices; `sapiens.apis.cli.build_inferencer` reads them."""
    models = parser.add_argument_group('models')
    models.add_argument(
        '--model',
        action='append',
        default=[],
        metavar='NAME',
        help='e.g. pose_308, seg_28_1b, depth; default: tiny, which ships',
    )
    models.add_argument('--config', action='append', default=[], help='config instead of a name')
    models.add_argument(
        '--checkpoint', action='append', default=[], help='weights, one for each --model or --config, in their order'
    )
    models.add_argument('--task', nargs='+', metavar='TASK', help='run only these of the models, e.g. pose seg')
    models.add_argument('--flip-test', action=argparse.BooleanOptionalAction, help='default: as the config says')
    models.add_argument('--device', default='auto', help='cuda, mps, cpu; default: the first of these there is')
    models.add_argument('--dtype', default='auto', help='float32, bfloat16 or float16; default: what is fastest here')
    models.add_argument('--compile', action='store_true', help='compile the models: minutes at first, then faster')
    models.add_argument('--batch-size', type='count', default=4, help='crops that run together')
    models.add_argument('--allow-partial', action='store_true', help='leave out heads that the checkpoint lacks')
    persons = parser.add_argument_group('persons')
    persons.add_argument(
        '--detector',
        help='tiny (default of the model that ships), whole (default of others), file:boxes.json, torchvision, '
        'transformers[:NAME], mmdet:CONFIG,CHECKPOINT, ultralytics[:FILE]',
    )
    persons.add_argument(
        '--bbox',
        action='append',
        type=lambda text: text.split(','),
        metavar='X1,Y1,X2,Y2',
        help='a person; may be given several times',
    )
    persons.add_argument('--per-person', action='store_true', help='run dense models on each person, then paste')
    persons.add_argument('--threshold', type='amount', default=0.3, help='keypoints with a lower score are not drawn')


def add_video_options(parser: argparse.ArgumentParser) -> None:
    """Options of videos and cameras."""
    video = parser.add_argument_group('video')
    video.add_argument('--track', action='store_true', help='give persons ids that stay (ByteTrack)')
    video.add_argument('--smooth', action='store_true', help='smooth keypoints over time (One-Euro filter)')
    video.add_argument('--max-frames', type='count', help='stop after this many')
