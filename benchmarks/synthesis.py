# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""CPU time and memory of rendering one sample with all labels, on one core.

Usage: OMP_NUM_THREADS=1 python benchmarks/synthesis.py [--assets data/assets] [--size 256x192] [--num 20]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from sapiens.errors import run_cli


def main() -> None:
    """Measure what a long run costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--assets', default='data/assets', help="folder made by prepare_assets.py, or 'fixture'")
    parser.add_argument('--size', default='256x192', help='HEIGHTxWIDTH')
    parser.add_argument('--num', type=int, default=20)
    parser.add_argument('--persons', default='1-4')
    parser.add_argument('--renderer', choices=('numba', 'mitsuba', 'mitsuba-scalar', 'mitsuba-llvm'), default='numba')
    parser.add_argument('--spp', type=int, default=32, help='paths a pixel of mitsuba')
    parser.add_argument('--warm-up', type=int, default=15, help='samples before measuring: compile, fill the caches')
    args = parser.parse_args()
    from sapiens.synthesis.library import load_assets
    from sapiens.synthesis.scene import Recipe, draw_sample

    cv2.setNumThreads(1)
    low, _, high = args.persons.partition('-')
    renderer = args.renderer
    if renderer == 'mitsuba':
        from sapiens.synthesis.mitsuba_variants import choose

        renderer, why = choose()
        print(why)
    recipe = Recipe(size=tuple(map(int, args.size.split('x'))), persons=(int(low), int(high or low)),
                    renderer=renderer, spp=0 if renderer == 'numba' else args.spp)  # fmt: skip
    assets = load_assets(args.assets)
    for index in range(args.warm_up):
        draw_sample(assets, recipe, 1, index)
    times, people = [], 0
    for index in range(args.num):
        start = time.process_time()
        sample = draw_sample(assets, recipe, 0, index)
        times.append(time.process_time() - start)
        people += len(sample.labels.persons)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    drawn_by = renderer if renderer == 'numba' else f'{renderer} {args.spp} spp'
    print(f'{assets.name}, {drawn_by}, {args.size}, {args.persons} people drawn, {people / args.num:.1f} seen: '
          f'{np.mean(times):.2f} CPU-s a sample (median {np.median(times):.2f}, worst {max(times):.2f}), '
          f'{1 / np.mean(times):.2f} samples/s, {memory:.2f} GiB resident')  # fmt: skip


if __name__ == '__main__':
    run_cli(main)
