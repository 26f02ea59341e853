# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What it costs the process that trains to receive a batch from a loader's worker: this toolkit against torch alone.

Samples of all four tasks at 256 x 192, each with image and labels of its own, as a data set with a pipeline gives them.
Batches wait in the queue before the clock starts; both sides alternate.

Usage: python benchmarks/batches.py [--batch-size 160] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader, Dataset

from sapiens.engine.batches import Collate
from sapiens.structures import HumanDataSample

BATCHES = 3


class Samples(Dataset):
    """The same sample, in other memory each time."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> dict:
        sample = HumanDataSample(metainfo=dict(img_path=f'{index}.jpg', img_shape=(256, 192), flipped=False))
        sample.gt_keypoints, sample.gt_keypoints_visible = torch.rand(308, 2), torch.ones(308)
        sample.gt_part_map = torch.zeros(64, 48, dtype=torch.uint8)
        sample.gt_depth, sample.gt_normals = torch.rand(1, 64, 48), torch.rand(3, 64, 48)
        sample.gt_mask = torch.ones(1, 64, 48, dtype=torch.bool)
        return {'inputs': torch.zeros(3, 256, 192, dtype=torch.uint8), 'data_samples': sample}


def receive(collate, batch_size: int) -> tuple[float, float]:
    """Seconds and CPU-seconds of this process for a batch that waits."""
    data = Samples(batch_size * (BATCHES + 1))
    loader = DataLoader(data, batch_size, num_workers=1, prefetch_factor=BATCHES + 1, collate_fn=collate)
    batches = iter(loader)
    next(batches)
    time.sleep(0.02 * batch_size * BATCHES)
    clock, cpu = time.perf_counter(), time.process_time()
    for _ in range(BATCHES):
        next(batches)
    return (time.perf_counter() - clock) / BATCHES, (time.process_time() - cpu) / BATCHES


def main() -> None:
    """Alternate, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch-size', type=int, default=160)
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    ways = {'a tensor at a time (torch)': pseudo_collate, 'in one piece': Collate(None, pseudo_collate)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, collate in ways.items():
            found[name].append(receive(collate, args.batch_size))
    medians = {name: [statistics.median(times) for times in zip(*rows, strict=True)] for name, rows in found.items()}
    for name, (seconds, cpu) in medians.items():
        print(f'{name:>28}: {1000 * seconds:7.1f} ms, {1000 * cpu:6.1f} CPU-ms a batch of {args.batch_size}')
    slow, fast = medians.values()
    print(f'{"ratio":>28}: {slow[0] / fast[0]:7.1f}     {slow[1] / fast[1]:6.1f}')


if __name__ == '__main__':
    main()
