# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Photographs without people out of panoramas: what a camera sees that turns about in them.

Usage: python tools/zoo/views.py HDRIS --out FOLDER [--views 8] [--seed 0]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from sapiens.errors import UserError, run_cli
from sapiens.utils.files import write_atomic


def view(environment, rng: np.random.Generator, size: tuple[int, int], yaw: float) -> np.ndarray:
    """A picture ``(H, W, 3)`` uint8 RGB of a level camera with 50 to 100 degrees across its longer side.

    Args:
        environment: A panorama.
        rng: Draws lens, pitch, roll and exposure.
        size: ``(H, W)``.
        yaw: Where to look, in degrees.
    """
    from sapiens.synthesis.environment import LUMA
    from sapiens.synthesis.skeleton import rotation

    height, width = size
    focal = max(size) / 2 / np.tan(np.deg2rad(rng.uniform(50, 100)) / 2)
    ys, xs = np.mgrid[:height, :width]
    rays = np.stack([(xs + 0.5 - width / 2) / focal, -(ys + 0.5 - height / 2) / focal, np.ones(size)], -1)
    turned = rotation(np.array([0, 1.0, 0]), yaw) @ rotation(np.array([1.0, 0, 0]), rng.normal(4, 10))
    rays = rays @ (turned @ rotation(np.array([0, 0, 1.0]), rng.normal(0, 3))).T
    light = environment.along((rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32))
    light = light * (rng.uniform(0.3, 0.5) / max(float(np.median(light @ LUMA)), 1e-4))
    return (np.clip(light / (1 + 0.35 * light), 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def main() -> None:
    """Write the views."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('hdris', help='folder of equirectangular .hdr files')
    parser.add_argument('--out', required=True, help='folder of the pictures')
    parser.add_argument('--views', type=int, default=8, help='of each panorama')
    parser.add_argument('--seed', type=int, default=0, help='of lenses and exposures')
    args = parser.parse_args()
    from rich.progress import track

    from sapiens.datasets.image_files import has_ending
    from sapiens.datasets.label_files import encode_image
    from sapiens.synthesis.environment import read_environment

    files = sorted(path for path in Path(args.hdris).glob('*') if has_ending(path.name, ('.hdr',)))
    if not files:
        raise UserError(f'{args.hdris}: has no .hdr file')
    out = Path(args.out)
    rng = np.random.default_rng(args.seed)
    for file in track(files, description='panoramas', disable=not sys.stderr.isatty()):
        environment = read_environment(str(file))
        for i in range(args.views):
            # One view in four stands upright.
            size = (288, 384) if i % 4 else (384, 288)
            picture = view(environment, rng, size, 360 * (i + rng.uniform()) / args.views)
            write_atomic(out / f'{file.stem}_{i}.jpg', encode_image(picture, '.jpg', 88))
    print(f'{out}: {len(files) * args.views} pictures')


if __name__ == '__main__':
    run_cli(main)
