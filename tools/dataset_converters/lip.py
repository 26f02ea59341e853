# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""LIP (single persons, 20 classes) to a manifest.

    python tools/dataset_converters/lip.py data/lip data/lip_val --split val

The root holds the unpacked archives: ``val_images`` and ``val_segmentations`` (and the same of ``train``), also
inside ``TrainVal_images`` and ``TrainVal_parsing_annotations``.
"""

from __future__ import annotations

from conversion import Conversion, converter_parser, first_folder, named_files, named_images

from sapiens.datasets.label_files import decode_ids
from sapiens.datasets.storage import read_bytes
from sapiens.errors import UserError, run_cli


def main() -> None:
    """Convert."""
    parser = converter_parser(__doc__)
    parser.add_argument('--split', choices=('train', 'val'), default='val')
    args = parser.parse_args()
    images = named_images(
        first_folder(
            args.root,
            f'{args.split}_images',
            f'TrainVal_images/{args.split}_images',
            f'TrainVal_images/TrainVal_images/{args.split}_images',
        )
    )
    annotations = 'TrainVal_parsing_annotations'
    labels = named_files(
        first_folder(
            args.root,
            f'{args.split}_segmentations',
            f'{annotations}/{args.split}_segmentations',
            f'{annotations}/{annotations}/{args.split}_segmentations',
        )
    )
    with Conversion(args, parts='parts20', source=f'LIP {args.split}') as conversion:
        for name in sorted(labels)[: args.limit]:
            if name not in images:
                raise UserError(f'{labels[name]}: its image is missing; unpack the image archive too')
            parts = decode_ids(read_bytes(str(labels[name])), str(labels[name]))
            conversion.add(name, images[name], parts=parts)


if __name__ == '__main__':
    run_cli(main)
