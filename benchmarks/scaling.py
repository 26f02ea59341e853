# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Pretraining on many GPUs, on paper: operations of a step, bytes that travel, and what the paper's tokens cost.

Operations are counted on the model; bandwidths are the makers' and the share of the peak (MFU) is an assumption, unless
``--results`` gives what `gpu.py` measured on such a GPU. Communication that overlaps computing costs nothing until it
takes longer: that is when `bound` says so. Prints Markdown.

Usage: python benchmarks/scaling.py [--mfu 0.45] [--batch-size 32] [--results outputs/gpu/results.json]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from sapiens.engine.config import load_config
from sapiens.models.complexity import count_parameters, count_training_flops
from sapiens.registry import MODELS

SIZES = ('0.3b', '0.6b', '1b', '2b')
GPUS = (8, 64, 256, 1024)
PER_NODE = 8
TOKENS, PAPER_GPUS, PAPER_DAYS = 1.2e12, 1024, 18
# Dense bf16 FLOPS; bytes a second and direction of one GPU inside a node and, by one adapter a GPU, between nodes.
MACHINES = {'A100': (312e12, 300e9, 25e9), 'H100': (989e12, 450e9, 50e9)}


def volumes(parameters: float, gpus: int) -> tuple[float, float]:
    """Bytes that a GPU sends in a step (inside its node, between nodes), by rings: the same in all three ways.

    DDP sums float32 gradients (twice their size). FSDP2 gathers bf16 parameters forward and backward and scatters
    float32 gradients. HSDP does that inside a node and sums its part of the gradients between nodes.
    """
    inside, between = 1 - 1 / PER_NODE, 1 - PER_NODE / gpus
    return 8 * parameters * inside, 8 * parameters * between / PER_NODE


def states(parameters: float, way: str, gpus: int) -> float:
    """Bytes of parameters, gradients and AdamW on a GPU, float32."""
    return 16 * parameters / {'DDP': 1, 'FSDP2': gpus, 'HSDP': PER_NODE}[way]


def build(size: str) -> torch.nn.Module:
    """The MAE model on the meta device."""
    config = load_config(str(ROOT / f'configs/pretrain/sapiens_{size}_mae.py'))
    with torch.device('meta'):
        return MODELS.build(config.model)


def measured(path: Path | None) -> dict[str, float]:
    """Size -> FLOPS of the fastest pretraining row of `gpu.py`."""
    best: dict[str, float] = {}
    for row in json.loads(path.read_text())['rows'] if path else []:
        if row['mode'] == 'pretrain' and 'tflops' in row:
            best[row['size']] = max(best.get(row['size'], 0.0), row['tflops'] * 1e12)
    return best


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--machine', choices=tuple(MACHINES), default='H100')
    parser.add_argument('--mfu', type=float, default=0.45, help='share of the dense peak; default: 0.45')
    parser.add_argument('--batch-size', type=int, default=32, help='images on each GPU; default: 32')
    parser.add_argument('--results', type=Path, help='results.json of benchmarks/gpu.py instead of --mfu')
    args = parser.parse_args()
    peak, inside, between = MACHINES[args.machine]
    reached = measured(args.results)
    flops, parameters = {}, {}
    for size in SIZES:
        model = build(size)
        flops[size], parameters[size] = count_training_flops(model), count_parameters(model)

    print(f'Pretraining at 1024 x 1024, {args.batch_size} images on each {args.machine}:\n')
    print('| size | TFLOP an image | step (s) | GPUs | way | states (GiB a GPU) | sent inside / between nodes (GB) | '
          'communication (s) | bound |\n|---|---:|---:|---:|---|---:|---:|---:|---|')  # fmt: skip
    for size in SIZES:
        seconds = args.batch_size * flops[size] / reached.get(size, args.mfu * peak)
        for gpus in GPUS:
            near, far = volumes(parameters[size], gpus)
            travel = max(near / inside, far / between)
            for way in ('DDP', 'FSDP2', 'HSDP'):
                print(f'| {size} | {flops[size] / 1e12:.2f} | {seconds:.2f} | {gpus} | {way} | '
                      f'{states(parameters[size], way, gpus) / 2**30:.1f} | {near / 1e9:.1f} / {far / 1e9:.2f} | '
                      f'{travel:.3f} | {"computing" if travel < seconds else "communication"} |')  # fmt: skip
    print(f'\nSteps of 1b against images and tokens, {args.machine}:\n\n| image | tokens (seen) | TFLOP | '
          + ' | '.join(f'batch {n} (s)' for n in (8, 32, 128)) + ' |\n|---|---:|---:|---:|---:|---:|')  # fmt: skip
    model = build('1b')
    for side in (512, 768, 1024):
        work = count_training_flops(model, (side, side))
        tokens = (side // 16) ** 2
        times = ' | '.join(f'{n * work / reached.get("1b", args.mfu * peak):.2f}' for n in (8, 32, 128))
        print(f'| {side} x {side} | {tokens} ({tokens // 4 + 1}) | {work / 1e12:.2f} | {times} |')
    images = TOKENS / 4096
    paper = PAPER_GPUS * PAPER_DAYS * 24
    print(f'\nThe paper: 1.2 T tokens are {images / 1e6:.0f} M images of 4096 patches. It names {PAPER_GPUS} A100 for '
          f'{PAPER_DAYS} days, {paper:,} GPU hours:\n')  # fmt: skip
    print('| size | operations | share of the 18 days\' peak | A100 hours at this MFU | H100 hours |\n'
          '|---|---:|---:|---:|---:|')  # fmt: skip
    for size in SIZES:
        work = images * flops[size]
        share = work / (paper * 3600 * MACHINES['A100'][0])
        hours = [work / (args.mfu * MACHINES[name][0]) / 3600 for name in ('A100', 'H100')]
        print(f'| {size} | {work:.2e} | {100 * share:.2f} % | {hours[0]:,.0f} | {hours[1]:,.0f} |')


if __name__ == '__main__':
    main()
