# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The manifest format: what is written is read back; kills, resumes and malformed files."""

import json
import os

import cv2
import numpy as np
import pytest

from sapiens.datasets import HumanManifestDataset
from sapiens.datasets import label_files as lf
from sapiens.datasets import manifest as m
from sapiens.datasets import manifest_writer as w
from sapiens.datasets.image_files import IMAGE_EXTENSIONS
from sapiens.datasets.shard_images import ShardImageDataset
from sapiens.datasets.storage import list_tar, read_bytes
from sapiens.errors import UserError
from sapiens.utils.files import write_atomic


def sphere_normals(size=16):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    x, y = x / size * 2.2, -y / size * 2.2
    z = np.sqrt(np.maximum(1 - x**2 - y**2, 0))
    return np.where((z > 0)[..., None], np.stack([x, y, z], -1), 0).astype(np.float32)


def make_sample(rng, size=16, k=17):
    depth = rng.uniform(0.5, 9, (size, size))
    depth[:3] = 0
    return dict(
        image=rng.integers(0, 255, (size, size, 3), np.uint8),
        parts=rng.integers(0, 28, (size, size), np.uint8),
        depth=depth,
        normals=sphere_normals(size),
        instances=rng.integers(0, 3, (size, size), np.uint8),
        persons=[{'bbox': [1, 2, 3, 4], 'keypoints': rng.uniform(0, size, (k, 3))}],
        camera={'K': [[1, 0, 0], [0, 1, 0], [0, 0, 1]]},
    )


def test_labels_survive_their_files():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 256, (9, 7), np.uint8)
    assert (lf.decode_ids(lf.encode_ids(ids), 'x') == ids).all()
    depth = rng.uniform(0.0001, 60, (9, 7))
    depth[0] = [0, np.nan, np.inf, -1, 0.0004, 0, 0]
    back = lf.decode_depth(lf.encode_depth(depth), 'x')
    assert (back[0] == np.float32([0, 0, 0, 0, 0.001, 0, 0])).all(), 'unknown stays 0, near never becomes unknown'
    np.testing.assert_allclose(back[1:], depth[1:], atol=0.0005001)
    lossless = lf.decode_depth(lf.encode_npz(depth.astype(np.float32)), 'x')
    assert (lossless[1:] == depth[1:].astype(np.float32)).all() and (lossless[0, :4] == 0).all()
    normals = sphere_normals()
    for bits, tolerance in ((8, 0.008), (16, 4e-5)):
        back = lf.decode_normals(lf.encode_normals(normals, bits), 'x')
        assert (back.any(-1) == normals.any(-1)).all()
        np.testing.assert_allclose(back, normals, atol=tolerance)
    for signs, axes in (
        ((1, -1, -1), 'opencv'),
        ((1, -1, 1), 'x-right y-down z-viewer'),
        ((-1, 1, 1), 'x-left y-up z-viewer'),
    ):
        given = lf.decode_normals(lf.encode_npz(normals * np.float32(signs)), 'x', axes)
        np.testing.assert_allclose(given, normals, atol=1e-6)
    assert (lf.decode_mask(lf.encode_ids(ids), 'x') == (ids > 0)).all()


