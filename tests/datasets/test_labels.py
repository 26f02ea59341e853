# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Dense labels: only the pixels that are needed are converted, and a damaged file is one bad sample."""

import io
import struct
import zipfile
import zlib
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scenes import sphere

from sapiens.datasets import label_files
from sapiens.datasets.label_files import decode_depth, decode_ids, decode_mask, decode_normals, read_label
from sapiens.datasets.transforms import (
    LoadImage,
    LoadLabels,
    PersonBox,
    RandomAffine,
    Resize,
    TopdownAffine,
    fields,
    loading,
)
from sapiens.datasets.transforms.dense import rotation_matrix
from sapiens.datasets.transforms.fields import inside_image, warp_sample
from sapiens.errors import UserError

KINDS = ('parts', 'depth', 'normals', 'mask')
FIELDS = ('part_map', 'depth', 'normals', 'mask')


@pytest.fixture
def scene(tmp_path):
    """A sample as the data set gives it, 480 x 360, with labels in 16-bit and 8-bit PNGs."""
    made = sphere((480, 360), (160.0, 250.0), 100.0)
    made['part_map'][:60, :80] = 255
    cv2.imwrite(str(tmp_path / 'a.png'), made['img'])
    files = {
        'parts': label_files.encode_ids(made['part_map']),
        'depth': label_files.encode_depth(made['depth'], 0.0001),
        'normals': label_files.encode_normals(made['normals'], 8),
        'mask': label_files.encode_ids(made['mask'] * np.uint8(255)),
    }
    for kind, data in files.items():
        (tmp_path / f'{kind}.png').write_bytes(data)
    return dict(img_path=str(tmp_path / 'a.png'), label_files={k: str(tmp_path / f'{k}.png') for k in files},
                depth_scale=0.0001, part_vocabulary='parts28', labels=KINDS)  # fmt: skip


def whole_labels(scene):
    read = {'parts': decode_ids, 'depth': partial(decode_depth, depth_scale=0.0001), 'normals': decode_normals,
            'mask': decode_mask}  # fmt: skip
    return {f: read[k](Path(scene['label_files'][k]).read_bytes(), k) for f, k in zip(FIELDS, KINDS, strict=True)}


def plain_warp(array, place, flags, value):
    matrix, size, _ = place
    border = dict(borderMode=cv2.BORDER_REPLICATE) if value is None else dict(borderValue=value)
    return cv2.warpAffine(array, matrix[:2], size[::-1], flags=flags, **border)


