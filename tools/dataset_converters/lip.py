# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""LIP (single persons, 20 classes) to a manifest.

    python tools/dataset_converters/lip.py data/lip data/lip_val --split val

The root holds the unpacked archives: ``val_images`` and ``val_segmentations`` (and the same of ``train``), also
inside ``TrainVal_images`` and ``TrainVal_parsing_annotations``.
"""

from __future__ import annotations

from conversion import convert_parsing, converter_parser, named_files, named_images, unpacked_folder

from sapiens.errors import run_cli


def main() -> None:
    """Convert."""
    parser = converter_parser(__doc__)
    parser.add_argument('--split', choices=('train', 'val'), default='val')
    args = parser.parse_args()
    images = unpacked_folder(args.root, f'{args.split}_images', 'TrainVal_images')
    labels = unpacked_folder(args.root, f'{args.split}_segmentations', 'TrainVal_parsing_annotations')
    convert_parsing(args, f'LIP {args.split}', named_images(images), named_files(labels))


if __name__ == '__main__':
    run_cli(main)
