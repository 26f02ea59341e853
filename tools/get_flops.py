# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Print parameters and FLOPs of a config, in the paper's convention and as they truly are.

Usage: python tools/get_flops.py configs/pose/sapiens_1b_308kpt.py [--shape H W] [--cfg-options key=value ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from sapiens.commands.options import add_config_options, new_parser
from sapiens.engine.config import load_config
from sapiens.errors import UserError, run_cli
from sapiens.models.complexity import count_flops, count_parameters


def main() -> None:
    """Build the model on the meta device (no memory, no weights) and count."""
    parser = new_parser(__doc__)
    add_config_options(parser)
    parser.add_argument(
        '--shape', type='count', nargs=2, metavar=('H', 'W'), help="input size; the config's by default"
    )
    args = parser.parse_args()
    import torch

    from sapiens.registry import MODELS

    config = load_config(args.config, args.cfg_options)
    if config.get('model') is None:
        raise UserError(f'{args.config}: has no model')
    with torch.device('meta'):
        model = MODELS.build(config.model)
    shape = tuple(args.shape or model.backbone.img_size)
    table = Table(title=f'{args.config} at {shape[0]} x {shape[1]} (H x W), one image')
    for column in ('module', 'parameters', "FLOPs, paper's count", 'FLOPs, true'):
        table.add_column(column, justify='left' if column == 'module' else 'right')
    for name, flops in count_flops(model, shape).items():
        module = model if name == 'whole' else model.get_submodule('neck' if name == 'decoder' else name)
        millions = f'{count_parameters(module) / 1e6:,.1f} M'
        table.add_row(name, millions, *_format(flops), style='bold' if name == 'whole' else None)
    console = Console()
    console.print(table)
    console.print(
        "The paper's count (Table 2) is one per multiply-add of linear and convolution layers plus 5 per LayerNorm\n"
        'element, without the attention products, of the encoder with a cls token at 1024 x 1024. The true count is\n'
        'two per multiply-add, attention included.',
        style='dim',
    )


def _format(pair: tuple[int, int]) -> tuple[str, str]:
    return tuple(f'{n / 1e12:,.3f} T' if n >= 1e9 else f'{n / 1e9:,.4f} G' for n in pair)


if __name__ == '__main__':
    run_cli(main)
