# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Write augmented samples with their labels drawn on, as the model will see them.

Example: sapiens browse-data configs/pose/sapiens_1b_133kpt.py --num 16 --out-dir outputs/browse
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from rich.progress import track

from ..errors import UserError
from . import options


def main() -> None:
    """Take samples through the pipeline and draw them."""
    parser = options.new_parser(__doc__)
    options.add_dataset_options(parser)
    parser.add_argument('--num', type='count', default=16, help='pictures to write; default: 16')
    parser.add_argument('--out-dir', default='outputs/browse', help='folder for them; default: outputs/browse')
    parser.add_argument('--seed', type='number', default=0, help='of the augmentation')
    args = parser.parse_args()
    from mmengine.runner import set_random_seed

    from ..datasets.label_files import encode_image
    from ..utils.file_names import safe_stem
    from ..utils.files import write_atomic
    from ..visualization import HumanVisualizer

    dataset = options.build_dataset(args)
    words = {key: dataset.metainfo.get(key) for key in ('keypoint_vocabulary', 'part_vocabulary')}
    painter = HumanVisualizer('browse', **words)
    set_random_seed(args.seed)
    # Evenly over the data set; a small one gives several draws of each sample.
    chosen = [i * len(dataset) // args.num if args.num < len(dataset) else i % len(dataset) for i in range(args.num)]
    bad: dict[int, str] = {}
    for number, index in enumerate(track(chosen, description='samples')):
        try:
            packed = dataset[index]
        except UserError as error:
            bad[index] = str(error)
            continue
        image = packed['inputs'].numpy().transpose(1, 2, 0)
        picture = painter.draw_row(np.ascontiguousarray(image), packed['data_samples'], ('gt',))
        name = safe_stem(str(packed['data_samples'].get('img_id', index)))
        write_atomic(Path(args.out_dir) / f'{number:04d}_{name}.jpg', encode_image(picture))
    if set(chosen) == set(bad):
        raise UserError(next(iter(bad.values())))
    for message in bad.values():
        print(f'left out: {message}', file=sys.stderr)
    print(f'{sum(index not in bad for index in chosen)} pictures in {args.out_dir}')
