# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Photographs with COCO annotations as training data: 17 of the 308 points, and who is a person.

Usage: python tools/zoo/outlines.py ANNOTATIONS.json --images FOLDER --out FOLDER

Images whose persons all have an outline become a manifest of keypoints, masks (crowds are people) and instances; the
others are left to `CocoKeypointDataset`. The photographs' licences must allow training, and their authors want credit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sapiens.errors import UserError, run_cli


def main() -> None:
    """Write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('annotations', help='COCO-style person keypoints with segmentations')
    parser.add_argument('--images', required=True, help='folder of the images')
    parser.add_argument('--out', required=True, help='folder of the manifest')
    args = parser.parse_args()
    import numpy as np
    from evaluate import person_outline, read_annotations

    from sapiens.apis.sources import open_frames
    from sapiens.datasets import ManifestWriter
    from sapiens.vocabularies import convert_keypoints, load_keypoints

    images = [image for image in read_annotations(args.annotations).values() if image['persons']]
    images = [image for image in images if all(person.get('segmentation') for person in image['persons'])]
    if not images:
        raise UserError(f'{args.annotations}: no image has outlines of all its persons')
    coco, target = load_keypoints('coco17'), load_keypoints('keypoints308')
    frames = open_frames([str(Path(args.images) / image['file_name']) for image in images])
    with ManifestWriter(args.out, keypoints='keypoints308') as writer:
        for image, frame in zip(images, frames, strict=True):
            mask = np.zeros((image['height'], image['width']), bool)
            persons, shapes = [], []
            for person in image['persons']:
                shape = person_outline(person, mask.shape)
                mask |= shape
                if person.get('iscrowd'):
                    continue
                points = np.reshape(person.get('keypoints') or np.zeros(51), (17, 3))
                moved, visible = convert_keypoints(points[:, :2], points[:, 2], coco, target, inverse=True)
                points = np.concatenate([np.nan_to_num(moved), visible[:, None]], 1)
                persons.append({'bbox': person['bbox'], 'keypoints': points.round(2).tolist()})
                shapes.append(shape)
            # The small ones last: they are mostly in front.
            instances = np.zeros(mask.shape, np.uint8)
            for i in sorted(range(len(shapes)), key=lambda i: -shapes[i].sum()):
                instances[shapes[i]] = i + 1
            name = Path(image['file_name']).stem.replace('.', '_')
            writer.write(name, frame.image, mask=mask, instances=instances, persons=persons)
    print(f'{args.out}: {len(images)} images')


if __name__ == '__main__':
    run_cli(main)
