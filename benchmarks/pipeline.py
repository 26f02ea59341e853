# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""CPU time of one training sample of each task from a 4K source: this toolkit against a straightforward pipeline.

Ours is the training pipeline of the task's config. The straightforward one decodes photo and labels whole, mirrors
them, changes colours, warps in floating point, normalises, makes heatmaps, hands all of it over as floats. Both get the
same files and random numbers (drawn by ours), and end with what a loader's worker hands over, tensors in shared
memory, and their stacking into a batch. First the results are compared; then samples alternate between the two.

Usage: python benchmarks/pipeline.py [--tasks pose parts depth normals] [--rounds 15]
       python benchmarks/pipeline.py --decoders            JPEG decoders that are installed, on the same photo
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from sapiens.datasets.label_files import encode_depth, encode_ids, encode_normals
from sapiens.datasets.transforms import PhotometricDistortion
from sapiens.datasets.transforms.base import settle
from sapiens.engine.config import load_config
from sapiens.registry import TRANSFORMS
from sapiens.vocabularies import load_vocabulary

CONFIGS = {'pose': 'pose/sapiens_0.3b_308kpt', 'parts': 'seg/sapiens_0.3b_28cls',
           'depth': 'depth/sapiens_0.3b_depth', 'normals': 'normal/sapiens_0.3b_normal'}  # fmt: skip
# Rare or optional steps, which the straightforward pipeline leaves out as well.
LEFT_OUT = ('RandomHalfBody', 'RandomBackground', 'RandomBlur', 'CoarseDropout')
HEATMAP, SIGMA = (256, 192), 6.0
MEAN, STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])