def test_normals_png_is_the_familiar_picture():
    facing = np.zeros((1, 2, 3), np.float32)
    facing[0, 0, 2] = 1
    rgb = cv2.imdecode(np.frombuffer(lf.encode_normals(facing), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert rgb[0, 0].tolist() == [128, 128, 255] and rgb[0, 1].tolist() == [0, 0, 0]


def test_palette_png_gives_indices_not_colours(tmp_path):
    from PIL import Image

    ids = np.arange(20, dtype=np.uint8).reshape(4, 5)
    image = Image.fromarray(ids, 'P')
    image.putpalette([c for i in range(256) for c in (255 - i, i, 7)])
    image.save(tmp_path / 'p.png')
    assert (lf.decode_ids((tmp_path / 'p.png').read_bytes(), 'p.png') == ids).all()


@pytest.mark.parametrize(
    ('function', 'data', 'message'),
    [
        (lf.decode_ids, b'', 'f.png: the file is empty'),
        (lf.decode_ids, b'hello', 'f.png: not a readable image'),
        (lf.decode_ids, lf.encode_image(np.zeros((4, 4, 3), np.uint8)), 'f.png: a JPEG cannot hold label ids'),
        (lf.decode_ids, lf.encode_normals(sphere_normals()), 'f.png: holds colours'),
        (lf.decode_ids, lf.encode_depth(np.full((2, 2), 1.0)), 'f.png: id 1000 is beyond 255'),
        (lf.decode_depth, lf.encode_normals(sphere_normals()), 'f.png: depth needs one channel'),
        (lf.decode_normals, lf.encode_ids(np.ones((4, 4))), 'f.png: normals need three channels'),
        (lf.decode_depth, lf.encode_npz(np.zeros((2, 2)))[:60], 'f.png: not a readable array'),
    ],
)
def test_bad_label_files_are_named(function, data, message):
    with pytest.raises(UserError, match=message):
        function(data, 'f.png')


@pytest.mark.parametrize(('extension', 'side'), [('.jpg', 65501), ('.webp', 16384)])
def test_an_image_that_no_file_can_hold_is_refused(extension, side):
    with pytest.raises(UserError, match=f'1x{side} pixels do not fit a {extension}'):
        lf.encode_image(np.zeros((side, 1, 3), np.uint8), extension)


def test_a_folder_whose_writer_was_killed_says_so(tmp_path):
    writer = w.ManifestWriter(tmp_path)
    writer.write('a', np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(UserError, match='manifest.jsonl: not there yet: .* give its command again'):
        list(m.Manifest(tmp_path).entries())
    w.ManifestWriter(tmp_path).close()
    assert [entry['id'] for entry in m.Manifest(tmp_path).entries()] == ['a']


def test_depth_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match='larger depth_scale'):
        lf.encode_depth(np.array([[70.0]]))


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / 'a.npy', np.array([{}], object), allow_pickle=True)
    with pytest.raises(UserError, match='without pickled objects'):
        lf.decode_depth((tmp_path / 'a.npy').read_bytes(), 'a.npy')


def test_write_read_and_pack(tmp_path):
    rng = np.random.default_rng(1)
    samples = {f'{i:06d}': make_sample(rng) for i in (2, 0, 1)}
    with w.ManifestWriter(
        tmp_path / 'a', keypoints='coco17', parts='parts28', image_extension='.png', seed=3
    ) as writer:
        for key, sample in samples.items():
            assert key not in writer
            writer.write(key, **sample)
            assert key in writer
    w.pack_shards(tmp_path / 'a', tmp_path / 'b', samples_per_shard=2)
    assert m.Manifest(tmp_path / 'a').header['seed'] == 3
    for folder in ('a', 'b'):
        manifest = m.Manifest(tmp_path / folder)
        entries = list(manifest.entries())
        assert [e['id'] for e in entries] == ['000000', '000001', '000002']
        for entry in entries:
            sample, files = samples[entry['id']], {k: read_bytes(r) for k, r in entry['files'].items()}
            assert set(files) == {'image', 'parts', 'depth', 'normals', 'instances'}
            assert (lf.decode_ids(files['parts'], '') == sample['parts']).all()
            np.testing.assert_allclose(lf.decode_depth(files['depth'], ''), sample['depth'], atol=0.000501)
            record = manifest.read_record(entry['record'])
            assert record == entry['fields'] and record['width'] == 16 and 'K' in record['camera']
            np.testing.assert_allclose(record['persons'][0]['keypoints'], sample['persons'][0]['keypoints'], atol=5e-4)
    assert len(list_tar(tmp_path / 'b/shards/000000.tar')) == 2 * 6


@pytest.mark.parametrize(('size', 'more'), [(2, 1), (2, 0), (3, 0), (1, 2), (5, 4)])
def test_shards_packed_again_hold_every_sample_once(tmp_path, size, more):
    rng = np.random.default_rng(1)
    with w.ManifestWriter(tmp_path / 'a', keypoints='coco17', parts='parts28') as writer:
        for i in range(3):
            writer.write(f'{i:06d}', **make_sample(rng))
    w.pack_shards(tmp_path / 'a', tmp_path / 'b', samples_per_shard=2)
    # It leaves its index.
    assert len(ShardImageDataset(data_root=str(tmp_path / 'b/shards'))) == 3
    kept = (tmp_path / 'b/shards/000000.tar').stat().st_mtime_ns
    with w.ManifestWriter(tmp_path / 'a', keypoints='coco17', parts='parts28') as writer:
        for i in range(3, 3 + more):
            writer.write(f'{i:06d}', **make_sample(rng))
    w.pack_shards(tmp_path / 'a', tmp_path / 'b', samples_per_shard=size)
    assert [e['id'] for e in m.Manifest(tmp_path / 'b').entries()] == [f'{i:06d}' for i in range(3 + more)]
    assert len(ShardImageDataset(data_root=str(tmp_path / 'b/shards'))) == 3 + more
    assert ((tmp_path / 'b/shards/000000.tar').stat().st_mtime_ns == kept) == (size == 2)


def test_killed_writer_resumes_and_torn_files_never_show(tmp_path):
    rng = np.random.default_rng(2)
    first = w.ManifestWriter(tmp_path, keypoints='coco17', parts='parts28')
    first.write('a', **make_sample(rng))  # killed here: no close()
    (tmp_path / 'records/.b.json.xyz.tmp').write_text('{"torn')
    with w.ManifestWriter(tmp_path, keypoints='coco17', parts='parts28') as second:
        assert 'a' in second and 'b' not in second and len(second) == 1
        kept = os.stat(tmp_path / 'images/a.jpg').st_mtime_ns
        second.write('a', **make_sample(rng))
        assert os.stat(tmp_path / 'images/a.jpg').st_mtime_ns == kept
        second.write('b', **make_sample(rng))
        (tmp_path / 'records/.b.json.xyz.tmp').unlink()
    assert [e['id'] for e in m.Manifest(tmp_path).entries()] == ['a', 'b']
    with w.ManifestWriter(tmp_path, keypoints='coco17', parts='parts28') as third:
        assert len(third) == 2
        third.write('c', **make_sample(rng))
        (tmp_path / 'records').mkdir(exist_ok=True)
        # as after a kill between gathering and removing the records
        first_line = (tmp_path / 'manifest.jsonl').read_bytes().splitlines()[0]
        (tmp_path / 'records/a.json').write_bytes(first_line + b'\n')
    assert [e['id'] for e in m.Manifest(tmp_path).entries()] == ['a', 'b', 'c']
    assert not (tmp_path / 'records').exists()


def test_failing_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'replace', lambda *a: (_ for _ in ()).throw(OSError('disk')))
    with pytest.raises(OSError, match='disk'):
        write_atomic(tmp_path / 'x', b'1')
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_wrong_samples(tmp_path):
    rng = np.random.default_rng(3)
    writer = w.ManifestWriter(tmp_path, keypoints='coco17', parts='parts28')
    good = make_sample(rng)
    with pytest.raises(UserError, match='part id 200 is outside the 28 classes'):
        writer.write('a', **{**good, 'parts': np.full((16, 16), 200, np.uint8)})
    with pytest.raises(UserError, match=r'depth is \(3, 3\)'):
        writer.write('a', **{**good, 'depth': np.ones((3, 3))})
    with pytest.raises(UserError, match=r'keypoints are \(5, 3\)'):
        writer.write('a', **{**good, 'persons': [{'keypoints': np.zeros((5, 3))}]})
    with pytest.raises(UserError, match='file name'):
        writer.write('../a', **good)
    with pytest.raises(UserError, match='another parts'):
        w.ManifestWriter(tmp_path, keypoints='coco17', parts='parts20')
    assert not (tmp_path / 'images').exists(), 'a refused sample leaves no file'
    writer.write('a', **{**good, 'persons': [{'bbox': None, 'keypoints': None}]})  # nothing known of somebody
    assert json.loads((tmp_path / 'records/a.json').read_text())['persons'] == [{'bbox': None, 'keypoints': None}]
    points = np.full((17, 3), 2.0)
    points[3] = np.nan, np.inf, 0
    writer.write('b', **{**good, 'persons': [{'bbox': [1, 1, 9, 9], 'keypoints': points}]})
    assert json.loads((tmp_path / 'records/b.json').read_text())['persons'][0]['keypoints'][2:4] == [
        [2, 2, 2],
        [None, None, 0],
    ]
    writer.close()
    data = HumanManifestDataset(str(tmp_path), sample_per='person')
    assert len(data) == 1 and data[0]['keypoints_visible'].tolist() == [2] * 3 + [0] + [2] * 13


