# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""JPEG decoders that are installed, on the same photo: ``python benchmarks/pipeline.py --decoders`` makes the photo."""

from __future__ import annotations

import io
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from sapiens.datasets.image_files import decode_image


def compare(path: Path, rounds: int) -> None:
    """Time the JPEG decoders that are installed, whole and at half size, alternating."""
    data = path.read_bytes()
    array = np.frombuffer(data, np.uint8)
    ways: dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]] = {
        'OpenCV': (lambda: cv2.imdecode(array, cv2.IMREAD_COLOR_RGB),
                   lambda: cv2.imdecode(array, cv2.IMREAD_REDUCED_COLOR_2)),
        'ours (checked, upright)': (lambda: decode_image(data, ''), lambda: decode_image(data, '', 2)),
    }  # fmt: skip

    def pillow(reduce: bool) -> np.ndarray:
        image = Image.open(io.BytesIO(data))
        if reduce:
            image.draft('RGB', (image.width // 2, image.height // 2))
        return np.asarray(image)

    ways['Pillow'] = (lambda: pillow(False), lambda: pillow(True))
    try:
        import simplejpeg

        ways['simplejpeg'] = (lambda: simplejpeg.decode_jpeg(data),
                              lambda: simplejpeg.decode_jpeg(data, min_height=1080, min_width=1920))  # fmt: skip
        ways['simplejpeg, fast DCT and upsampling'] = (
            lambda: simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True), None
        )  # fmt: skip
    except ImportError:
        pass
    try:
        from turbojpeg import TJPF_RGB, TurboJPEG

        turbo = TurboJPEG()
        ways['PyTurboJPEG'] = (lambda: turbo.decode(data, TJPF_RGB), lambda: turbo.decode(data, TJPF_RGB, (1, 2)))
    except (ImportError, RuntimeError, OSError):
        pass
    try:
        from torchvision.io import decode_jpeg

        tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        ways['torchvision'] = (lambda: decode_jpeg(tensor), None)
    except (ImportError, RuntimeError):
        pass
    calls = {(name, i): call for name, pair in ways.items() for i, call in enumerate(pair) if call}
    times: dict[Any, list[float]] = defaultdict(list)
    for number in range(-1, rounds):
        for key, call in calls.items():
            begin = time.process_time()
            call()
            if number >= 0:
                times[key].append(time.process_time() - begin)
    table = Table(title=f'decoding {path.stat().st_size / 2**20:.1f} MiB, CPU-ms, medians of {rounds}')
    for column in ('decoder', 'whole', 'at half size'):
        table.add_column(column, justify='left' if column == 'decoder' else 'right')
    for name in ways:
        table.add_row(name, *(f'{np.median(times[name, i]) * 1e3:.1f}' if (name, i) in times else '-' for i in (0, 1)))
    Console(width=120).print(table)
