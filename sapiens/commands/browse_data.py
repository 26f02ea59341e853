# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Write augmented samples with their labels drawn on, as the model will see them.

Example: sapiens browse-data configs/pose/sapiens_1b_133kpt.py --num 16 --out-dir outputs/browse
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from . import options

if TYPE_CHECKING:
    from ..structures import HumanDataSample


def main() -> None:
    """Take samples through the pipeline and draw them."""
    parser = options.new_parser(__doc__)
    options.add_dataset_options(parser)
    parser.add_argument('--num', type=int, default=16, help='pictures to write; default: 16')
    parser.add_argument('--out-dir', default='outputs/browse', help='folder for them; default: outputs/browse')
    parser.add_argument('--seed', type=int, default=0, help='of the augmentation')
    args = parser.parse_args()
    from mmengine.runner import set_random_seed

    from ..datasets.label_files import encode_image
    from ..utils.files import write_atomic

    dataset = options.build_dataset(args)
    set_random_seed(args.seed)
    # Evenly over the data set; a small one gives several draws of each sample.
    chosen = [i * len(dataset) // args.num if args.num < len(dataset) else i % len(dataset) for i in range(args.num)]
    for number, index in enumerate(track(chosen, description='samples')):
        packed = dataset[index]
        image = packed['inputs'].numpy().transpose(1, 2, 0)
        picture = draw_sample(np.ascontiguousarray(image), packed['data_samples'], dataset.metainfo)
        name = re.sub(r'[^\w.-]+', '_', str(packed['data_samples'].get('img_id', index)))
        write_atomic(Path(args.out_dir) / f'{number:04d}_{name}.jpg', encode_image(picture))
    print(f'{len(chosen)} pictures in {args.out_dir}')


def draw_sample(image: np.ndarray, sample: HumanDataSample, meta: dict) -> np.ndarray:
    """The input and each of its labels side by side.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        sample: With any ``gt_*`` fields; those of another size than the image are drawn by themselves.
        meta: ``keypoint_vocabulary`` and ``part_vocabulary`` of the data set.

    Returns:
        ``(H, W', 3)`` uint8 RGB.
    """
    from ..visualization import draw_depth, draw_keypoints, draw_normals, draw_parts, side_by_side

    panels = {'input': image}
    labels = {k: v.numpy() for k, v in sample.items() if k.startswith('gt_')}
    if 'gt_keypoints' in labels:
        visible = labels['gt_keypoints_visible']
        panels['keypoints'] = draw_keypoints(image, labels['gt_keypoints'], visible, meta['keypoint_vocabulary'])
    if 'gt_part_map' in labels:
        parts = labels['gt_part_map']
        canvas = image if parts.shape == image.shape[:2] else np.zeros((*parts.shape, 3), np.uint8)
        panels['parts'] = draw_parts(canvas, parts, meta['part_vocabulary'])
    mask = labels['gt_mask'][0] if 'gt_mask' in labels else None
    if 'gt_depth' in labels:
        depth = labels['gt_depth'][0]
        panels['depth'] = draw_depth(depth, (depth > 0) if mask is None else (depth > 0) & mask)
    if 'gt_normals' in labels:
        panels['normals'] = draw_normals(labels['gt_normals'].transpose(1, 2, 0), mask)
    if mask is not None and len(panels) == 1:
        panels['mask'] = np.repeat(mask[..., None], 3, -1).astype(np.uint8) * 255
    return side_by_side(list(panels.values()), list(panels))
