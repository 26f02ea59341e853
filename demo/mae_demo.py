# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Draw original | masked | reconstruction of a masked autoencoder, one row per mask ratio.

Usage: python demo/mae_demo.py IMAGE [--config CONFIG] --checkpoint FILE [--mask-ratio 0.75 0.85 0.95] --out PNG
Without --config the size is that of the checkpoint. The file must hold the decoder; encoder-only files cannot fill in.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sapiens.errors import UserError, run_cli


def main() -> None:
    """Read the options and draw."""
    from sapiens.apis.reconstruct import draw_reconstructions

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('image', help='any image; it is resized to the model')
    parser.add_argument('--config', help='config of the pretraining')
    parser.add_argument('--checkpoint', required=True, help='weights with the decoder')
    parser.add_argument('--mask-ratio', type=float, nargs='+', default=[0.75, 0.85, 0.95], help='parts to remove')
    parser.add_argument('--out', default='outputs/mae.png', help='picture to write; default: outputs/mae.png')
    parser.add_argument('--seed', type=int, default=0, help='of the masks')
    parser.add_argument('--device', default='auto', help='cuda, mps, cpu; default: the first of these there is')
    args = parser.parse_args()
    wrong = [ratio for ratio in args.mask_ratio if not 0 <= ratio < 1]
    if wrong:
        raise UserError(f'--mask-ratio lies in [0, 1), not {wrong[0]}')
    draw_reconstructions(args.image, args.out, args.checkpoint, args.config, args.mask_ratio, args.seed, args.device)
    print(f'original | masked | reconstruction -> {args.out}')


if __name__ == '__main__':
    run_cli(main)
