# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Decoding on the CPU: ours against straightforward implementations, alternated in one process.

Pose: 308 heatmaps of 256 x 192 -> keypoints. The straightforward way works on whole maps: blur each (OpenCV), rescale
it to its old maximum, clip, take the logarithm of all of them, one Newton step at each argmax.
Parts: logits of 28 classes at 1024 x 768 -> class map of a 4K photo. The straightforward way interpolates all logits to
the photo's size and takes the argmax.
Prints medians of the CPU times, the ratio of the medians and of the worst and best round, and how far the results
differ.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from sapiens.codecs import UDPHeatmap
from sapiens.models.heads.frames import argmax_to_original


def whole_map_decode(heatmaps: np.ndarray, codec: UDPHeatmap) -> tuple[np.ndarray, np.ndarray]:
    """Decode ``(K, h, w)`` float32 maps by blur, logarithm and Newton step on whole maps.

    Returns:
        ``(K, 2)`` input pixels and ``(K,)`` scores.
    """
    count, height, width = heatmaps.shape
    taps = codec.blur_kernel_size
    flat = heatmaps.reshape(count, -1)
    index, scores = flat.argmax(1), flat.max(1)
    rows, columns = index // width, index % width
    half = taps // 2
    blurred = np.stack([cv2.GaussianBlur(np.pad(m, half), (taps, taps), 0)[half:-half, half:-half] for m in heatmaps])
    blurred *= (scores / blurred.max((1, 2)))[:, None, None]
    log = np.log(np.clip(blurred, 1e-3, 50))
    log = np.pad(log, ((0, 0), (1, 1), (1, 1)), mode='edge')
    every = np.arange(count)

    def at(dy: int, dx: int) -> np.ndarray:
        return log[every, rows + 1 + dy, columns + 1 + dx]

    centre, eps = at(0, 0), np.finfo(np.float32).eps
    gradient = np.stack([at(0, 1) - at(0, -1), at(1, 0) - at(-1, 0)], 1) / 2
    xx = at(0, 1) - 2 * centre + at(0, -1) + eps
    yy = at(1, 0) - 2 * centre + at(-1, 0) + eps
    xy = (at(1, 1) - at(0, 1) - at(1, 0) + 2 * centre - at(0, -1) - at(-1, 0) + at(-1, -1)) / 2
    hessian = np.stack([xx, xy, xy, yy], 1).reshape(-1, 2, 2)
    step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    scale = [(codec.input_size[1] - 1) / (width - 1), (codec.input_size[0] - 1) / (height - 1)]
    return (np.stack([columns, rows], 1) - step) * scale, scores


def compare(ours: Callable, plain: Callable, repeats: int) -> tuple[float, float, list[float]]:
    """Median CPU-seconds of both and the ratio of each round, sorted; called in turn after one warm-up each."""
    times: dict[Callable, list[float]] = {ours: [], plain: []}
    for function in (ours, plain):
        function()
    for _ in range(repeats):
        for function in (ours, plain):
            start = time.process_time()
            function()
            times[function].append(time.process_time() - start)
    ratios = sorted(slow / fast for fast, slow in zip(times[ours], times[plain], strict=True))
    return statistics.median(times[ours]), statistics.median(times[plain]), ratios


def trained_maps(codec: UDPHeatmap, count: int, generator: torch.Generator) -> torch.Tensor:
    """Maps like a trained model's: the target's peak at 0.3 to 1.0 of its height, with noise of 0.005."""
    size = torch.tensor([codec.input_size[1] - 1.0, codec.input_size[0] - 1.0])
    points = torch.rand(1, count, 2, generator=generator) * size
    height = 0.3 + 0.7 * torch.rand(1, count, 1, 1, generator=generator)
    maps = codec.encode(points, torch.ones(1, count))[0] * height
    return maps + 0.005 * torch.randn(maps.shape, generator=generator)


def main() -> None:
    """Run the comparisons and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=15, help='timed calls of each implementation')
    parser.add_argument('--threads', type=int, default=1, help='threads of torch and OpenCV')
    parser.add_argument(
        '--photo', type=int, nargs=2, default=(2160, 3840), metavar=('H', 'W'), help='size of the photo'
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    generator = torch.Generator().manual_seed(0)
    table = Table(title=f'Decoding on the CPU, {args.threads} thread(s), medians of {args.repeats}')
    for column in ('case', 'ours (ms)', 'straightforward (ms)', 'ratio', 'difference'):
        table.add_column(column, justify='left' if column == 'case' else 'right')

    def row(case: str, ours: Callable, plain: Callable, difference: str) -> None:
        fast, slow, ratios = compare(ours, plain, args.repeats)
        ratio = f'{slow / fast:.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})'
        table.add_row(case, f'{fast * 1e3:.1f}', f'{slow * 1e3:.1f}', ratio, difference)

    codec = UDPHeatmap((1024, 768))
    noise = torch.randn(1, 308, 256, 192, generator=generator)
    for case, maps in (
        ('pose: 308 maps as a trained model gives', trained_maps(codec, 308, generator)),
        ('pose: 308 maps of noise, deviation 0.005', 0.005 * noise),
        ('pose: 308 maps of noise, deviation 0.1', 0.1 * noise),
    ):
        array = maps[0].numpy()
        away = np.linalg.norm(codec.decode(maps)[0][0].numpy() - whole_map_decode(array, codec)[0], axis=1)
        row(
            case,
            lambda maps=maps: codec.decode(maps),
            lambda array=array: whole_map_decode(array, codec),
            f'{np.quantile(away, 0.95):.1e} px (95 %)',
        )

    photo = tuple(args.photo)
    coarse = torch.randn(1, 28, 16, 12, generator=generator) * 4
    logits = F.interpolate(coarse, size=(1024, 768), mode='bicubic')[0]
    sy, sx = 1024 / photo[0], 768 / photo[1]
    warp = torch.tensor([[sx, 0, sx / 2 - 0.5], [0, sy, sy / 2 - 0.5]], dtype=torch.float64)

    def ours() -> torch.Tensor:
        return argmax_to_original(logits, warp, photo)

    def plain() -> torch.Tensor:
        return F.interpolate(logits[None], size=photo, mode='bilinear', align_corners=False)[0].argmax(0)

    differ = float((ours().long() != plain()).float().mean())
    row(f'parts: 28 logits to {photo[1]} x {photo[0]}', ours, plain, f'{differ:.1e} of pixels')
    Console(width=120).print(table)


if __name__ == '__main__':
    main()
