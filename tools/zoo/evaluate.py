# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""How well a model of all tasks does on real photographs with COCO annotations: 17 points and the person mask.

Usage: python tools/zoo/evaluate.py ANNOTATIONS.json --images FOLDER [--config CONFIG --weights FILE] [--flip]
       [--exclude OTHER.json] [--out report.json] [--pictures FOLDER]
       python tools/zoo/evaluate.py ANNOTATIONS.json --images FOLDER --detectors tiny

Persons are looked for in their annotated boxes. Reported are OKS-AP of all persons and of large ones; PCK@0.1 and @0.2
of the box's longer side (persons over 96 x 96 pixels with at least 10 points; mean over all points, also per keypoint);
and IoU, recall and precision of what the part map calls a person against the annotated segmentations (images whose
persons all have one; crowds do not count). With --exclude, images that another annotation file has are left out, so
that nothing is measured on what was trained on. With --detectors, their boxes are compared with the annotated ones
instead (IoU of at least 0.5; people of less than 32 x 32 pixels and crowds neither count nor harm).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from sapiens.errors import UserError, run_cli
from sapiens.utils.files import write_atomic
from sapiens.utils.json_files import read_json


def leave_out(path: str, other: str, folder: str) -> str:
    """An annotation file in the folder without the images that another one has, by id."""
    document = read_json(path, 'annotation file')
    known = {image['id'] for image in read_json(other, 'annotation file')['images']}
    document['images'] = [image for image in document['images'] if image['id'] not in known]
    document['annotations'] = [person for person in document['annotations'] if person['image_id'] not in known]
    if not document['images']:
        raise UserError(f'--exclude {other}: has all images of {path}')
    rest = Path(folder) / 'annotations.json'
    rest.write_text(json.dumps(document))
    return str(rest)


def read_annotations(path: str) -> dict:
    """Image id -> ``file_name`` and its ``persons`` (COCO annotations)."""
    document = read_json(path, 'annotation file')
    images = {image['id']: {**image, 'persons': []} for image in document['images']}
    for annotation in document['annotations']:
        images[annotation['image_id']]['persons'].append(annotation)
    return images


def person_outline(person: dict, size: tuple[int, int]) -> np.ndarray | None:
    """What an annotated person, or crowd, covers: ``(H, W)`` bool; None without an outline."""
    import cv2
    from faster_coco_eval.core import mask as rle

    outline = person.get('segmentation')
    if not outline:
        return None
    if isinstance(outline, list):
        filled = np.zeros(size, np.uint8)
        for polygon in outline:
            cv2.fillPoly(filled, [np.round(np.reshape(polygon, (-1, 2))).astype(np.int32)], 1)
        return filled.astype(bool)
    counts = outline if isinstance(outline['counts'], (str, bytes)) else rle.frPyObjects(outline, *size)
    return rle.decode(counts).astype(bool)


def person_masks(image: dict) -> tuple[np.ndarray, np.ndarray] | None:
    """Union of the annotated persons and of the crowds, ``(H, W)`` bool each; None where a person has no outline."""
    masks = np.zeros((2, image['height'], image['width']), bool)
    for person in image['persons']:
        seen = person_outline(person, masks.shape[1:])
        if seen is None:
            return None
        masks[int(bool(person.get('iscrowd')))] |= seen
    return masks[0], masks[1]


class Pose17:
    """Collects predicted and labelled points of persons."""

    def __init__(self, annotations: str) -> None:
        from sapiens.evaluation import KeypointAP

        self.metric = KeypointAP(annotations, vocabulary='coco17')
        self.detections, self.errors, self.rows = [], [], []

    def add(self, image_id: int, person: dict, points, scores) -> None:
        """Compare one person: points ``(17, 2)`` and scores ``(17,)``."""
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
        report = self.metric.evaluate_results(self.detections)
        figures = {name: report.metrics[name] for name in ('AP', 'AP_L') if name in report.metrics}
        errors = np.array(self.errors)
        seen = np.isfinite(errors)
        for limit in (0.1, 0.2):
            figures[f'PCK@{limit}'] = float((errors < limit)[seen].mean())
        figures['persons over 96 x 96'] = len(errors)
        for name, column, known in zip(self.metric.vocabulary.names, errors.T, seen.T, strict=True):
            figures[f'PCK@0.1 {name}'] = float((column[known] < 0.1).mean()) if known.any() else float('nan')
        return figures


def overlaps(boxes, others):
    """Intersection over union of ``(N, 4)`` and ``(M, 4)`` corner boxes, and the share of each first box inside."""
    from sapiens.structures.geometry import box_iou, share_inside

    return box_iou(boxes[:, None], others), share_inside(boxes[:, None], others)


