# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Persons for the tests: COCO's annotations, made whole-body ones, and perturbed detections of them."""

import json
from pathlib import Path

import numpy as np

from sapiens.vocabularies import load_vocabulary

COCO = Path(__file__).parents[1] / 'data' / 'coco_val_keypoints.json'
FIELDS = {'keypoints': 17, 'foot_kpts': 6, 'face_kpts': 68, 'lefthand_kpts': 21, 'righthand_kpts': 21}


def read_coco():
    return json.loads(COCO.read_text())


def whole_body(document, seed=0):
    """COCO's persons with made feet, faces and hands, in the published layout of COCO-WholeBody."""
    random = np.random.default_rng(seed)
    for annotation in document['annotations']:
        x, y, width, height = annotation['bbox']
        for name, count in list(FIELDS.items())[1:]:
            part = np.zeros((count, 3))
            if annotation['num_keypoints'] and random.random() < 0.7:
                centre = [x + random.random() * width, y + random.random() * height]
                part[:, :2] = centre + random.normal(0, 0.05 * np.sqrt(annotation['area']), (count, 2))
                part[:, 2] = random.integers(0, 3, count)
                part[part[:, 2] == 0] = 0
            annotation[name] = part.reshape(-1).tolist()
    return document


def perturbed(document, noise, seed=1, copies=2, fields=('keypoints',)):
    """Detections: noisy copies of the labelled persons (offset in units of the square root of the area)."""
    random = np.random.default_rng(seed)
    results = []
    for annotation in document['annotations']:
        for _ in range(copies):
            result = {'image_id': annotation['image_id'], 'category_id': 1, 'score': float(random.random())}
            for name in fields:
                points = np.array(annotation[name], float).reshape(-1, 3)
                points[:, :2] += random.normal(0, noise * np.sqrt(annotation['area']), (len(points), 2))
                points[:, 2] = np.where(random.random(len(points)) < 0.8, random.uniform(0.1, 1, len(points)), 0)
                result[name] = points.reshape(-1).tolist()
            results.append(result)
    return results


def samples_of(document, noise=0.03, seed=2, vocabulary='coco17'):
    """What the evaluator hands to a metric: one dict per labelled person, predictions in original pixels."""
    random = np.random.default_rng(seed)
    count = load_vocabulary(vocabulary).num_keypoints
    samples = []
    for annotation in document['annotations']:
        points = np.array(annotation['keypoints'], float).reshape(count, 3)
        if not (points[:, 2] > 0).any():
            continue
        x, y, width, height = annotation['bbox']
        samples.append(
            {
                'img_id': annotation['image_id'],
                'ann_id': annotation['id'],
                'img_path': f'{annotation["image_id"]}.jpg',
                'ori_shape': (480, 640),
                'bbox': np.array([x, y, x + width, y + height], np.float32),
                'bbox_score': 1.0,
                'area': annotation['area'],
                'gt_keypoints': points[:, :2].astype(np.float32),
                'gt_keypoints_visible': points[:, 2].astype(np.float32),
                'pred_keypoints': points[:, :2] + random.normal(0, noise * annotation['area'] ** 0.5, (count, 2)),
                'pred_keypoint_scores': random.uniform(0.3, 1, count),
            }
        )
    return samples
