# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What curating and reading an image costs, in CPU time of one thread, and what that makes for 300 million.

    python benchmarks/curation.py --images photos/ --config configs/curation/humans_offline.py

Photos are cut to squares and brought to 1024 x 1024, JPEG of quality 90. Medians over images of `time.process_time`.
Last, the FLOPs that docs/scale.md works with are compared with those that torch counts in one step of the tiny MAE.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch

from sapiens.curation.stage import build_stages, open_item
from sapiens.datasets.image_files import decode_image, list_images, upright_size
from sapiens.datasets.storage import list_tar, read_bytes
from sapiens.engine.config import load_config
from sapiens.errors import UserError, run_cli
from sapiens.registry import MODELS

SIZES = {'0.3b': (1024, 24), '0.6b': (1280, 32), '1b': (1536, 40), '2b': (1920, 48)}


def mae_flops(width: int, layers: int, tokens: int, decoder: tuple[int, int] = (512, 8), masked: float = 0.75) -> float:
    """FLOPs (2 a multiply-add) of one image forward through MAE; training takes three times as many."""

    def blocks(width: int, layers: int, tokens: int) -> float:
        return layers * (24 * width**2 * tokens + 4 * tokens**2 * width)

    seen = tokens - int(tokens * masked) + 1
    embed = 2 * 768 * width * tokens + 2 * width * decoder[0] * seen + 2 * decoder[0] * 768 * tokens
    return blocks(width, layers, seen) + blocks(*decoder, tokens + 1) + embed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', required=True, help='folder of photos')
    parser.add_argument('--config', default='configs/curation/humans_offline.py')
    parser.add_argument('--num', type=int, default=50)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    files = []
    for path in list_images(args.images)[: args.num]:
        try:
            files.append(_square(decode_image(read_bytes(path), path)))
        except UserError as error:
            print(f'left out: {error}', file=sys.stderr)
    print(
        f'{len(files)} images of 1024 x 1024, quality 90: {statistics.mean(map(len, files)) / 1000:.0f} kB on average'
    )
    _line('header', _cost(upright_size, files))
    _line('decode', _cost(lambda f: decode_image(f, 'x'), files))
    _line('decode at 1/2', _cost(lambda f: decode_image(f, 'x', 2), files))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'x.tar'
        with tarfile.open(path, 'w') as tar:
            for number, data in enumerate(files):
                info = tarfile.TarInfo(f'{number}.jpg')
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        begin = time.process_time()
        members = list(list_tar(path).values())
        _line('index of a tar', (time.process_time() - begin) / len(members))
        _line('read from a tar', _cost(read_bytes, members))
    config = load_config(args.config, {}).to_dict()
    items = [open_item('x', data, config.get('view', 1280), 2e8) for data in files]
    chosen = {name: part for name, part in config['stages'].items() if part is not None}
    for stage in build_stages({'stages': chosen}):
        stage.load()
        stage.score(items[:1])
        _line(f'stage {stage.name}', _cost(lambda i, stage=stage: stage.score([i]), items))
    image = decode_image(files[0], 'x')
    _line('encode', _cost(lambda _: cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 90]), files[:10]))
    for size, (width, layers) in SIZES.items():
        print(f'{size}: {3 * mae_flops(width, layers, 4096) / 1e12:.1f} TFLOP to train on an image')
    print(f'formula / counted, tiny: {_check():.3f}')


def _check() -> float:
    """The formula over what torch counts, for the tiny MAE."""
    from torch.utils.flop_counter import FlopCounterMode

    config = load_config('configs/pretrain/sapiens_tiny_mae.py', {})
    model = MODELS.build(config.model)
    inputs = model.data_preprocessor({'inputs': [torch.zeros(3, 256, 256, dtype=torch.uint8)]}, True)['inputs']
    with FlopCounterMode(display=False) as counter:
        model(inputs, mode='loss')
    backbone, neck = model.backbone, config.model.neck
    formula = mae_flops(backbone.embed_dims, backbone.num_layers, 256, (neck.embed_dims, neck.num_layers))
    return formula / counter.get_total_flops()


def _square(image: np.ndarray) -> bytes:
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    image = cv2.resize(image[top : top + side, left : left + side], (1024, 1024), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def _cost(function: Callable, values: list) -> float:
    times = []
    for value in values:
        begin = time.process_time()
        function(value)
        times.append(time.process_time() - begin)
    return statistics.median(times)


def _line(name: str, seconds: float) -> None:
    days = seconds * 300e6 / 86400
    print(f'{name:<18} {1000 * seconds:8.2f} ms an image   {days:10.1f} core-days for 300 M')


if __name__ == '__main__':
    run_cli(main)
