# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""PNG files: whether one is whole, and fast reading of those that labels come in; the others are left to OpenCV.

Most of the time that libpng needs for a 4K label goes into unpacking long runs. libdeflate, where it is installed
(the extra ``[fast]``), unpacks them 6 to 40 times faster, and a row whose pixels are stored as differences to their
left neighbours, as OpenCV writes them all, is one running sum of numpy's.
"""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

# Not by an import statement, whose type would depend on what is installed.
deflate: Any = importlib.import_module('deflate') if importlib.util.find_spec('deflate') else None

_CHANNELS = {0: 1, 2: 3, 3: 1}
"""Colour type of a PNG (grey, RGB, palette) -> numbers of a pixel."""


def is_png(data: bytes) -> bool:
    """Whether the bytes begin like a PNG."""
    return data[:4] == b'\x89PNG'


def png_is_whole(data: bytes) -> bool:
    """Whether a PNG's chunks lie inside the file up to its end, and it claims no more pixels than its bytes can hold.

    Decoders take memory for what damaged lengths and sizes claim before they look whether it is there.
    """
    width, height = (int.from_bytes(data[i : i + 4], 'big') for i in (16, 20))
    bits = (data[24:25] or b'\0')[0] * {**_CHANNELS, 4: 2}.get((data[25:26] or b'\0')[0], 4)
    if width * height * bits / 8 > 1040 * len(data):  # deflate packs 1032 to 1 at best
        return False
    return any(kind == b'IEND' for kind, _, _ in _chunks(data))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each chunk of a PNG, and where its contents begin and end, which may be behind the end of the file."""
    position = 8
    while position + 12 <= len(data):
        start = position + 8
        end = start + int.from_bytes(data[position : position + 4], 'big')
        yield data[position + 4 : start], start, end
        position = end + 4


def decode_png(data: bytes) -> np.ndarray | None:
    """The numbers of a PNG as it stores them: of a palette the indices.

    Returns:
        ``(H, W)``, or ``(H, W, 3)`` RGB, of uint8 or uint16; None where OpenCV has to look: other kinds of PNG, pixels
        stored as differences to the row above, damage.
    """
    width, height = (int.from_bytes(data[i : i + 4], 'big') for i in (16, 20))
    bits, color, *others = data[24:29].ljust(5, b'\xff')
    if color not in _CHANNELS or bits not in (8, 16) or (color == 3 and bits == 16) or any(others):
        return None
    packed = _pixels(data, color)
    pixel = _CHANNELS[color] * bits // 8
    size = height * (1 + width * pixel)
    raw = _unpack(packed, size) if packed and size else b''
    if not size or len(raw) != size:
        return None
    rows = np.frombuffer(raw, np.uint8).reshape(height, 1 + width * pixel)
    kinds, stored = rows[:, 0], rows[:, 1:].reshape(height, width, pixel)
    if kinds.max() > 1:
        return None
    out = np.empty(stored.shape, np.uint8)
    if kinds.all():
        np.add.accumulate(stored, axis=1, dtype=np.uint8, out=out)
    else:
        out[:] = stored
        out[kinds == 1] = np.add.accumulate(stored[kinds == 1], axis=1, dtype=np.uint8)
    if bits == 16:
        out = out.view('>u2').astype(np.uint16)
    return out if color == 2 else out[..., 0]


def _pixels(data: bytes, color: int) -> bytes | None:
    """The packed pixels of all parts; None if a part is damaged or makes pixels transparent."""
    view, parts = memoryview(data), []
    for kind, start, end in _chunks(data):
        if zlib.crc32(view[start - 4 : end]) != int.from_bytes(data[end : end + 4], 'big'):
            return None
        if kind == b'IDAT':
            parts.append(view[start:end])
        elif kind == b'IEND':
            return b''.join(parts)
        elif kind == b'tRNS' and color != 3:
            return None
    return None


def _unpack(packed: bytes, size: int) -> bytes:
    """``size`` bytes, or others if the file does not hold them."""
    try:
        if deflate is not None:
            return deflate.zlib_decompress(packed, size)
        return zlib.decompressobj().decompress(packed, size + 1)
    except (zlib.error, getattr(deflate, 'DeflateError', zlib.error)):
        return b''
