# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a person detector's scores are worth: the share of its boxes that are right, as `calibration` of a stage.

    python tools/curation/calibrate.py configs/curation/humans_offline.py data/synthetic/val --negatives data/empty

A box is right if it overlaps a labelled person by half (IoU above 0.5). Detectors that say 0.9 mean different things;
calibrated, `min_score=0.9` means that nine of ten such boxes are people.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from rich.progress import track

from sapiens.apis.detectors import build_detector
from sapiens.apis.sources import Frame
from sapiens.commands.options import new_parser
from sapiens.curation.persons import fit_calibration
from sapiens.datasets.image_files import decode_image, list_images
from sapiens.datasets.manifest import Manifest
from sapiens.datasets.storage import read_bytes
from sapiens.engine.config import load_config
from sapiens.errors import UserError, run_cli
from sapiens.structures.geometry import box_iou


def main() -> None:
    """Detect, compare, fit and print."""
    parser = new_parser(__doc__)
    parser.add_argument('config', help='of the curation')
    parser.add_argument('people', help='manifest folder with labelled persons')
    parser.add_argument('--negatives', help='folder of images without people')
    parser.add_argument('--stage', default='persons', help='key of the stage in the config')
    parser.add_argument('--num', type='count', default=500, help='most images of each kind')
    args = parser.parse_args()
    stages = load_config(args.config, {}).stages
    if args.stage not in stages:
        raise UserError(f"{args.config}: has no stage '{args.stage}'; it has {', '.join(stages)}")
    detector = build_detector(stages[args.stage].detector.to_dict())
    images = []
    for entry, _ in zip(Manifest(args.people).entries(), range(args.num), strict=False):
        boxes = np.array([p['bbox'] for p in entry['fields']['persons']], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        images.append((entry['files']['image'], boxes))
    if args.negatives:
        images += [(path, np.zeros((0, 4))) for path in list_images(args.negatives)[: args.num]]
    scores, right = [], []
    for reference, truth in track(images, 'images'):
        found = detector(Frame(decode_image(read_bytes(reference), reference), reference))
        scores += found.scores.tolist()
        right += matched(found.boxes, truth).tolist()
    if not scores:
        raise UserError(f'{args.people}: the detector found nobody; lower its threshold')
    calibration = fit_calibration(np.array(scores), np.array(right))
    print(f'{len(scores)} boxes, {np.mean(right):.1%} of them right\ncalibration={calibration}')


def matched(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether each box, best first, overlaps a labelled one by half that no better one has taken."""
    taken, right = set(), np.zeros(len(boxes), bool)
    for i, box in enumerate(boxes):
        overlap = box_iou(box, truth)
        for j in np.argsort(-overlap):
            if overlap[j] > 0.5 and j not in taken:
                taken.add(j)
                right[i] = True
                break
    return right


if __name__ == '__main__':
    run_cli(main)
