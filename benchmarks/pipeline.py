# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Time of one pose training sample from a 4K JPEG: this toolkit against a straightforward pipeline, on one core.

Both get the same file, the same augmented box and the same flip, and end with what a loader's worker hands over,
tensors in shared memory, and their stacking into a batch. The straightforward pipeline decodes the whole photo, checks
whether it is grey, mirrors it as a view, warps that view, distorts colours in floating point, and makes the K heatmaps
in the worker. Samples alternate between the two, so that a machine's ups and downs meet both.

Usage: python benchmarks/pipeline.py [--rounds 20] [--vocabulary keypoints308]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from sapiens.datasets.transforms import (
    LoadImage,
    PackHumanInputs,
    PersonBox,
    PhotometricDistortion,
    RandomBox,
    RandomFlip,
    TopdownAffine,
)
from sapiens.datasets.transforms.topdown import fit_aspect, udp_matrix
from sapiens.vocabularies import load_vocabulary

INPUT, HEATMAP, SIGMA = (1024, 768), (256, 192), 6.0
SIZE_4K = (2160, 3840)


class Clock:
    """Seconds by stage, one list entry a sample."""

    def __init__(self) -> None:
        self.samples: list[dict[str, float]] = []

    def start(self) -> None:
        """Begin a sample."""
        self.samples.append(defaultdict(float))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of the current sample."""
        begin = time.perf_counter()
        yield
        self.samples[-1][name] += time.perf_counter() - begin

    def median(self, name: str | None = None) -> float:
        """Median milliseconds of a stage, or of whole samples."""
        return float(np.median([s[name] if name else sum(s.values()) for s in self.samples])) * 1000


def make_photo(folder: Path) -> tuple[Path, np.ndarray]:
    """A 4K JPEG with the detail of a real one, made of the demo photo, and the person's box in it."""
    photo = cv2.imread(str(ROOT / 'demo/images/000000000785.jpg'))
    annotation = json.loads((ROOT / 'tests/data/coco_785.json').read_text())['annotations'][0]
    scale = SIZE_4K[1] / photo.shape[1]
    large = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)[: SIZE_4K[0]]
    large = cv2.copyMakeBorder(large, 0, SIZE_4K[0] - large.shape[0], 0, 0, cv2.BORDER_REFLECT)
    grain = cv2.randn(np.zeros(large.shape, np.int16), 0, 14)
    # Darker, so that the grain on the snow is not clipped away: without it a decoder has too little to do.
    large = np.clip(0.8 * large + grain, 0, 255).astype(np.uint8)
    path = folder / 'photo.jpg'
    cv2.imwrite(str(path), large, [cv2.IMWRITE_JPEG_QUALITY, 95])
    x, y, w, h = np.array(annotation['bbox']) * scale
    return path, np.float32([x, y, x + w, y + h])


def record(path: Path, box: np.ndarray, vocabulary: str) -> dict:
    """A sample as the data set gives it."""
    count = load_vocabulary(vocabulary).num_keypoints
    points = np.random.default_rng(0).uniform(box[:2], box[2:], (count, 2)).astype(np.float32)
    return dict(img_path=str(path), bbox=box, keypoints=points, keypoints_visible=np.full(count, 2, np.float32),
                keypoint_vocabulary=vocabulary)  # fmt: skip


def ours(sample: dict, flip: bool, clock: Clock) -> None:
    """This toolkit's transforms."""
    steps = (
        ('box', PersonBox()),
        ('box', RandomBox()),
        ('decode', LoadImage(INPUT)),
        ('warp', TopdownAffine(INPUT)),
        ('flip', RandomFlip(float(flip))),
        ('colours', PhotometricDistortion()),
        ('pack', PackHumanInputs()),
    )
    for name, step in steps:
        with clock.stage(name):
            sample = step(sample)
    with clock.stage('hand over'):
        data = sample['data_samples']
        for tensor in (sample['inputs'], data.gt_keypoints, data.gt_keypoints_visible):
            tensor.share_memory_()
    with clock.stage('stack'):
        torch.stack([sample['inputs']]), torch.stack([data.gt_keypoints])


