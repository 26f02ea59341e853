# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Any image file becomes upright RGB bytes; large JPEGs are decoded small; broken files are named."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from scenes import sphere

from sapiens.datasets import label_files
from sapiens.datasets.image_files import decode_image, find_images, pictures_in, reduction_matrix, upright_size
from sapiens.datasets.transforms import LoadImage, LoadLabels, PersonBox, RandomFlip, Resize, TopdownAffine
from sapiens.datasets.transforms.base import settle
from sapiens.errors import UserError
from sapiens.utils.files import write_atomic


def smooth_image(height=64, width=88, seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def save(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_kind_of_image_becomes_rgb_bytes():
    image = smooth_image()
    grey = image[..., 0]
    assert (decode_image(save(image, 'PNG'), 'x') == image).all()
    assert (decode_image(save(grey, 'PNG'), 'x') == grey[..., None]).all()
    rgba = np.dstack([image, np.full_like(grey, 77)])
    assert (decode_image(save(rgba, 'PNG'), 'x') == image).all()
    sixteen = cv2.imencode('.png', image[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    assert (decode_image(sixteen, 'x') == image).all()
    grey16 = cv2.imencode('.png', grey.astype(np.uint16) * 257)[1].tobytes()
    assert (decode_image(grey16, 'x') == grey[..., None]).all()
    cmyk = Image.fromarray(image).convert('CMYK')
    assert np.abs(decode_image(save(cmyk, 'JPEG', quality=100), 'x').astype(int) - image).mean() < 2
    assert np.abs(decode_image(save(grey, 'JPEG', quality=95), 'x').astype(int) - grey[..., None]).mean() < 2
    for kind in ('WEBP', 'TIFF', 'BMP'):
        assert np.abs(decode_image(save(image, kind), 'x').astype(int) - image).mean() < 6
    for data in (save(image, 'JPEG'), sixteen, save(grey, 'PNG')):
        decoded = decode_image(data, 'x')
        assert decoded.dtype == np.uint8 and decoded.shape == image.shape and decoded.flags.c_contiguous


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('most', [3000, 1000], ids=['PIL warns', 'PIL refuses'])
def test_photos_of_many_megapixels_are_read_like_others(monkeypatch, most):
    """The photos of a phone (108 megapixels, or 200) made PIL warn of an attack, or were not looked into."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', most)
    image, exif = smooth_image(), Image.Exif()
    exif[0x0112] = 6
    for kind in ('JPEG', 'PNG', 'TIFF') + ('WEBP',) * (most > 2000):  # a WebP has 268 megapixels at most
        data = save(image, kind, exif=exif)
        assert upright_size(data) == ((88, 64), 6) and pictures_in(data) == 1, kind
        assert decode_image(data, 'x').shape == (88, 64, 3), kind
    ids = Image.fromarray(image[..., 0] // 16).convert('P')
    assert (label_files.decode_ids(save(ids, 'PNG', interlace=1), 'x') == np.array(ids)).all()


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_rotation_and_reduced_decoding_agree(orientation):
    """A reduced decode is the full one seen through `reduction_matrix`, also with sides that do not divide."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(smooth_image(93, 133), 'JPEG', quality=98, subsampling=0, exif=exif)
    full = decode_image(data, 'x')
    assert full.shape[:2] == ((133, 93) if orientation >= 5 else (93, 133))
    expected = np.array(Image.open(io.BytesIO(data)))
    for step in {1: [], 2: ['h'], 3: ['h', 'v'], 4: ['v'], 5: ['t'], 6: ['t', 'h'], 7: ['t', 'h', 'v'], 8: ['t', 'v']}[
        orientation
    ]:
        expected = {'h': lambda a: a[:, ::-1], 'v': lambda a: a[::-1], 't': lambda a: a.transpose(1, 0, 2)}[step](
            expected
        )
    assert np.abs(full.astype(int) - expected).mean() < 1.5
    size, found = upright_size(data)
    assert size == full.shape[:2] and found == orientation
    for reduce in (2, 4):
        small = decode_image(data, 'x', reduce)
        matrix = reduction_matrix(size, reduce, orientation)
        blurred = cv2.blur(full, (reduce, reduce), anchor=(0, 0)) if reduce > 1 else full
        # the mean of a reduce x reduce block, read at the block's upper left pixel
        rows, columns = np.mgrid[2 : small.shape[0] - 2, 2 : small.shape[1] - 2]
        inverse = np.linalg.inv(matrix)
        x = inverse[0, 0] * columns + inverse[0, 2] - (reduce - 1) / 2
        y = inverse[1, 1] * rows + inverse[1, 2] - (reduce - 1) / 2
        assert np.allclose(x, np.round(x)) and np.allclose(y, np.round(y)), 'blocks begin at whole pixels'
        blocks = blurred[np.round(y).astype(int), np.round(x).astype(int)]
        assert np.abs(blocks.astype(int) - small[2:-2, 2:-2]).mean() < 2
        shifted = blurred[np.round(y).astype(int), np.round(x).astype(int) + 1]
        assert np.abs(shifted.astype(int) - small[2:-2, 2:-2]).mean() > 2, 'a shift by one pixel is noticed'


JPEG = save(smooth_image(400, 300), 'JPEG')


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (b'', r'photo.jpg: the image file is empty \(0 bytes\)'),
        (JPEG[: len(JPEG) // 2], 'photo.jpg: the image is truncated'),
        (JPEG[:-200], 'photo.jpg: the image is truncated'),
        (JPEG[: len(JPEG) // 2] + bytes(len(JPEG) // 2), 'photo.jpg: the image is truncated'),
        (save(smooth_image(), 'PNG')[:-500], 'photo.jpg: the image is truncated'),
        (b'These are words, not pixels.\n' * 4, 'photo.jpg: is a text file'),
        (bytes(range(256)) * 4, 'photo.jpg: is no image'),
        (cv2.imencode('.tiff', np.ones((9, 9, 3), np.float32))[1].tobytes(), 'photo.jpg: holds floating-point numbers'),
        (None, 'photo.jpg: no such file'),
    ],
)
def test_broken_images_are_named(tmp_path, data, message):
    if data is not None:
        (tmp_path / 'photo.jpg').write_bytes(data)
    for size in (None, (16, 16)):
        with pytest.raises(UserError, match=message):
            LoadImage(size)(dict(img_path=str(tmp_path / 'photo.jpg')))


@pytest.mark.parametrize('progressive', [False, True])
@pytest.mark.parametrize(
    'behind', [b'maker notes' * 50, b'\xff\xda\x00\x08' * 40, np.random.default_rng(0).bytes(120000), b'\x00' * 9000]
)
def test_jpegs_with_something_behind_them_are_whole(behind, progressive):
    """Phones put a short video behind the photo, whose bytes may look like any marker."""
    whole = save(smooth_image(400, 300), 'JPEG', progressive=progressive, restart_marker_blocks=7)
    assert decode_image(whole + behind, 'x').shape == (400, 300, 3)
    with pytest.raises(UserError, match='truncated'):
        decode_image(whole[: len(whole) * 2 // 3] + b'\x00' * 99, 'x')
    with pytest.raises(UserError, match='truncated'):
        decode_image(whole[:-2], 'x')


@pytest.mark.parametrize(
    'kind', ['PNG', 'WEBP', 'TIFF', 'JPEG', *(f'{kind} with alpha' for kind in ('PNG', 'WEBP', 'TIFF'))]
)
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_is_applied_as_pil_does(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    kind, _, alpha = kind.partition(' ')
    options = dict(lossless=True, exact=True) if kind == 'WEBP' else dict(quality=98) if kind == 'JPEG' else {}
    image = smooth_image(40, 64)
    image = np.dstack([image, np.indices((40, 64)).sum(0).astype(np.uint8)]) if alpha else image
    data = save(image, kind, exif=exif, **options)
    expected = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert('RGB'))
    found = decode_image(data, 'x')
    assert found.shape == expected.shape and np.abs(found.astype(int) - expected).mean() < 2
    assert upright_size(data) == (found.shape[:2], orientation)


def test_images_of_other_kinds_are_counted_and_named(tmp_path):
    for name in ('a.heic', 'b.HEIC', 'c.avif', 'd.gif', 'd.FLV', 'e.txt', '._f.heic'):
        (tmp_path / name).write_bytes(b'x')
    with pytest.raises(
        UserError, match=r'left out 2 HEIC, 1 AVIF, 1 FLV, 1 GIF \(a.heic, b.HEIC, c.avif, ...\).*to JPEG'
    ):
        find_images(tmp_path)
    (tmp_path / 'photo.jfif').write_bytes(JPEG)
    found, note = find_images(tmp_path)
    assert found == (str(tmp_path / 'photo.jfif'),) and '2 HEIC, 1 AVIF, 1 FLV, 1 GIF' in note
    with pytest.raises(UserError, match='a.jpg: is HEIC or AVIF, which OpenCV does not read; replace it by a JPEG'):
        decode_image(b'\x00\x00\x00\x18ftypheic' + bytes(90), 'a.jpg')


def test_a_file_that_was_read_already_gives_the_same_pixels(tmp_path):
    """Also where the crop lets a JPEG be decoded at a fraction of its size."""
    (tmp_path / 'a.jpg').write_bytes(JPEG)
    for size in ((40, 30), (300, 200)):
        path = dict(img_path=str(tmp_path / 'a.jpg'), bbox=np.float32([0, 0, 299, 399]))
        one = LoadImage(size)(PersonBox()(dict(path)))
        two = LoadImage(size)(PersonBox()(dict(path, img=decode_image(JPEG, 'a'), img_bytes=JPEG)))
        assert (one['img'] == two['img']).all() and (one['warp_mat'] == two['warp_mat']).all()
        assert one['ori_shape'] == two['ori_shape'] == (400, 300) and 'img_bytes' not in two


def test_a_folder_is_not_an_image(tmp_path):
    with pytest.raises(UserError, match='is a folder'):
        LoadImage()(dict(img_path=str(tmp_path)))


@pytest.mark.parametrize(
    ('box', 'reduced'),
    [((100, 100, 400, 500), 2), ((0, 0, 1000, 1400), 8), ((10, 10, 120, 160), 1), ((300, 100, 900, 900), 4)],
)
def test_reduced_decoding_gives_the_same_crop(tmp_path, box, reduced):
    y, x = np.mgrid[:1404, :1003]
    photo = np.stack([127 + 120 * np.sin(x / 37.0), 127 + 120 * np.cos(y / 29.0), (x + y) / 10], -1).astype(np.uint8)
    path = tmp_path / 'big.jpg'
    path.write_bytes(save(photo, 'JPEG', quality=98, subsampling=0))
    points = np.float32([[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], [box[0], box[1]]])
    outs = []
    for size in ((160, 120), None):
        start = dict(img_path=str(path), bbox=np.float32(box), keypoints=points.copy(), keypoints_visible=np.ones(2))
        start = LoadImage(size)(PersonBox()(start))
        if size:
            assert start['img'].shape[:2] == (-(-1404 // reduced), -(-1003 // reduced))
        assert start['ori_shape'] == (1404, 1003)
        outs.append(TopdownAffine((160, 120))(start))
    np.testing.assert_allclose(outs[0]['warp_mat'], outs[1]['warp_mat'], atol=1e-9)
    np.testing.assert_allclose(outs[0]['keypoints'], outs[1]['keypoints'], atol=1e-3)
    inside = cv2.erode((outs[1]['img'].any(-1)).astype(np.uint8), np.ones((9, 9))) > 0
    assert np.abs(outs[0]['img'].astype(int) - outs[1]['img'])[inside].mean() < 3


def write_scene(folder, scene):
    write_atomic(folder / 'a.png', save(scene['img'], 'PNG'))
    write_atomic(folder / 'parts.png', label_files.encode_ids(scene['part_map']))
    write_atomic(folder / 'depth.png', label_files.encode_depth(scene['depth']))
    write_atomic(folder / 'normals.png', label_files.encode_normals(scene['normals'], bits=16))
    files = {k: str(folder / f'{k}.png') for k in ('parts', 'depth', 'normals')}
    return dict(img_path=str(folder / 'a.png'), label_files=files, part_vocabulary='parts28')


def test_labels_load_wherever_they_stand(tmp_path):
    start = write_scene(tmp_path, sphere())
    first, last = dict(start), dict(start)
    for step in (LoadImage(), LoadLabels(), Resize((90, 70)), RandomFlip(1.0)):
        first = step(first)
    for step in (LoadImage(), Resize((90, 70)), RandomFlip(1.0), LoadLabels()):
        last = step(last)
    for name in ('part_map', 'mask'):
        assert (first[name] != last[name]).mean() < 0.002, name
    same = (first['mask'] == 1) & (last['mask'] == 1)
    np.testing.assert_allclose(first['depth'][same], last['depth'][same], atol=0.03)
    assert (first['normals'] * last['normals']).sum(-1)[same & (first['normals'][..., 2] > 0.4)].min() > 0.99
    original = LoadLabels(frame='original')(RandomFlip(1.0)(Resize((90, 70))(LoadImage()(dict(start)))))
    assert (original['part_map'] == sphere()['part_map']).all() and original['img'].shape[:2] == (90, 70)


def test_only_the_labels_asked_for_are_read(tmp_path):
    start = write_scene(tmp_path, sphere())
    (tmp_path / 'depth.png').unlink()
    out = LoadLabels(('parts',))(LoadImage()(dict(start)))
    assert 'part_map' in out and 'depth' not in out and 'mask' not in out
    with pytest.raises(UserError, match='depth.png: no such file'):
        LoadLabels()(LoadImage()(dict(start)))


def test_label_mistakes_are_named(tmp_path):
    start = write_scene(tmp_path, sphere())
    wrong = np.zeros((120, 90), np.uint8)
    wrong[3, 4] = 200
    write_atomic(tmp_path / 'parts.png', label_files.encode_ids(wrong))
    with pytest.raises(UserError, match=r"parts.png: label 200 is outside the 28 classes of 'parts28'"):
        LoadLabels()(LoadImage()(dict(start)))
    table = np.arange(256, dtype=np.uint8)
    table[200] = 7
    out = LoadLabels()(LoadImage()({**start, 'label_map': table}))
    assert out['part_map'][3, 4] == 7 and out['part_map'].sum() == 7
    write_atomic(tmp_path / 'parts.png', label_files.encode_ids(wrong[60:]))
    with pytest.raises(UserError, match=r'parts.png: parts is 60 x 90 \(H x W\), the image 120 x 90'):
        LoadLabels()(LoadImage()(dict(start)))
    del start['label_files']['depth']
    with pytest.raises(UserError, match='a.png: has no depth, which LoadLabels asks for'):
        LoadLabels(('depth',))(LoadImage()(dict(start)))
    assert 'depth' not in LoadLabels(('depth',), optional=True)(LoadImage()(dict(start)))
    with pytest.raises(UserError, match='depht'):
        LoadLabels(('depht',))


def test_the_data_set_says_which_labels_are_read(tmp_path):
    start = LoadImage()(write_scene(tmp_path, sphere()))
    assert {'part_map', 'depth', 'normals', 'mask'} <= set(LoadLabels()(dict(start)))
    labels, parts = LoadLabels(optional=True), LoadLabels(('parts',))
    settle([labels, parts], labels=('depth', 'mask'))
    out = labels(dict(start))
    assert {'depth', 'mask'} <= set(out) and not {'part_map', 'normals'} & set(out)
    assert not {'part_map', 'depth'} & set(parts(dict(start))), 'what the data set leaves out stays out'


def test_ignored_pixels_are_no_people(tmp_path):
    scene = sphere()
    scene['part_map'][:10] = 255
    out = LoadLabels(('parts', 'mask'))(LoadImage()(write_scene(tmp_path, scene)))
    assert (out['mask'] == ((scene['part_map'] > 0) & (scene['part_map'] < 255))).all()
