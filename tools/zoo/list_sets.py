# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""List the finished sets of renders as one training set and one validation set.

Usage: python tools/zoo/list_sets.py data/zoo

ZOO/train/manifest.json and ZOO/val/manifest.json name the manifests of all folders ZOO/renders/*/{train,val}, in the
order of their names after those that were listed before, so that decoded frames stay where they are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sapiens.datasets.manifest import Manifest
from sapiens.errors import UserError, run_cli
from sapiens.utils.files import write_atomic


def list_sets(zoo: Path, split: str) -> list[str]:
    """Write one split's manifest; the paths of the manifests that it names."""
    target = zoo / split / 'manifest.json'
    # A set without its list of samples is still being rendered.
    found = [str(path.parent / 'manifest.json') for path in sorted(zoo.glob(f'renders/*/{split}/manifest.jsonl'))]
    names = [os.path.relpath(path, target.parent) for path in found if Path(path).with_suffix('.jsonl').stat().st_size]
    listed = Manifest(target).header['files'] if target.exists() else []
    names = [name for name in listed if name in names] + [name for name in names if name not in listed]
    if names:
        header = {k: v for k, v in Manifest(found[0]).header.items() if k != 'synthesis'}
        write_atomic(target, json.dumps({**header, 'files': names}, indent=1).encode() + b'\n')
    return names


def main() -> None:
    """List both splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('zoo', type=Path, help='folder of the zoo, with renders/')
    args = parser.parse_args()
    found = {split: list_sets(args.zoo, split) for split in ('train', 'val')}
    if not found['train']:
        raise UserError(f'{args.zoo}/renders: holds no finished set; run tools/zoo/render.sh')
    for split, names in found.items():
        print(f'{args.zoo / split}: {", ".join(names) or "nothing"}')


if __name__ == '__main__':
    run_cli(main)