class Clock:
    """CPU-seconds by stage, one entry a sample."""

    def __init__(self) -> None:
        self.samples: list[dict[str, float]] = []

    def start(self) -> None:
        """Begin a sample."""
        self.samples.append(defaultdict(float))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of the current sample."""
        begin = time.process_time()
        yield
        self.samples[-1][name] += time.process_time() - begin

    def median(self, name: str) -> float:
        """Median milliseconds of a stage."""
        return float(np.median([sample[name] for sample in self.samples])) * 1000

    def whole(self, without: str = '', instead: str = '') -> float:
        """Median milliseconds of a sample, one stage left out or taken instead."""
        hidden = {without, ASIDE} - {instead}
        return float(np.median([sum(t for s, t in one.items() if s not in hidden) for one in self.samples])) * 1000


ASIDE = 'colours behind the warp instead'
"""A stage that is timed beside the others and not counted."""


def make_source(folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    """A 4K JPEG with the detail of a real one, made of the demo photo, and a person of ellipsoids with all labels."""
    photo = cv2.imread(str(ROOT / 'demo/images/000000000785.jpg'))
    height, width = size
    large = cv2.resize(photo, None, fx=width / photo.shape[1], fy=width / photo.shape[1], interpolation=cv2.INTER_CUBIC)
    large = cv2.copyMakeBorder(large[:height], 0, max(0, height - len(large)), 0, 0, cv2.BORDER_REFLECT)
    grain = cv2.randn(np.zeros(large.shape, np.int16), 0, 14)
    # Darker, so that the grain on the snow is not clipped away: without it a decoder has too little to do.
    cv2.imwrite(str(folder / 'photo.jpg'), np.clip(0.8 * large + grain, 0, 255).astype(np.uint8), [1, 95])
    parts, depth = np.zeros(size, np.uint8), np.zeros(size, np.float32)
    normals = np.zeros((*size, 3), np.float32)
    random = np.random.default_rng(0)
    box = np.array([0.3 * width, 0.08 * height, 0.62 * width, 0.95 * height])
    for part in range(1, 28):
        centre = random.uniform(box[:2] + 0.15 * height, box[2:] - 0.15 * height)
        radius = random.uniform(0.05, 0.14, 2) * height
        left, top = np.floor(centre - radius).astype(int)
        y, x = np.mgrid[top : top + int(2 * radius[1]), left : left + int(2 * radius[0])].astype(np.float32)
        u, v = (x - centre[0]) / radius[0], (y - centre[1]) / radius[1]
        z = np.sqrt(np.maximum(1 - u * u - v * v, 0))
        # Folds of cloth, so that files are no easier than real ones.
        vector = np.stack([u + 0.1 * np.sin(x / 9), -v + 0.1 * np.sin((x + 2 * y) / 13), z + 0.05], -1)
        place, inside = (slice(top, top + len(y)), slice(left, left + y.shape[1])), z > 0
        parts[place][inside] = part
        depth[place][inside] = (3 - 0.2 * z + 0.002 * np.sin(x / 9))[inside]
        normals[place][inside] = (vector / np.linalg.norm(vector, axis=-1, keepdims=True))[inside]
    files = {'parts': encode_ids(parts), 'depth': encode_depth(depth), 'normals': encode_normals(normals),
             'mask': encode_ids(parts > 0)}  # fmt: skip
    for kind, data in files.items():
        (folder / f'{kind}.png').write_bytes(data)
    return dict(img_path=str(folder / 'photo.jpg'), bbox=box.astype(np.float32),
                label_files={kind: str(folder / f'{kind}.png') for kind in files})  # fmt: skip


def record(source: dict[str, Any], task: str) -> dict[str, Any]:
    """A sample as the data set gives it."""
    if task != 'pose':
        labels = {k: v for k, v in source['label_files'].items() if k == task or k == 'mask' and task != 'parts'}
        return dict(img_path=source['img_path'], label_files=labels, part_vocabulary='parts28')
    count = load_vocabulary('keypoints308').num_keypoints
    box = source['bbox']
    points = np.random.default_rng(0).uniform(box[:2], box[2:], (count, 2)).astype(np.float32)
    return dict(img_path=source['img_path'], bbox=box.copy(), keypoints=points, keypoint_vocabulary='keypoints308',
                keypoints_visible=np.full(count, 2, np.float32))  # fmt: skip


def pipeline_of(task: str) -> tuple[list[Any], tuple[int, int]]:
    """The transforms of a task's config, and the input's size."""
    dataset = load_config(str(ROOT / 'configs' / f'{CONFIGS[task]}.py')).train_dataloader.dataset
    steps = [TRANSFORMS.build(dict(step)) for step in dataset.pipeline if step['type'] not in LEFT_OUT]
    size = tuple(dataset.input_size)
    settle(steps, input_size=size, labels=(task, 'mask') if task != 'pose' else None)
    return steps, size


def labels_of(sample: Any) -> dict[str, torch.Tensor]:
    """What is handed over beside the image."""
    return {name[3:]: value for name, value in sample.items() if isinstance(value, torch.Tensor)}


def hand_over(clock: Clock, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """To shared memory, as workers do, and into a batch."""
    with clock.stage('hand over (shared memory)'):
        for tensor in tensors.values():
            tensor.share_memory_()
    with clock.stage('stack into a batch'):
        return {name: torch.stack([tensor]) for name, tensor in tensors.items()}


def ours(sample: dict, steps: list[Any], clock: Clock) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """This toolkit's transforms; also what was drawn."""
    for step in steps:
        with clock.stage(type(step).__name__):
            sample = step(sample)
    data = sample['data_samples']
    batch = hand_over(clock, {'image': sample['inputs'], **labels_of(data)})
    return batch, dict(matrix=np.vstack([data.warp_mat, [0, 0, 1]]), flipped=data.flipped)


