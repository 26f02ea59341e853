# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Run models on an image, a folder or a pattern; write one picture per task, JSON and npz.

Usage: python demo/image_demo.py IMAGE_OR_FOLDER --config CONFIG --checkpoint FILE [--task pose seg depth normal]
       [--bbox x1,y1,x2,y2] --out-dir DIR
--config (or --model NAME) and --checkpoint may be given several times. Images that cannot be read are listed at the
end; the exit code is then 3.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sapiens.errors import run_cli


def main() -> int:
    """Read the options and run."""
    from sapiens.apis import cli

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='image, folder, or pattern in quotes')
    parser.add_argument('--out-dir', default='outputs', help='folder for the results; default: outputs')
    parser.add_argument('--no-arrays', action='store_true', help='write no npz and no PNG maps')
    parser.add_argument(
        '--masks', help='folder of PNGs named like the images: people, where depth and normals are valid'
    )
    cli.add_options(parser)
    args = parser.parse_args()
    inferencer = cli.build_inferencer(args)
    done = 0
    for result in inferencer(args.source, tasks=args.task, masks=args.masks):
        files = result.save(args.out_dir, arrays=not args.no_arrays, threshold=args.threshold)
        done += 1
        print(f'{result.path or result.name}: {len(result.boxes)} person(s) -> {", ".join(map(str, files))}')
    print(f'{done} image(s), results in {args.out_dir}')
    return cli.report_failures(inferencer, done)


if __name__ == '__main__':
    run_cli(main)
