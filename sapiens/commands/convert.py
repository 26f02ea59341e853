# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Convert a checkpoint between the published layout, ours, and those of mmpose and mmseg, bit for bit.

Example: sapiens convert sapiens_1b_goliath_best_goliath_AP_639.pth sapiens_1b_308kpt.safetensors
         sapiens convert work_dirs/mine/iter_1000.pth for_mmpose.pth --to mmpose
Without --to, OUT has our names in the format of its suffix (.safetensors, .pth). With --config the file must cover the
config's model, and the config's vocabularies and patch padding are noted in OUT.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from . import options

# As in `sapiens.engine.convert`, which is too heavy for a --help.
LAYOUTS = ('sapiens', 'reference', 'safetensors', 'mmpose', 'mmseg')


def main() -> None:
    """Read the options and convert."""
    parser = options.new_parser(__doc__)
    parser.add_argument('input', metavar='IN', help='.pth, .pt or .safetensors; published or ours')
    parser.add_argument('output', metavar='OUT', help='.safetensors, .pth or .pt')
    parser.add_argument('--config', help='config that the checkpoint must fit')
    parser.add_argument('--to', choices=LAYOUTS, default='sapiens', help='layout of OUT; default: ours')
    parser.add_argument('--task', choices=('pose', 'seg', 'depth', 'normal'), help='what a dense head is, or which one')
    parser.add_argument('--vocabulary', help='of the head, where its number of outputs does not tell')
    parser.add_argument('--patch-padding', type=int, choices=(0, 2), help='of the encoder, where the layout is silent')
    parser.add_argument('--allow-partial', action='store_true', help='parts of the config may be missing in IN')
    parser.add_argument(
        '--half',
        action='store_true',
        help='write float16 without facts of the run: a file to publish, no longer bit for bit',
    )
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    args = parser.parse_args()
    if Path(args.output).exists() and not args.force:
        raise UserError(f'{args.output}: exists already; choose another name or give --force')
    from ..engine.convert import convert_checkpoint

    how = {name: value for name, value in vars(args).items() if name not in ('input', 'output', 'force')}
    print(convert_checkpoint(args.input, args.output, **how))
