# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Convert a checkpoint between the published layout, ours, and those of mmpose and mmseg, bit for bit.

Usage: python tools/convert_checkpoint.py IN OUT [--config CONFIG] [--to reference|safetensors|mmpose|mmseg]
       [--task TASK] [--vocabulary NAME_OR_FILE] [--patch-padding 0|2] [--allow-partial]
Without --to, OUT has our names in the format of its suffix (.safetensors, .pth). With --config the file must cover the
config's model, and the config's vocabularies and patch padding are noted in OUT.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sapiens.errors import UserError, run_cli


def main() -> None:
    """Read the options and convert."""
    from sapiens.engine.convert import TARGETS, convert_checkpoint

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input', metavar='IN', help='.pth, .pt or .safetensors; published or ours')
    parser.add_argument('output', metavar='OUT', help='.safetensors, .pth or .pt')
    parser.add_argument('--config', help='config that the checkpoint must fit')
    parser.add_argument('--to', choices=TARGETS, default='sapiens', help='layout of OUT; default: ours')
    parser.add_argument('--task', choices=('pose', 'seg', 'depth', 'normal'), help='what a dense head is, or which one')
    parser.add_argument('--vocabulary', help='of the head, where its number of outputs does not tell')
    parser.add_argument('--patch-padding', type=int, choices=(0, 2), help='of the encoder, where the layout is silent')
    parser.add_argument('--allow-partial', action='store_true', help='parts of the config may be missing in IN')
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    args = parser.parse_args()
    if Path(args.output).exists() and not args.force:
        raise UserError(f'{args.output}: exists already; choose another name or give --force')
    print(
        convert_checkpoint(
            args.input,
            args.output,
            to=args.to,
            config=args.config,
            task=args.task,
            vocabulary=args.vocabulary,
            patch_padding=args.patch_padding,
            allow_partial=args.allow_partial,
        )
    )


if __name__ == '__main__':
    run_cli(main)
