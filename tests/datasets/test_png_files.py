# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The fast reader of PNGs gives what OpenCV and Pillow give, or leaves the file to them."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from sapiens.datasets import png_files
from sapiens.datasets.label_files import decode_ids, read_array
from sapiens.datasets.png_files import decode_png

RANDOM = np.random.default_rng(0)
SHAPES = [(1, 1), (7, 5), (40, 33), (33, 40, 3), (1, 9, 3)]


@pytest.fixture(params=['libdeflate', 'zlib'])
def inflate(request, monkeypatch):
    """With and without the extra."""
    if request.param == 'zlib':
        monkeypatch.setattr(png_files, 'deflate', None)
    elif png_files.deflate is None:
        pytest.skip('needs the extra [fast]')


def by_opencv(data):
    """RGB, as stored."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if image is None else image[..., ::-1] if image.ndim == 3 else image


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, 'PNG', **options)
    return buffer.getvalue()


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_what_opencv_writes(inflate, dtype):
    for shape in SHAPES:
        for top in (3, np.iinfo(dtype).max):
            image = RANDOM.integers(0, top, shape, dtype, endpoint=True)
            data = cv2.imencode('.png', image)[1].tobytes()
            found = decode_png(data)
            assert found is not None and found.dtype == dtype
            np.testing.assert_array_equal(found, by_opencv(data))
            np.testing.assert_array_equal(read_array(data, ''), image)


def test_palettes_and_files_of_pillow(inflate):
    ids = RANDOM.integers(0, 20, (31, 17), np.uint8)
    palette = Image.fromarray(ids, 'P')
    palette.putpalette(list(range(60)))
    for options in ({}, {'transparency': 0}):
        data = saved(palette, bits=8, **options)
        np.testing.assert_array_equal(decode_png(data), ids)
        np.testing.assert_array_equal(decode_ids(data, ''), ids)
    # Fewer bits, differences to the row above, alpha, interlacing: as before.
    smooth = np.add.outer(np.arange(64), np.arange(50)).astype(np.uint8)
    grey = Image.fromarray(smooth)
    others = (saved(palette, bits=4), saved(grey), saved(Image.fromarray(smooth > 40)), saved(grey, transparency=3),
              saved(Image.fromarray(np.dstack([smooth] * 4))))  # fmt: skip
    for data in others:
        found = decode_png(data)
        assert found is None or (found == by_opencv(data)).all()
        read_array(data, '')


def test_a_damaged_file_is_never_read_otherwise_than_before(inflate):
    image = RANDOM.integers(0, 4, (20, 30), np.uint8)
    data = cv2.imencode('.png', image)[1].tobytes()
    assert decode_png(data) is not None
    for place in range(8, len(data) - 12):  # behind them lies nothing but the end's own mark
        broken = bytearray(data)
        broken[place] ^= 1 << RANDOM.integers(8)
        assert decode_png(bytes(broken)) is None, place
    for length in range(0, len(data) - 12, 7):
        assert decode_png(data[:length]) is None