def straightforward(
    sample: dict, task: str, size: tuple[int, int], drawn: dict, colours: dict, clock: Clock
) -> dict[str, torch.Tensor]:
    """The pipeline that comes to mind first: everything as numbers, step by step, on whole images."""
    labels: dict[str, np.ndarray] = {}
    with clock.stage('decode'):
        image = cv2.cvtColor(cv2.imread(sample['img_path']), cv2.COLOR_BGR2RGB)
    for kind, file in sample.get('label_files', {}).items():
        with clock.stage('decode labels'):
            labels[kind] = cv2.imread(file, cv2.IMREAD_UNCHANGED)
            if kind == 'depth':
                labels[kind] = labels[kind].astype(np.float32) * 0.001
            elif kind == 'normals':
                rgb = cv2.cvtColor(labels[kind], cv2.COLOR_BGR2RGB).astype(np.float32)
                vectors = np.where(rgb.any(-1, keepdims=True), rgb / 255 * 2 - 1, 0)
                labels[kind] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    matrix = drawn['matrix']
    points = sample['keypoints'].copy() if task == 'pose' else None
    with clock.stage('flip'):
        if drawn['flipped']:
            last = image.shape[1] - 1
            image = np.ascontiguousarray(image[:, ::-1])
            labels = {kind: np.ascontiguousarray(label[:, ::-1]) for kind, label in labels.items()}
            matrix = matrix @ np.array([[-1, 0, last], [0, 1, 0], [0, 0, 1.0]])
            if 'parts' in labels:
                labels['parts'] = np.append(load_vocabulary('parts28').swap, range(28, 256))[labels['parts']]
            if 'normals' in labels:
                labels['normals'][..., 0] *= -1
            if points is not None:
                points[:, 0] = last - points[:, 0]
                points = points[load_vocabulary('keypoints308').swap]
    with clock.stage('colours'):
        image = plain_colours(image, colours)
    with clock.stage('warp'):
        warp = partial(cv2.warpAffine, M=matrix[:2], dsize=size[::-1])
        image = warp(image.astype(np.float32), flags=cv2.INTER_LINEAR)
        for kind, label in labels.items():
            outside = 255 if kind == 'parts' else 0
            warped = warp(label.astype(np.float32), flags=cv2.INTER_NEAREST, borderValue=outside)
            if kind == 'normals':
                left, _, right = np.linalg.svd(matrix[:2, :2])
                turn = np.eye(3, dtype=np.float32)
                turn[:2, :2] = (left @ right) * [[1, -1], [-1, 1]]
                warped = warped @ turn.T
                warped = warped / np.maximum(np.linalg.norm(warped, axis=-1, keepdims=True), 1e-6)
            labels[kind] = warped
    with clock.stage(ASIDE):
        plain_colours(np.clip(image, 0, 255).astype(np.uint8), colours)
    if points is not None:
        with clock.stage('heatmaps'):
            points = points @ matrix[:2, :2].T + matrix[:2, 2]
            labels['heatmaps'] = make_heatmaps(points.astype(np.float32), size)
    with clock.stage('normalise and pack'):
        image = (image - MEAN) / STD
        tensors = {'image': torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))}
        for kind, label in labels.items():
            if label.shape[-1] == 3:
                label = np.ascontiguousarray(label.transpose(2, 0, 1))
            tensors[kind] = torch.from_numpy(label)
            if kind == 'parts':
                tensors[kind] = tensors[kind].long()
    batch = hand_over(clock, tensors)
    return batch | ({'keypoints': torch.from_numpy(points)[None]} if points is not None else {})


def plain_colours(image: np.ndarray, chosen: dict[str, Any]) -> np.ndarray:
    """The distortions of `PhotometricDistortion`, pixel by pixel instead of by tables."""

    def scale(values: np.ndarray, factor: float, offset: float = 0) -> np.ndarray:
        return np.clip(values.astype(np.float32) * factor + offset, 0, 255).astype(np.uint8)

    if 'brightness' in chosen:
        image = scale(image, 1, chosen['brightness'])
    if 'contrast' in chosen and chosen['contrast_first']:
        image = scale(image, chosen['contrast'])
    if 'saturation' in chosen:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        image[..., 1] = scale(image[..., 1], chosen['saturation'])
        image = cv2.cvtColor(image, cv2.COLOR_HSV2RGB)
    if 'hue' in chosen:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        image[..., 0] = (image[..., 0].astype(int) + chosen['hue']) % 180
        image = cv2.cvtColor(image, cv2.COLOR_HSV2RGB)
    if 'contrast' in chosen and not chosen['contrast_first']:
        image = scale(image, chosen['contrast'])
    return image