def test_malformed_manifests_are_named(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        m.Manifest(tmp_path)
    (tmp_path / 'manifest.json').write_text('{"format": ')
    with pytest.raises(UserError, match='manifest.json: not valid JSON'):
        m.Manifest(tmp_path)
    (tmp_path / 'manifest.json').write_text(json.dumps({'format': 'other/2'}))
    with pytest.raises(UserError, match="format is 'other/2'"):
        m.Manifest(tmp_path)
    (tmp_path / 'manifest.json').write_text(json.dumps({'format': m.FORMAT, 'normal_axes': 'left'}))
    with pytest.raises(UserError, match="unknown normal_axes 'left'"):
        m.Manifest(tmp_path)
    (tmp_path / 'manifest.json').write_text(json.dumps({'format': m.FORMAT}))
    (tmp_path / 'manifest.jsonl').write_text('{"id": "a", "image": "a.jpg"}\n\n{"id": "b"\n')
    with pytest.raises(UserError, match='manifest.jsonl#line 3: not valid JSON'):
        list(m.Manifest(tmp_path).entries())
    (tmp_path / 'manifest.jsonl').write_text('{"id": "a"}\n')
    with pytest.raises(UserError, match='has no "image"'):
        list(m.Manifest(tmp_path).entries())


def test_cut_shard_is_named(tmp_path):
    with w.ManifestWriter(tmp_path / 'a') as writer:
        writer.write('a', image=np.zeros((64, 64, 3), np.uint8), depth=np.random.default_rng(0).uniform(1, 9, (64, 64)))
    (shard,) = w.pack_shards(tmp_path / 'a', tmp_path / 'b')
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(UserError, match='000000.tar: .*(cut off|not an uncompressed tar)'):
        list(m.Manifest(tmp_path / 'b').entries())


@pytest.mark.parametrize('extension', IMAGE_EXTENSIONS)
def test_whatever_a_folder_may_hold_a_shard_may_too(tmp_path, extension):
    (tmp_path / f'a{extension}').write_bytes(b'x')
    (tmp_path / 'manifest.json').write_text(json.dumps({'format': m.FORMAT}))
    (tmp_path / 'manifest.jsonl').write_text(json.dumps({'id': 'a', 'image': f'a{extension}', 'persons': []}))
    w.pack_shards(tmp_path, tmp_path / 'packed')
    (entry,) = m.Manifest(tmp_path / 'packed').entries()
    assert read_bytes(entry['files']['image']) == b'x'


def test_shards_are_those_of_webdataset(tmp_path):
    webdataset = pytest.importorskip('webdataset')
    rng = np.random.default_rng(4)
    samples = {key: make_sample(rng) for key in ('a', 'b')}
    with w.ManifestWriter(tmp_path / 'x', keypoints='coco17', parts='parts28', image_extension='.png') as writer:
        for key, sample in samples.items():
            writer.write(key, **sample)
    (shard,) = w.pack_shards(tmp_path / 'x', tmp_path / 'y')
    theirs = {s['__key__']: s for s in webdataset.WebDataset(str(shard), shardshuffle=False)}
    for key, sample in samples.items():
        assert (lf.decode_ids(theirs[key]['parts.png'], '') == sample['parts']).all()
        assert json.loads(theirs[key]['json'])['id'] == key
    with webdataset.TarWriter(str(tmp_path / 'theirs.tar')) as sink:
        for key, sample in samples.items():
            sink.write({'__key__': key, 'png': theirs[key]['png'], 'depth.png': lf.encode_depth(sample['depth']),
                        'json': {'id': key, 'persons': []}})  # fmt: skip
    (tmp_path / 'manifest.json').write_text(json.dumps({'format': m.FORMAT, 'files': ['theirs.tar']}))
    entries = list(m.Manifest(tmp_path).entries())
    assert [sorted(e['files']) for e in entries] == [['depth', 'image']] * 2
    back = lf.decode_depth(read_bytes(entries[1]['files']['depth']), '')
    np.testing.assert_allclose(back, samples['b']['depth'], atol=0.000501)


@pytest.mark.parametrize('parser', ['orjson', 'json'])
def test_a_record_is_the_same_by_either_parser(parser, monkeypatch):
    if parser == 'json':
        monkeypatch.setattr(m, 'orjson', None)
    elif m.orjson is None:
        pytest.skip('needs the extra [fast]')
    read = m.parse_record
    assert read(b'{"id": 123456789012345678901, "persons": null}', 'a')['id'] == 123456789012345678901
    assert read('\ufeff{"id": "\u00e9"}'.encode('utf-16'), 'a') == {'id': '\u00e9', 'persons': []}
    assert np.isnan(read(b'{"persons": [{"bbox": [NaN]}]}', 'a')['persons'][0]['bbox'][0])
    for broken in (b'{"id": 1.5}', b'[]', b'', b'{"id": 1', b'{"persons": [1]}', b'\xff{}'):
        with pytest.raises(UserError, match='^a: '):
            read(broken, 'a')
