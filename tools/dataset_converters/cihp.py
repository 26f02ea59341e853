# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""CIHP (several persons, 20 classes) to a manifest with persons.

    python tools/dataset_converters/cihp.py data/cihp data/cihp_val --split val

The root holds ``Validation`` and ``Training`` (also inside ``instance-level_human_parsing``), each with ``Images``,
``Category_ids`` and, for the persons, ``Human_ids``. Class 10 is torso skin in CIHP and jumpsuits in LIP; both have
id 10 in ``parts20``, so a model trained on one should not be scored on the other in that class
(``PartIoU(ignore=['Jumpsuits'])``).
"""

from __future__ import annotations

import cv2
import numpy as np
from conversion import convert_parsing, converter_parser, named_files, named_images, read_ids, unpacked_folder

from sapiens.errors import run_cli


def main() -> None:
    """Convert."""
    parser = converter_parser(__doc__)
    parser.add_argument('--split', choices=('train', 'val'), default='val')
    args = parser.parse_args()
    name = {'train': 'Training', 'val': 'Validation'}[args.split]
    folder = unpacked_folder(args.root, name, 'instance-level_human_parsing')
    images, labels = named_images(folder / 'Images'), named_files(folder / 'Category_ids')
    humans = named_files(folder / 'Human_ids') if (folder / 'Human_ids').is_dir() else {}

    def extra(name: str) -> dict:
        return people(read_ids(humans[name])) if name in humans else {}

    convert_parsing(args, f'CIHP {args.split}', images, labels, extra)


def people(humans: np.ndarray) -> dict:
    """Instances numbered 1, 2, ... without gaps, and their boxes."""
    ids = [i for i in np.unique(humans) if i != 0]
    table = np.zeros(256, np.uint8)
    table[ids] = np.arange(1, len(ids) + 1)
    persons = [{'bbox': list(cv2.boundingRect((humans == i).astype(np.uint8)))} for i in ids]
    return {'instances': table[humans], 'persons': persons}


if __name__ == '__main__':
    run_cli(main)