def straightforward(scene, matrix, size):
    """Convert whole labels, then warp them whole, by OpenCV's own inverse."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, '_window', lambda matrix, size, shape: (slice(0, shape[0]), slice(0, shape[1])))
        patch.setattr(fields, '_warp', plain_warp)
        return {field: fields.warp_map(field, array, matrix, size) for field, array in whole_labels(scene).items()}


MAPS = {
    'shrink': (0.4, 0, 5, -9),
    'grow': (2.7, 0, -300.25, -420.5),
    'turn': (1.3, 33, 40, -100),
    'mirror': (-1.6, 10, 500, -60),
    'half': (2.0, 0, -0.5, -0.5),
    'outside': (3.0, 0, 900, 900),
    'corner': (1.0, -20, -300, -400),
}


@pytest.mark.parametrize('name', MAPS)
def test_the_needed_pixels_alone_give_the_same_labels(scene, name):
    zoom, angle, x, y = MAPS[name]
    turn = np.deg2rad(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]) * abs(zoom)
    matrix[0] *= np.sign(zoom)
    matrix[:, 2] = x, y, 1
    size = (256, 192)
    results = warp_sample(LoadImage()(dict(scene)), matrix, size)
    results = LoadLabels()(results)
    expected = straightforward(scene, matrix, size)
    if zoom < 0:
        del expected['part_map'], results['part_map']  # exchanged sides are tested elsewhere
    # OpenCV 5 rounds a pixel, and chooses between two as near, by where it lies in what is warped.
    least = 0.999 if cv2.__version__ > '5' else 1.0
    for field, array in expected.items():
        assert np.isclose(results[field], array, rtol=1e-6, atol=1e-6).mean() >= least, field


def test_conversion_is_of_the_window_only(scene, monkeypatch):
    seen = []
    original = loading.decode_normals
    monkeypatch.setattr(loading, 'decode_normals', lambda raw, **k: seen.append(raw.shape[:2]) or original(raw, **k))
    for zoom, limit in ((0.5, 128 * 96), (4.0, 44 * 36)):
        matrix = np.array([[zoom, 0, -60 * zoom], [0, zoom, -90 * zoom], [0, 0, 1]])
        LoadLabels(('normals',))(warp_sample(LoadImage()(dict(scene)), matrix, (128, 96)))
        assert np.prod(seen[-1]) <= limit


def test_labels_before_and_after_the_warp_agree_on_depth_and_padding(scene):
    box = dict(bbox=np.float32([-150, 100, 300, 420]))
    warp = TopdownAffine((128, 96), depth_scale_compensation=True, pad_part=7)
    start = LoadImage(reduce=False)(PersonBox()(dict(scene, **box)))
    before = warp(LoadLabels()(dict(start)))
    after = LoadLabels()(warp(dict(start)))
    for field in FIELDS:
        np.testing.assert_allclose(after[field], before[field], atol=1e-6, err_msg=field)
    assert (after['part_map'] == 7).any()
    plain = LoadLabels()(TopdownAffine((128, 96))(LoadImage(reduce=False)(PersonBox()(dict(scene, **box)))))
    scale = np.linalg.det(plain['warp_mat'][:2, :2]) ** 0.5
    np.testing.assert_allclose(after['depth'], plain['depth'] / scale, rtol=1e-5)
    resized = LoadLabels(('depth',))(Resize((240, 180), depth_scale_compensation=True)(LoadImage()(dict(scene))))
    assert resized['depth'].max() == pytest.approx(2 * whole_labels(scene)['depth'].max(), rel=0.01)


def test_labels_that_are_there_are_not_read_again(scene):
    pipeline = [LoadImage(), LoadLabels(('mask',)), RandomAffine((256, 192), rotate=0)]
    np.random.seed(1)
    results = dict(scene)
    for step in pipeline:
        results = step(results)
    mask = results['mask']
    scene['label_files']['mask'] = results['label_files']['mask'] = 'gone'
    results = LoadLabels()(results)
    assert results['mask'] is mask and results['depth'].shape == (256, 192)


def test_the_size_that_the_annotation_tells_is_checked(scene):
    assert LoadImage()(dict(scene, file_size=(480, 360)))['ori_shape'] == (480, 360)
    with pytest.raises(UserError, match=r'480 x 360 .*says 360 x 480: height and width are exchanged'):
        LoadImage()(dict(scene, file_size=(360, 480)))
    with pytest.raises(UserError, match=r'says 240 x 180: it was resized after labelling'):
        LoadImage()(dict(scene, file_size=(240, 180)))


def test_pixels_of_the_image_are_told_from_padding(scene):
    results = warp_sample(LoadImage()(dict(scene)), rotation_matrix((480, 360), 30), (500, 400))
    ones = cv2.warpAffine(np.ones((480, 360), np.uint8), results['warp_mat'][:2], (400, 500), flags=cv2.INTER_NEAREST)
    assert (inside_image(results) != (ones > 0)).mean() < 1e-3


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize('dtype', [np.uint16, np.int16, np.int32, np.int64, np.uint32])
def test_whole_numbers_are_units_and_floats_are_metres(dtype):
    units = np.array([[2500, 0], [100, 1]])
    for data in (npy(units.astype(dtype)), label_files.encode_npz(units.astype(dtype))):
        np.testing.assert_allclose(decode_depth(data, 'a'), units / 1000)
    np.testing.assert_allclose(decode_depth(npy(units / 1000), 'a'), units / 1000)
    np.testing.assert_allclose(decode_depth(npy(np.array([[-5, 3]], np.int32)), 'a'), [[0, 0.003]])


def test_arrays_of_ids(scene):
    for dtype in (np.int64, np.uint8, bool):
        assert decode_ids(npy(np.ones((3, 4), dtype)), 'a').tolist() == np.ones((3, 4)).tolist()
    for bad, says in ((-1, 'below 0'), (300, 'id 300 is beyond 255'), (0.5, 'not whole numbers')):
        with pytest.raises(UserError, match=says):
            decode_ids(npy(np.full((3, 4), bad)), 'a')


def damaged():
    """Label files with bytes changed, cut off, or with headers that claim the impossible."""
    rng = np.random.default_rng(0)
    whole = [
        npy(np.ones((9, 8), np.float32)),
        npy(np.ones((9, 8, 3), np.float32)),
        label_files.encode_npz(np.ones((9, 8, 3), np.float32)),
        label_files.encode_ids(np.arange(72).reshape(9, 8)),
        label_files.encode_depth(np.ones((9, 8))),
        label_files.encode_normals(np.ones((9, 8, 3)) / 3**0.5),
    ]
    from PIL import Image

    palette = io.BytesIO()
    Image.fromarray(np.arange(72, dtype=np.uint8).reshape(9, 8)).convert('P').save(palette, 'PNG')
    whole.append(palette.getvalue())
    for data in whole:
        for _ in range(60):
            copy = bytearray(data)
            for _ in range(rng.integers(1, 5)):
                copy[rng.integers(len(copy) if rng.random() < 0.4 else min(len(copy), 130))] = rng.integers(256)
            yield bytes(copy[: rng.integers(1, len(copy))] if rng.random() < 0.25 else copy)
    header = whole[0]
    for shape in (b'(9, 8)', b'(9, (', b'(-1, 8)', b'(9**9)'):
        for dtype in (b"'<f4'", b"'O'", b"'<U9'", b"'<c8'", b"'<M8'", b"[('a','<f4')]"):
            text = b"{'descr': " + dtype + b", 'fortran_order': False, 'shape': " + shape + b', }'
            yield header[:8] + (118).to_bytes(2, 'little') + text.ljust(117) + b'\n' + header[128:]
    huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 99999999), }"
    yield header[:8] + (118).to_bytes(2, 'little') + huge.ljust(117) + b'\n'
    for members in ({}, {'a.npy': header, 'b.npy': header}, {'a.npy': b'x'}, {'a.txt': b''}):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, 'w') as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        yield buffer.getvalue()
    yield from (b'', b'PK\x03\x04', b'\x93NUMPY', b'\x93NUMPY\x01\x00', b'v/1\x01' + bytes(99), b'(' * 99999)


def test_no_damaged_label_ends_in_a_traceback(recwarn):
    read, refused = 0, 0
    for data in damaged():
        for kind in (*KINDS, 'instances'):
            try:
                array = read_label(kind, data, 'label.npy')
                assert isinstance(array, np.ndarray) and array.ndim in (2, 3)
                decode = {'depth': label_files.decode_depth, 'normals': label_files.decode_normals}
                decode.get(kind, label_files.decode_mask)(array, name='label.npy')
                read += 1
            except UserError as error:
                assert 'label.npy' in str(error) and '\n' not in str(error)
                refused += 1
    assert min(read, refused) > 30


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_ids_of_few_bits_are_not_spread(bits):
    """Editors write a map of few ids with few bits a pixel, and id 1 of two bits was read as 85."""
    ids = (np.indices((6, 16)).sum(0) % 2**bits).astype(np.uint8)
    packed = np.packbits(np.unpackbits(ids[..., None], axis=-1)[..., 8 - bits :].reshape(6, -1), axis=-1)
    rows = zlib.compress(np.insert(packed, 0, 0, axis=1).tobytes())
    chunks = [(b'IHDR', struct.pack('>IIBBBBB', 16, 6, bits, 0, 0, 0, 0)), (b'IDAT', rows), (b'IEND', b'')]
    file = b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(d)) + kind + d + struct.pack('>I', zlib.crc32(kind + d)) for kind, d in chunks
    )
    assert np.array_equal(read_label('parts', file, 'a.png'), ids)
    assert np.array_equal(read_label('instances', file, 'a.png'), ids)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_the_code_of_no_normal_is_unknown(dtype):
    """Renderers write (n + 1) / 2 of the zero vector behind people: it has no direction."""
    half = np.iinfo(dtype).max // 2
    image = np.full((2, 3, 3), half, dtype)
    image[0] = half + 1
    image[0, 1], image[1, 2] = (half + 1, half, half + 1), (half + 3, half, half)
    normals = decode_normals(cv2.imencode('.png', image)[1].tobytes(), 'n.png')
    assert (normals.any(-1) == [[False, False, False], [False, False, True]]).all()


@pytest.mark.parametrize('kind', ['parts', 'instances', 'mask', 'depth'])
def test_jpegs_hold_no_labels(kind):
    """A mask of a JPEG was a fifth larger than what was drawn: every blurred edge is not 0."""
    mask = cv2.circle(np.zeros((64, 64), np.uint8), (30, 30), 17, 255, -1)
    with pytest.raises(UserError, match='^a.jpg: a JPEG cannot hold .* use PNG$'):
        read_label(kind, cv2.imencode('.jpg', mask)[1].tobytes(), 'a.jpg')


def test_instances_of_a_palette_are_its_ids():
    people = np.array([[0, 1, 2], [0, 0, 3]], np.uint8)
    image = Image.fromarray(people)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    image.save(buffer := io.BytesIO(), 'PNG')
    assert (read_label('instances', buffer.getvalue(), 'a.png') == people).all()
