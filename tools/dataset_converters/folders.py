# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Folders of images and labels with equal file names to a manifest: NYU-style depth, colour-coded normals, masks.

    python tools/dataset_converters/folders.py data/nyu_people data/nyu --images rgb --depth depth --depth-unit 0.001
    python tools/dataset_converters/folders.py renders data/renders --images rgb --normals normal --normal-axes opencv

Depth: 16-bit PNG of ``metres / depth-unit`` (0 = unknown; NYU, ScanNet and RealSense files have 0.001), or arrays of
metres. Normals: 8- or 16-bit RGB of ``(n + 1) / 2`` in the axes declared; they are turned into x right, y up, z
towards the viewer. When the surfaces seen contradict the declaration, nothing is converted.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from conversion import (
    Conversion,
    add_normal_options,
    check_axes,
    converter_parser,
    named_files,
    named_images,
    read_depth,
    read_ids,
    read_mask,
    read_normals,
)

from sapiens.errors import UserError, run_cli
from sapiens.vocabularies import load_vocabulary


def main() -> None:
    """Convert."""
    parser = converter_parser(__doc__)
    parser.add_argument('--images', required=True, help='folder of images, relative to the root')
    for kind in ('depth', 'normals', 'mask', 'parts'):
        parser.add_argument(f'--{kind}', help=f'folder of {kind}, relative to the root')
    parser.add_argument('--depth-unit', type='amount', default=0.001, help='metres per unit of the 16-bit depth files')
    parser.add_argument('--vocabulary', default='parts28', help='of the parts')
    parser.add_argument('--suffix', default='', help='what label names have after the name of the image, e.g. _normal')
    add_normal_options(parser)
    args = parser.parse_args()
    root = Path(args.root)
    kinds = [kind for kind in ('depth', 'normals', 'mask', 'parts') if getattr(args, kind)]
    if not kinds:
        raise UserError('give at least one folder of labels: --depth, --normals, --mask or --parts')
    images = named_images(root / args.images)
    labels = {kind: named_files(root / getattr(args, kind)) for kind in kinds}
    names = [n for n in sorted(images) if all(n + args.suffix in labels[k] for k in kinds)][: args.limit]
    if not names:
        raise UserError(
            f'{root}: no image has all of {", ".join(kinds)}; names must be equal up to the ending (--suffix)'
        )
    files = {name: {kind: labels[kind][name + args.suffix] for kind in kinds} for name in names}
    if 'normals' in kinds and not args.trust_axes:
        check_axes(((f['normals'], f.get('mask')) for f in files.values()), args.normal_axes, not args.bgr)
    parts = load_vocabulary(args.vocabulary).name if 'parts' in kinds else None
    read = {
        'depth': partial(read_depth, unit=args.depth_unit),
        'normals': partial(read_normals, axes=args.normal_axes, rgb=not args.bgr),
        'mask': read_mask,
        'parts': read_ids,
    }
    with Conversion(args, parts=parts, depth_scale=args.depth_unit, source=str(root)) as conversion:
        for name in names:
            found = {kind: read[kind](path) for kind, path in files[name].items()}
            conversion.add(name, images[name], normal_bits=16, **found)
    left = len(images) - len(names)
    if left and args.limit is None:
        print(f'{left} images lack one of {", ".join(kinds)} and were left out')


if __name__ == '__main__':
    run_cli(main)