def straightforward(sample: dict, flip: bool, clock: Clock) -> None:
    """The pipeline that comes to mind first."""
    with clock.stage('box'):
        sample = RandomBox()(PersonBox()(sample))
    with clock.stage('decode'):
        image = cv2.imread(sample['img_path'])
    with clock.stage('grey check'):
        if np.allclose(image[..., 0], image[..., 1]) and np.allclose(image[..., 1], image[..., 2]):
            image = cv2.cvtColor(image[..., 0], cv2.COLOR_GRAY2BGR)
    points, center = sample['keypoints'].copy(), sample['bbox_center'].copy()
    with clock.stage('flip'):
        if flip:
            image = image[:, ::-1]
            points[:, 0] = image.shape[1] - 1 - points[:, 0]
            points = points[load_vocabulary(sample['keypoint_vocabulary']).swap]
            center[0] = image.shape[1] - 1 - center[0]
    with clock.stage('warp'):
        scale = fit_aspect(sample['bbox_scale'], INPUT)
        matrix = udp_matrix(center, scale, INPUT, sample['bbox_rotation'])
        image = cv2.warpAffine(image, matrix[:2], INPUT[::-1], flags=cv2.INTER_LINEAR)
        points = points @ matrix[:2, :2].T + matrix[:2, 2]
    with clock.stage('colours'):
        image = plain_colours(image)
    with clock.stage('heatmaps'):
        maps = make_heatmaps(points)
    with clock.stage('pack'):
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        maps = torch.from_numpy(maps)
    with clock.stage('hand over'):
        tensor.share_memory_()
        maps.share_memory_()
    with clock.stage('stack'):
        torch.stack([tensor]), torch.stack([maps])


def plain_colours(image: np.ndarray) -> np.ndarray:
    """The distortions of `PhotometricDistortion`, pixel by pixel instead of by tables."""
    chosen = PhotometricDistortion().draw()

    def scale(values: np.ndarray, factor: float, offset: float = 0) -> np.ndarray:
        return np.clip(values.astype(np.float32) * factor + offset, 0, 255).astype(np.uint8)

    if 'brightness' in chosen:
        image = scale(image, 1, chosen['brightness'])
    if 'contrast' in chosen and chosen['contrast_first']:
        image = scale(image, chosen['contrast'])
    if 'saturation' in chosen:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        image[..., 1] = scale(image[..., 1], chosen['saturation'])
        image = cv2.cvtColor(image, cv2.COLOR_HSV2BGR)
    if 'hue' in chosen:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        image[..., 0] = (image[..., 0].astype(int) + chosen['hue']) % 180
        image = cv2.cvtColor(image, cv2.COLOR_HSV2BGR)
    if 'contrast' in chosen and not chosen['contrast_first']:
        image = scale(image, chosen['contrast'])
    return image


def make_heatmaps(points: np.ndarray) -> np.ndarray:
    """``(K, h, w)`` UDP targets of ``(K, 2)`` input points, one Gaussian patch after the other."""
    height, width = HEATMAP
    maps = np.zeros((len(points), height, width), np.float32)
    factor = np.array([(INPUT[1] - 1) / (width - 1), (INPUT[0] - 1) / (height - 1)])
    reach = int(3 * SIGMA)
    for index, (x, y) in enumerate(points / factor):
        left, top = int(x + 0.5) - reach, int(y + 0.5) - reach
        columns = np.arange(max(left, 0), min(left + 2 * reach + 1, width))
        rows = np.arange(max(top, 0), min(top + 2 * reach + 1, height))
        if len(columns) and len(rows):
            patch = np.exp(-((columns[None] - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * SIGMA**2))
            maps[index, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = patch
    return maps


def main() -> None:
    """Alternate both pipelines and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=20, help='samples of each pipeline')
    parser.add_argument('--vocabulary', default='keypoints308')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    clocks = {'straightforward': Clock(), 'ours': Clock()}
    with tempfile.TemporaryDirectory() as folder:
        path, box = make_photo(Path(folder))
        size = path.stat().st_size / 2**20
        for number in range(-2, args.rounds):
            for name, run in (('straightforward', straightforward), ('ours', ours)):
                clock = clocks[name] if number >= 0 else Clock()
                clock.start()
                np.random.seed(number + 100)
                run(record(path, box, args.vocabulary), number % 2 == 0, clock)
    photo = f'{SIZE_4K[1]} x {SIZE_4K[0]} JPEG of {size:.1f} MiB'
    report(clocks, f'{photo}, {args.vocabulary}, input {INPUT[0]} x {INPUT[1]}, median of {args.rounds}, one thread')


def report(clocks: dict[str, Clock], title: str) -> None:
    """Print milliseconds by stage and samples a second."""
    table = Table(title=title)
    for column in ('stage (ms)', *clocks):
        table.add_column(column, justify='left' if column == 'stage (ms)' else 'right')
    stages = list(dict.fromkeys(s for c in clocks.values() for s in c.samples[0]))
    for stage in stages:
        table.add_row(stage, *(f'{c.median(stage):.1f}' if stage in c.samples[0] else '-' for c in clocks.values()))
    whole = {name: clock.median() for name, clock in clocks.items()}
    table.add_section()
    table.add_row('whole sample', *(f'{ms:.1f}' for ms in whole.values()))
    table.add_row('samples/s per core', *(f'{1000 / ms:.1f}' for ms in whole.values()))
    table.add_row('ratio', '1.0', f'{whole["straightforward"] / whole["ours"]:.1f}')
    without = {name: whole[name] - clock.median('grey check') for name, clock in clocks.items()}
    table.add_row('ratio without the grey check', '1.0', f'{without["straightforward"] / without["ours"]:.1f}')
    Console(width=120).print(table)


if __name__ == '__main__':
    main()
