# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Ways to read images for pretraining, side by side on the same images: a folder, tar shards, litdata's chunks.

Every way delivers each image once, shuffled; that is checked first. Rounds alternate between the ways. Printed are the
CPU-milliseconds of one process that reads (and, with --decode, decodes) an image, medians over the rounds.

Usage: python benchmarks/streaming.py [--images 600] [--rounds 5] [--decode] [--size 1024 768]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from sapiens.datasets import ImageFolderDataset, LitdataImageDataset, ShardImageDataset
from sapiens.datasets.image_files import decode_image
from sapiens.datasets.storage import read_bytes
from sapiens.engine.sampling import PlainOrder


def make_images(count: int, size: tuple[int, int]) -> list[bytes]:
    """JPEGs of the demo photo at quality 90, all different."""
    photo = cv2.resize(cv2.imread(str(ROOT / 'demo/images/000000000785.jpg')), size[::-1])
    return [
        cv2.imencode('.jpg', cv2.add(np.roll(photo, i % photo.shape[1], 1), i % 60), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        .tobytes()
        for i in range(count)
    ]  # fmt: skip


def write_all(images: list[bytes], folder: Path) -> None:
    """The same images as files, as tar shards of 100, and as litdata's chunks of 100."""
    from litdata.streaming.cache import Cache

    for name in ('files', 'shards', 'litdata'):
        (folder / name).mkdir()
    writer = Cache(str(folder / 'litdata'), chunk_size=100)
    for i, data in enumerate(images):
        (folder / 'files' / f'{i:06d}.jpg').write_bytes(data)
        writer[i] = {'image': data}
        with tarfile.open(folder / 'shards' / f'{i // 100:06d}.tar', 'a' if i % 100 else 'w') as tar:
            info = tarfile.TarInfo(f'{i:06d}.jpg')
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    writer.done()
    writer.merge()


def main() -> None:
    """Make the images, check that all ways deliver the same, time them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=600)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--decode', action='store_true')
    parser.add_argument('--size', type=int, nargs=2, default=(1024, 768), metavar=('H', 'W'))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_all(make_images(args.images, tuple(args.size)), folder)
        ways = readers(folder, args.images)
        found = {name: sorted(hashlib.sha256(data).hexdigest() for data in read(0)) for name, read in ways.items()}
        first = next(iter(found.values()))
        assert all(hashes == first for hashes in found.values()) and len(set(first)) == args.images
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(1, args.rounds + 1):
            for name, read in ways.items():
                begin = time.process_time()
                for data in read(number):
                    if args.decode:
                        decode_image(data, name)
                times[name].append((time.process_time() - begin) / args.images * 1000)
    table = Table('way', 'CPU-ms an image', 'ratio', title=f'{args.images} images, {args.rounds} rounds')
    base = float(np.median(times['tar shards, in order']))
    for name, values in times.items():
        median = float(np.median(values))
        table.add_row(name, f'{median:.3f}', f'{median / base:.2f}')
    Console().print(table)


def readers(folder: Path, count: int) -> dict[str, Callable]:
    """Name -> function of an epoch that yields the bytes of each image once."""
    from litdata import StreamingDataset

    files = ImageFolderDataset(data_root=str(folder / 'files'))
    shards = ShardImageDataset(str(folder / 'shards'))
    chunks = LitdataImageDataset(str(folder / 'litdata'))
    order = shards.draw_order(0, 16, 1, 1)
    chunk_order = chunks.draw_order(0, 16, 1, 1)
    plain = PlainOrder(count, 0, True)

    def numbers(epoch: int) -> np.ndarray:
        return np.arange(epoch * count, (epoch + 1) * count)

    def own(dataset: ShardImageDataset, how: Callable) -> Callable:
        return lambda epoch: (dataset._read(*dataset._locate(int(i)))[1] for i in how(numbers(epoch)))

    return {
        'folder of files': lambda epoch: (
            read_bytes(files.get_data_info(int(i))['img_path']) for i in plain(numbers(epoch))
        ),
        'tar shards, in order': own(shards, order),
        'tar shards, at random': own(shards, plain),
        "litdata's chunks, our order": own(chunks, chunk_order),
        "litdata's own loader": lambda epoch: (
            bytes(sample['image']) for sample in StreamingDataset(str(folder / 'litdata'), shuffle=True, seed=epoch)
        ),
    }  # fmt: skip


if __name__ == '__main__':
    main()
