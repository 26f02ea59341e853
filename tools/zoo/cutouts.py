# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Frames of one person each, without annotations, as training data: masks of a model, sharpened by GrabCut.

Usage: python tools/zoo/cutouts.py FRAMES... --out FOLDER [--config CONFIG --weights FILE]

FRAMES are images that show one person near the middle, in front of a background that differs from the clothes. What
the model is not sure about, near its outlines, GrabCut (Rother et al., SIGGRAPH 2004) decides by colour. Look at the
masks (tools/browse_dataset.py) before training on them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np

from sapiens.errors import UserError, run_cli


def sharpen(image: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """The largest region of people ``(H, W)`` bool after GrabCut around the outlines of a rough mask.

    Args:
        image: ``(H, W, 3)`` uint8.
        mask: ``(H, W)`` bool; None comes back where it is empty.
    """
    rough = mask.astype(np.uint8)
    kernel = np.ones((max(3, 2 * round(len(rough) / 40)) | 1,) * 2, np.uint8)
    sure = np.where(cv2.dilate(rough, kernel) > 0, np.where(rough > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD), cv2.GC_BGD)
    sure = np.where(cv2.erode(rough, kernel) > 0, cv2.GC_FGD, sure).astype(np.uint8)
    if not (sure == cv2.GC_FGD).any() or not (sure == cv2.GC_BGD).any():
        return None
    cv2.setRNGSeed(0)
    cv2.grabCut(image, sure, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    _, regions, facts, _ = cv2.connectedComponentsWithStats(np.isin(sure, (cv2.GC_FGD, cv2.GC_PR_FGD)).view(np.uint8))
    return regions == 1 + facts[1:, cv2.CC_STAT_AREA].argmax() if len(facts) > 1 else None


def main() -> None:
    """Cut out and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('frames', nargs='+', help='images of one person each')
    parser.add_argument('--out', required=True, help='folder of the manifest')
    parser.add_argument('--config', default='tiny', help='config or name of the model')
    parser.add_argument('--weights', help='checkpoint; without one, what ships by the name of the model')
    args = parser.parse_args()
    from sapiens.apis import Inferencer
    from sapiens.apis.detectors import Detections
    from sapiens.datasets import ManifestWriter

    def middle(frame) -> Detections:
        height, width = frame.image.shape[:2]
        side = min(width, 0.8 * height)
        box = [(width - side) / 2, 0, (width + side) / 2, height]
        return Detections(np.array([box], np.float32), np.ones(1, np.float32))

    model = Inferencer(args.config, args.weights, flip_test=True)
    found = 0
    with ManifestWriter(args.out) as writer:
        for result in model(args.frames, detect=middle):
            if result.parts is None:
                raise UserError(f'{args.config}: predicts no parts')
            mask = sharpen(result.image, result.parts.mask)
            if mask is not None:
                found += 1
                person = mask.view(np.uint8)
                box = [float(value) for value in cv2.boundingRect(person)]
                name = Path(result.path).stem
                writer.write(name, result.image, mask=mask, instances=person, persons=[{'bbox': box}])
    print(f'{args.out}: {found} of {len(args.frames)} images')


if __name__ == '__main__':
    run_cli(main)
