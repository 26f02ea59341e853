# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Teach a filter by examples: a linear probe on features of images, for the stage `Labels`.

    python tools/curation/fit_probe.py art --positive examples/drawings --negative examples/photos --out art.npz

Then the stage dict(type="Labels", labels=("art",), model=dict(type="Probe", path="art.npz"), reject=dict(art=0.5)).
A fifth of the examples is held out first, and what the probe makes of them is printed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from rich.progress import track

from sapiens.commands.options import new_parser
from sapiens.curation.embedding import build_model
from sapiens.curation.labels import Probe, fit_probe
from sapiens.curation.stage import open_item
from sapiens.datasets.image_files import list_images
from sapiens.errors import UserError, run_cli
from sapiens.utils.json_files import read_file


def main() -> None:
    """Fit, try on what was held out, fit on all and write."""
    parser = new_parser(__doc__)
    parser.add_argument('label', help='what the positive examples are, e.g. art')
    parser.add_argument('--positive', required=True, nargs='+', help='folders of images that the label is right for')
    parser.add_argument('--negative', required=True, nargs='+', help='folders of others')
    parser.add_argument('--out', required=True, help='.npz to write')
    parser.add_argument('--features', default='PixelStatistics', help='PixelStatistics, SapiensEncoder, ...')
    parser.add_argument('--decay', type='amount', default=1.0, help='strength of the penalty on the weights')
    args = parser.parse_args()
    features = {'type': args.features}
    run = build_model(features)
    paths = [(path, side) for side, folders in enumerate((args.negative, args.positive)) for folder in folders
             for path in list_images(folder)]  # fmt: skip
    values, truth = [], []
    for path, side in track(paths, 'features'):
        try:
            image = open_item(path, read_file(path), 1280, 2e8).image
        except UserError as error:
            print(f'left out: {error}', file=sys.stderr)
            continue
        values.append(run([image])[0])
        truth.append(side)
    values, truth = np.array(values), np.array(truth)
    if min(np.bincount(truth, minlength=2)) < 10:
        raise UserError(f'{args.out}: at least 10 readable examples of each kind are needed')
    held = np.random.default_rng(0).permutation(len(truth)) % 5 == 0
    fit_probe(args.out, args.label, features, values[~held], truth[~held], args.decay)
    probe = Probe(args.out)
    found = probe.judge(values[held]) > 0.5
    right = (found & (truth[held] == 1)).sum()
    precision, recall = right / max(found.sum(), 1), right / max((truth[held] == 1).sum(), 1)
    print(f'held out: precision {precision:.3f}, recall {recall:.3f}, of {held.sum()} examples')
    fit_probe(args.out, args.label, features, values, truth, args.decay)
    print(f'written: {args.out}')


if __name__ == '__main__':
    run_cli(main)
