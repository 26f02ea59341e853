# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""How well a model of all tasks does on real photographs with COCO annotations: 17 points and the person mask.

Usage: python tools/zoo/evaluate.py ANNOTATIONS.json --images FOLDER [--config CONFIG --weights FILE] [--flip]
       [--out report.json] [--pictures FOLDER]

Persons are looked for in their annotated boxes. Reported are OKS-AP of all persons and of large ones; PCK@0.1 and @0.2
of the box's longer side (persons over 96 x 96 pixels with at least 10 points; mean over all points, also per keypoint);
and the IoU of what the part map calls a person with the annotated segmentations (images whose persons all have one;
crowds do not count).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sapiens.errors import UserError, run_cli


def read_annotations(path: str) -> dict:
    """Image id -> ``file_name`` and its ``persons`` (COCO annotations)."""
    from sapiens.utils.json_files import read_json

    document = read_json(path, 'annotation file')
    images = {image['id']: {**image, 'persons': []} for image in document['images']}
    for annotation in document['annotations']:
        images[annotation['image_id']]['persons'].append(annotation)
    return images


def person_masks(image: dict):
    """Union of the annotated persons and of the crowds, ``(H, W)`` bool each; None where a person has no outline."""
    import cv2
    import numpy as np
    from faster_coco_eval.core import mask as rle

    size = image['height'], image['width']
    union, crowds = np.zeros(size, np.uint8), np.zeros(size, bool)
    for person in image['persons']:
        outline = person.get('segmentation')
        if not outline:
            return None
        if isinstance(outline, list):
            for polygon in outline:
                cv2.fillPoly(union, [np.round(np.reshape(polygon, (-1, 2))).astype(np.int32)], 1)
            continue
        counts = outline if isinstance(outline['counts'], (str, bytes)) else rle.frPyObjects(outline, *size)
        if person.get('iscrowd'):
            crowds |= rle.decode(counts).astype(bool)
        else:
            union |= rle.decode(counts)
    return union.astype(bool), crowds


class Pose17:
    """Collects predicted and labelled points of persons."""

    def __init__(self, annotations: str) -> None:
        from sapiens.evaluation import KeypointAP

        self.metric = KeypointAP(annotations, vocabulary='coco17')
        self.detections, self.errors, self.rows = [], [], []

    def add(self, image_id: int, person: dict, points, scores) -> None:
        """Compare one person: points ``(17, 2)`` and scores ``(17,)``."""
        import numpy as np

        from sapiens.structures.coco_results import CocoResult

        box = np.array(person['bbox'], np.float64)
        self.detections.append(CocoResult(image_id, points, scores, float(scores.mean()), bbox=box, person_box=box))
        labels = np.reshape(person['keypoints'], (17, 3))
        seen = labels[:, 2] > 0
        if box[2] * box[3] > 96 * 96 and seen.sum() >= 10:
            error = np.linalg.norm(points - labels[:, :2], axis=1) / box[2:].max()
            self.errors.append(np.where(seen, error, np.nan))

    def summary(self) -> dict[str, float]:
        """All figures."""
        import numpy as np

        from sapiens.vocabularies import load_vocabulary

        report = self.metric.evaluate_results(self.detections)
        figures = {name: report.metrics[name] for name in ('AP', 'AP_L') if name in report.metrics}
        errors = np.array(self.errors)
        seen = np.isfinite(errors)
        for limit in (0.1, 0.2):
            figures[f'PCK@{limit}'] = float((errors < limit)[seen].mean())
        figures['persons over 96 x 96'] = len(errors)
        for name, column, known in zip(load_vocabulary('coco17').names, errors.T, seen.T, strict=True):
            figures[f'PCK@0.1 {name}'] = float((column[known] < 0.1).mean()) if known.any() else float('nan')
        return figures


def evaluate(args: argparse.Namespace) -> dict[str, float]:
    """Run the model over all images with persons."""
    import numpy as np

    from sapiens.apis import Inferencer
    from sapiens.apis.detectors import Detections

    images = read_annotations(args.annotations)
    images = [image for image in images.values() if any(not p.get('iscrowd') for p in image['persons'])]
    files = [str(Path(args.images) / image['file_name']) for image in images]
    by_name = dict(zip(files, images, strict=True))
    model = Inferencer(args.config, args.weights, flip_test=args.flip or None, batch_size=8)

    def annotated(frame) -> Detections:
        persons = [p for p in by_name[str(frame.path)]['persons'] if not p.get('iscrowd')]
        boxes = np.array([p['bbox'] for p in persons], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        return Detections(boxes, np.ones(len(boxes), np.float32))

    pose, ious = Pose17(args.annotations), []
    for result in model(files, detect=annotated):
        image = by_name[str(result.path)]
        persons = [p for p in image['persons'] if not p.get('iscrowd')]
        for person, found in zip(persons, result.keypoints.to('coco17'), strict=True):
            if person.get('keypoints'):
                pose.add(image['id'], person, found.xy.astype(np.float64), found.scores.astype(np.float64))
        masks = person_masks(image)
        if masks is not None and result.parts is not None:
            union, counted = masks[0] & ~masks[1], ~masks[1]
            found = result.parts.mask & counted
            ious.append(float((found & union).sum() / max((found | union).sum(), 1)))
        if args.pictures:
            result.save(args.pictures)
    figures = pose.summary()
    if ious:
        figures.update({'mask IoU': float(np.mean(ious)), 'images with outlines': len(ious)})
    return figures


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('annotations', help='COCO-style person keypoints')
    parser.add_argument('--images', required=True, help='folder of the images')
    parser.add_argument('--config', default='configs/multitask/sapiens_tiny_4tasks.py', help='config or name')
    parser.add_argument('--weights', help='checkpoint; without one, what ships by the name of the model')
    parser.add_argument('--flip', action='store_true', help='average with the mirrored image')
    parser.add_argument('--out', help='also write the figures as JSON')
    parser.add_argument('--pictures', help='folder for the drawn results')
    args = parser.parse_args()
    if not Path(args.images).is_dir():
        raise UserError(f'--images {args.images}: no such folder')
    figures = evaluate(args)
    for name, value in figures.items():
        print(f'{name:28s}', f'{value:.3f}' if isinstance(value, float) else value)
    if args.out:
        from sapiens.utils.files import write_atomic

        write_atomic(args.out, json.dumps(figures, indent=1).encode() + b'\n')


if __name__ == '__main__':
    run_cli(main)
