# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Render synthetic people with exact labels into manifest folders that the data sets read.

Writes OUT/train and OUT/val (or OUT itself with --val-fraction 0). Run the same command again to go on after an
interruption; the samples depend on the seed alone, never on the number of workers.

Example: sapiens render --out data/synthetic --num 2000 --size 1024x768 --workers 8
         sapiens render --out data/tiny --num 64 --size 256x192 --assets fixture
"""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..utils.optional import need
from . import options


def parse_size(text: str) -> tuple[int, int]:
    """``'1024x768'`` -> (1024, 768), height first."""
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 64 <= min(size) <= max(size) <= 8192:
        raise UserError(f"--size '{text}': give HEIGHTxWIDTH, each from 64 to 8192, e.g. 1024x768")
    return size


def parse_persons(text: str) -> tuple[int, int]:
    """``'1-4'`` -> (1, 4); ``'2'`` -> (2, 2)."""
    match = re.fullmatch(r'(\d+)(?:-(\d+))?', text)
    low = int(match.group(1)) if match else 0
    high = int(match.group(2) or low) if match else 0
    if not 1 <= low <= high <= 12:
        raise UserError(f"--persons '{text}': give a number or a range from 1 to 12, e.g. 1-4")
    return low, high


def pick_renderer(renderer: str, spp: int | None) -> tuple[str, int]:
    """Renderer and paths a pixel as the recipe names them; makes sure that the renderer is there."""
    if renderer == 'numba':
        if spp is not None:
            raise UserError('--spp is for --renderer mitsuba; with numba give --samples')
        return renderer, 0
    from ..synthesis import mitsuba_variants

    spp = 32 if spp is None else spp
    if not 1 <= spp <= 4096:
        raise UserError(f'--spp {spp}: give a number from 1 to 4096')
    if renderer == 'mitsuba':
        renderer, why = mitsuba_variants.choose()
        print(why)
    mitsuba_variants.load(renderer)
    return renderer, spp


def build_jobs(args: argparse.Namespace) -> list:
    """One job for each split."""
    from ..synthesis.job import SPLITS, Job
    from ..synthesis.own_pictures import background_files, panorama_files
    from ..synthesis.scene import FRAMINGS, PRESETS, Recipe
    from ..synthesis.sensor import Sensor

    if not 0 <= args.val_fraction < 1:
        raise UserError(f'--val-fraction {args.val_fraction}: give a part from 0 to less than 1')
    most = {'white_balance': 10, 'blur': 10, 'noise': 10, 'jpeg': 10, 'samples': 16, 'lights': 1024}
    for name, limit in most.items():
        if not 0 <= getattr(args, name) <= limit:
            raise UserError(f'--{name.replace("_", "-")} {getattr(args, name)}: give a number from 0 to {limit}')
    changes = dict(PRESETS[args.preset]) if args.preset else {}
    if args.framing or not args.preset:
        framings = tuple((args.framing or ','.join(FRAMINGS)).split(','))
        if not set(framings) <= set(FRAMINGS):
            raise UserError(f"--framing '{args.framing}': choose from {', '.join(FRAMINGS)}")
        changes['framings'] = framings
    if args.persons or not args.preset:
        changes['persons'] = parse_persons(args.persons or '1-4')
    if args.backgrounds:
        changes['backgrounds'] = background_files(args.backgrounds)
    if args.hdris:
        changes['hdris'] = panorama_files(args.hdris)
    changes['sensor'] = (
        Sensor(*(4 * [0.0])) if args.no_sensor else Sensor(args.white_balance, args.blur, args.noise, args.jpeg)
    )
    changes['renderer'], changes['spp'] = pick_renderer(args.renderer, args.spp)
    recipe = Recipe(size=parse_size(args.size), samples=args.samples, lights=args.lights, **changes)
    val = max(round(args.num * args.val_fraction), 1) if args.val_fraction else 0
    numbers = {'train': args.num - val, 'val': val} if val else {'': args.num}
    if val and args.num < 2:
        raise UserError('--num 1 cannot be split into train and val: give --num 2 or --val-fraction 0')
    return [
        Job(str(Path(args.out) / split), n, args.seed, SPLITS.get(split, 0), recipe, args.assets, args.normal_bits)
        for split, n in numbers.items()
    ]


def main() -> None:
    """Render."""
    parser = options.new_parser(__doc__)
    parser.add_argument('--out', required=True, help='folder to fill')
    parser.add_argument('--num', type='count', required=True, help='number of pictures, train and val together')
    parser.add_argument('--size', default='1024x768', help='HEIGHTxWIDTH in pixels')
    parser.add_argument('--framing', help='of full, upper and face, with commas; default: all')
    parser.add_argument('--persons', help='number of people, e.g. 1 or 1-4 (default)')
    parser.add_argument('--seed', type='number', default=0)
    parser.add_argument('--workers', type='count', default=1, help='processes')
    parser.add_argument(
        '--val-fraction', type=float, default=0.05, help='part that goes to OUT/val; 0 = one folder OUT'
    )
    parser.add_argument('--assets', default='data/assets', help="folder made by prepare_assets.py, or 'fixture'")
    parser.add_argument('--preset', choices=('thuman-like', 'hi4d-like'), help="evaluation sets in the paper's manner")
    parser.add_argument('--backgrounds', help='folder of pictures without people to stand behind')
    parser.add_argument('--hdris', help='folder of equirectangular .hdr pictures for light and sharp backgrounds')
    parser.add_argument('--samples', type='number', default=0, help='supersampling along each side; default: 2')
    parser.add_argument(
        '--lights', type='number', default=0, help='lights drawn from the environment; default: by size'
    )
    parser.add_argument(
        '--renderer', choices=('numba', 'mitsuba', 'mitsuba-scalar', 'mitsuba-llvm'), default='numba',
        help='numba, or path tracing: slower, with bounced light (mitsuba picks one of its two variants)',
    )  # fmt: skip
    parser.add_argument('--spp', type=int, help='paths a pixel of mitsuba; default: 32')
    parser.add_argument('--normal-bits', type=int, choices=(8, 16), default=8)
    parser.add_argument('--no-sensor', action='store_true', help='no blur, noise, JPEG or white balance')
    for effect, strength in (('white-balance', 0.5), ('blur', 0.4), ('noise', 0.5), ('jpeg', 0.5)):
        parser.add_argument(f'--{effect}', type=float, default=strength, help=f'strength; default: {strength}')
    parser.add_argument(
        '--shard-size', type='number', default=0, metavar='N', help='also pack tar shards of N into OUT/SPLIT-shards'
    )
    args = parser.parse_args()
    need('numba', 'rendering', extra='synthesis')
    from ..datasets import pack_shards
    from ..synthesis.job import name, open_writer, run
    from ..utils.progress import progress

    jobs = build_jobs(args)
    missing: Counter = Counter()
    for job in jobs:
        writer = open_writer(job)
        missing[job.folder] = sum(name(i) not in writer for i in range(job.num))
    rejected: Counter = Counter()
    with progress('pictures', missing.total()) as advance:

        def done(job: Any, index: int, reasons: Counter) -> None:
            rejected.update(reasons)
            advance(f'{rejected.total()} draws again')

        run(jobs, args.workers, done)
    for job in jobs:
        print(f'{job.folder}: {job.num} samples, {missing[job.folder]} of them new')
        if args.shard_size:
            shards = pack_shards(job.folder, f'{os.path.abspath(job.folder)}-shards', args.shard_size)
            print(f'{shards[0].parent}: {len(shards)} shards')
    for reason, count in rejected.most_common():
        print(f'drawn again: {reason}: {count}')