def evaluate_detector(name: str, images: list[dict], folder: str) -> dict[str, float]:
    """Average precision of a detector and its recall at two precisions."""
    from sapiens.apis import build_detector
    from sapiens.apis.sources import open_frames

    detector = build_detector(name)
    scores, hits, total = [], [], 0
    frames = open_frames([str(Path(folder) / image['file_name']) for image in images])
    for image, frame in zip(images, frames, strict=True):
        found = detector(frame)
        persons = np.array([p['bbox'] for p in image['persons']], np.float64).reshape(-1, 4)
        ignored = np.array([bool(p.get('iscrowd')) for p in image['persons']], bool)
        ignored |= persons[:, 2:].prod(1) < 32 * 32
        persons[:, 2:] += persons[:, :2]
        total += int((~ignored).sum())
        iou, inside = overlaps(found.boxes.astype(np.float64), persons)
        taken = np.zeros(len(persons), bool)
        for row, score in enumerate(found.scores):
            free = np.where(taken | ignored, -1.0, iou[row])
            if len(persons) and free.max() >= 0.5:
                taken[free.argmax()] = True
                hits.append(True)
            elif len(persons) and (inside[row][ignored] > 0.5).any():
                continue
            else:
                hits.append(False)
            scores.append(float(score))
    order = np.argsort(-np.array(scores), kind='stable')
    right = np.cumsum(np.array(hits, bool)[order])
    precision, recall = right / np.arange(1, len(right) + 1), right / max(total, 1)
    best = np.maximum.accumulate(precision[::-1])[::-1] if len(precision) else precision
    figures = {f'{name}: AP50': float(np.sum(np.diff(recall, prepend=0) * best)), f'{name}: people': total}
    for level in (0.5, 0.8):
        reached = recall[precision >= level]
        figures[f'{name}: recall at precision {level}'] = float(reached.max()) if len(reached) else 0.0
    return figures


def annotated_boxes(by_name: dict):
    """A detector that knows the annotated persons, crowds left out, of images by their path."""
    from sapiens.apis.detectors import Detections

    def detect(frame) -> Detections:
        persons = [p for p in by_name[str(frame.path)]['persons'] if not p.get('iscrowd')]
        boxes = np.array([p['bbox'] for p in persons], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return Detections(boxes, np.ones(len(boxes), np.float32))

    return detect


def evaluate(args: argparse.Namespace) -> dict[str, float]:
    """Run the model over all images with persons."""
    from sapiens.apis import Inferencer

    images = read_annotations(args.annotations)
    if args.detectors:
        lists = [evaluate_detector(name, list(images.values()), args.images) for name in args.detectors]
        return {key: value for figures in lists for key, value in figures.items()}
    images = [image for image in images.values() if any(not p.get('iscrowd') for p in image['persons'])]
    files = [str(Path(args.images) / image['file_name']) for image in images]
    by_name = dict(zip(files, images, strict=True))
    model = Inferencer(args.config, args.weights, flip_test=args.flip or None, batch_size=8)

    pose, masks_of = Pose17(args.annotations), []
    for result in model(files, detect=annotated_boxes(by_name)):
        image = by_name[str(result.path)]
        persons = [p for p in image['persons'] if not p.get('iscrowd')]
        for person, found in zip(persons, result.keypoints.to('coco17'), strict=True):
            if person.get('keypoints'):
                pose.add(image['id'], person, found.xy.astype(np.float64), found.scores.astype(np.float64))
        masks = person_masks(image)
        if masks is not None and result.parts is not None:
            union, counted = masks[0] & ~masks[1], ~masks[1]
            found = result.parts.mask & counted
            common = (found & union).sum()
            masks_of.append([common / max(area.sum(), 1) for area in (found | union, union, found)])
        if args.pictures:
            result.save(args.pictures)
    figures = pose.summary()
    if masks_of:
        names = ('mask IoU', 'mask recall', 'mask precision')
        figures.update({name: float(value) for name, value in zip(names, np.mean(masks_of, 0), strict=True)})
        figures['images with outlines'] = len(masks_of)
    return figures


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('annotations', help='COCO-style person keypoints')
    parser.add_argument('--images', required=True, help='folder of the images')
    parser.add_argument('--config', default='configs/multitask/sapiens_tiny_4tasks.py', help='config or name')
    parser.add_argument('--weights', help='checkpoint; without one, what ships by the name of the model')
    parser.add_argument('--exclude', metavar='JSON', help='annotation file whose images are left out')
    parser.add_argument('--flip', action='store_true', help='average with the mirrored image')
    parser.add_argument('--detectors', nargs='+', help='compare the boxes of these instead')
    parser.add_argument('--out', help='also write the figures as JSON')
    parser.add_argument('--pictures', help='folder for the drawn results')
    args = parser.parse_args()
    if not Path(args.images).is_dir():
        raise UserError(f'--images {args.images}: no such folder')
    with tempfile.TemporaryDirectory() as folder:
        if args.exclude:
            args.annotations = leave_out(args.annotations, args.exclude, folder)
        figures = evaluate(args)
    for name, value in figures.items():
        print(f'{name:28s}', f'{value:.3f}' if isinstance(value, float) else value)
    if args.out:
        write_atomic(args.out, json.dumps(figures, indent=1).encode() + b'\n')


if __name__ == '__main__':
    run_cli(main)