def make_heatmaps(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``(K, h, w)`` UDP targets of ``(K, 2)`` input points, one Gaussian patch after the other."""
    height, width = HEATMAP
    maps = np.zeros((len(points), height, width), np.float32)
    factor = np.array([(size[1] - 1) / (width - 1), (size[0] - 1) / (height - 1)])
    reach = int(3 * SIGMA)
    for index, (x, y) in enumerate(points / factor):
        left, top = int(x + 0.5) - reach, int(y + 0.5) - reach
        columns = np.arange(max(left, 0), min(left + 2 * reach + 1, width))
        rows = np.arange(max(top, 0), min(top + 2 * reach + 1, height))
        if len(columns) and len(rows):
            patch = np.exp(-((columns[None] - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * SIGMA**2))
            maps[index, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = patch
    return maps


def differences(found: dict[str, torch.Tensor], plain: dict[str, torch.Tensor]) -> str:
    """How far the results of both lie apart."""
    image = plain['image'] * torch.from_numpy(STD)[:, None, None] + torch.from_numpy(MEAN)[:, None, None]
    texts = [f'image {float((found["image"] - image).abs().mean()):.2f} grey levels']
    if 'keypoints' in plain:
        texts.append(f'keypoints {float((found["keypoints"] - plain["keypoints"]).abs().max()):.1e} px')
    if 'parts' in plain:
        texts.append(f'parts {float((found["part_map"] != plain["parts"]).float().mean()):.1e} of pixels')
    if 'depth' in plain:
        both = (found['depth'][:, 0] > 0) & (plain['depth'] > 0)
        texts.append(f'depth {float((found["depth"][:, 0] - plain["depth"])[both].abs().median()) * 1000:.2f} mm')
    if 'normals' in plain:
        cosine = (found['normals'] * plain['normals']).sum(1)[plain['normals'].any(1)]
        texts.append(f'normals {float(cosine.clamp(-1, 1).arccos().rad2deg().median()):.2f} degrees')
    return ', '.join(texts)


def run_task(task: str, source: dict[str, Any], rounds: int) -> tuple[dict[str, Clock], str]:
    """Alternate both pipelines."""
    steps, size = pipeline_of(task)
    clocks = {'straightforward': Clock(), 'ours': Clock()}
    away = ''
    (jitter,) = (step for step in steps if isinstance(step, PhotometricDistortion))
    draw = jitter.draw
    for number in range(-2, rounds):
        np.random.seed(number + 100)
        colours = draw() if number >= -1 else dict(contrast_first=True)
        jitter.draw = lambda colours=colours: colours
        ran = []
        for name in ('ours', 'straightforward'):
            clock = clocks[name] if number >= 0 else Clock()
            clock.start()
            if name == 'ours':
                batch, drawn = ours(record(source, task), steps, clock)
            else:
                batch = straightforward(record(source, task), task, size, drawn, colours, clock)
            ran.append(batch)
        if number == -2:  # without colours, which come before the warp there and behind it here
            away = differences(*ran)
    return clocks, away


def report(task: str, clocks: dict[str, Clock], away: str) -> tuple[str, ...]:
    """Print CPU-milliseconds by stage; the row of the summary."""
    table = Table(title=f'{task}: apart, medians, without colours: {away}')
    for column in ('stage (ms)', *clocks):
        table.add_column(column, justify='left' if column == 'stage (ms)' else 'right')
    stages = list(dict.fromkeys(s for c in clocks.values() for s in c.samples[0]))
    for stage in stages:
        table.add_row(stage, *(f'{c.median(stage):.1f}' if stage in c.samples[0] else '-' for c in clocks.values()))
    plain, fast = (clock.whole() for clock in clocks.values())
    late = clocks['straightforward'].whole('colours', ASIDE)
    table.add_section()
    table.add_row('whole sample', f'{plain:.1f}', f'{fast:.1f}')
    Console(width=120).print(table)
    return task, f'{1000 / plain:.2f}', f'{1000 / fast:.1f}', f'{plain / fast:.1f}', f'{late / fast:.1f}'


def main() -> None:
    """Run the tasks, and print tables and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tasks', nargs='+', choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument('--rounds', type=int, default=15, help='samples of each pipeline')
    parser.add_argument('--size', type=int, nargs=2, default=(2160, 3840), metavar=('H', 'W'), help='of the source')
    parser.add_argument('--decoders', action='store_true', help='compare JPEG decoders instead')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        source = make_source(Path(folder), tuple(args.size))
        if args.decoders:
            from benchmarks.jpeg_decoders import compare

            compare(Path(source['img_path']), args.rounds)
            return
        rows = [report(task, *run_task(task, source, args.rounds)) for task in args.tasks]
        files = [Path(source['img_path']), *map(Path, source['label_files'].values())]
        sizes = ', '.join(f'{file.name} {file.stat().st_size / 2**20:.1f}' for file in files)
    source_size = f'{args.size[1]} x {args.size[0]} (MiB: {sizes})'
    table = Table(title=f'samples/s per core from {source_size}, medians of {args.rounds}')
    for column in ('task', 'straightforward', 'ours', 'ratio', 'ratio, its colours behind its warp'):
        table.add_column(column, justify='left' if column == 'task' else 'right')
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == '__main__':
    main()
