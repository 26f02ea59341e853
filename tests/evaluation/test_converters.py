# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Each public layout, made small, becomes a manifest whose labels are those that went in."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from in_process import run_tool
from test_normal import ball

from sapiens.datasets import Manifest
from sapiens.datasets.label_files import decode_depth, decode_ids, decode_mask, decode_normals


def convert(name, *arguments):
    return run_tool(f'dataset_converters/{name}.py', *arguments)


def png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def photo(path, height=80, width=60, seed=0):
    png(path, np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def entries(folder):
    manifest = Manifest(folder)
    return manifest.header, {entry['id']: entry for entry in manifest.entries()}


def read(entry, kind, decode, *arguments):
    return decode(Path(entry['files'][kind]).read_bytes(), kind, *arguments)


@pytest.mark.parametrize('inside', ['', 'TrainVal'])
def test_lip(tmp_path, inside):
    root = tmp_path / 'lip'
    images = root / ('TrainVal_images' if inside else '') / 'val_images'
    labels = root / ('TrainVal_parsing_annotations' if inside else '') / 'val_segmentations'
    parts = np.random.default_rng(0).integers(0, 20, (80, 60), dtype=np.uint8)
    for i in range(3):
        photo(images / f'{i}_{i}.jpg', seed=i)
        png(labels / f'{i}_{i}.png', np.roll(parts, i, 0))
    done = convert('lip', root, tmp_path / 'out', '--limit', 2)
    assert done.code == 0 and '2 samples' in done.out, done.error
    header, found = entries(tmp_path / 'out')
    assert header['parts'] == 'parts20' and list(found) == ['0_0', '1_1']
    np.testing.assert_array_equal(read(found['1_1'], 'parts', decode_ids), np.roll(parts, 1, 0))
    assert Path(found['0_0']['files']['image']).read_bytes() == (images / '0_0.jpg').read_bytes()
    again = convert('lip', root, tmp_path / 'out')
    assert again.code == 1 and 'holds a manifest already' in again.error


def test_cihp_with_persons(tmp_path):
    root = tmp_path / 'cihp' / 'instance-level_human_parsing' / 'Validation'
    photo(root / 'Images' / '0000001.jpg')
    humans = np.zeros((80, 60), np.uint8)
    humans[10:30, 5:15], humans[20:60, 30:50] = 1, 3
    png(root / 'Human_ids' / '0000001.png', humans)
    png(root / 'Category_ids' / '0000001.png', (humans > 0).astype(np.uint8) * 5)
    done = convert('cihp', tmp_path / 'cihp', tmp_path / 'out')
    assert done.code == 0, done.error
    _, found = entries(tmp_path / 'out')
    entry = found['0000001']
    assert [person['bbox'] for person in entry['fields']['persons']] == [[5, 10, 10, 20], [30, 20, 20, 40]]
    assert np.unique(read(entry, 'instances', decode_ids)).tolist() == [0, 1, 2]
    assert read(entry, 'parts', decode_ids).max() == 5


def test_nyu_style_depth(tmp_path):
    depth = np.random.default_rng(0).integers(500, 9000, (80, 60)).astype(np.uint16)
    depth[:5] = 0
    photo(tmp_path / 'rgb' / 'a.jpg')
    photo(tmp_path / 'rgb' / 'b.jpg')
    png(tmp_path / 'depth' / 'a_d.png', depth)
    mask = np.zeros((80, 60), np.uint8)
    mask[20:50, 10:40] = 255
    png(tmp_path / 'masks' / 'a_d.png', mask)
    options = ['--images', 'rgb', '--depth', 'depth', '--mask', 'masks', '--suffix', '_d', '--depth-unit', 0.0002]
    done = convert('folders', tmp_path, tmp_path / 'out', *options)
    assert done.code == 0 and '1 images lack one of depth, mask' in done.out, done.error
    header, found = entries(tmp_path / 'out')
    np.testing.assert_allclose(
        read(found['a'], 'depth', decode_depth, header['depth_scale']), depth * 0.0002, rtol=1e-5
    )
    assert read(found['a'], 'mask', decode_mask).sum() == 900


SIGNS = {'x-right y-up z-viewer': (1, 1, 1), 'opencv': (1, -1, -1), 'x-right y-down z-viewer': (1, -1, 1)}


@pytest.mark.parametrize('axes', SIGNS)
@pytest.mark.parametrize('bits', [8, 16])
def test_normals_of_declared_axes(tmp_path, axes, bits):
    normals, mask = ball()
    top = 2**bits - 1
    coded = (np.moveaxis(normals, 0, -1) * SIGNS[axes] + 1) / 2 * top
    coded = (np.round(coded) * mask[..., None]).astype(np.uint8 if bits == 8 else np.uint16)
    photo(tmp_path / 'rgb' / 'a.png')
    png(tmp_path / 'normal' / 'a.png', coded[..., ::-1])
    base = [tmp_path, tmp_path / 'out', '--images', 'rgb', '--normals', 'normal']
    wrong = next(name for name in SIGNS if name != axes)
    done = convert('folders', *base, '--normal-axes', wrong)
    assert done.code == 1 and f"they look like '{axes}'" in done.error and '--trust-axes' in done.error
    assert not (tmp_path / 'out').exists()
    done = convert('folders', *base, '--normal-axes', axes)
    assert done.code == 0, done.error
    header, found = entries(tmp_path / 'out')
    got = read(found['a'], 'normals', decode_normals, header['normal_axes'])
    assert np.abs(np.moveaxis(got, -1, 0) - normals)[:, mask].max() < (0.02 if bits == 8 else 1e-3)
    assert not got[~mask].any()
    swapped = convert('folders', *base[:1], tmp_path / 'out2', *base[2:], '--normal-axes', axes, '--bgr')
    assert swapped.code == 1 and 'red and blue seem swapped' in swapped.error
    trusted = convert('folders', *base[:1], tmp_path / 'out3', *base[2:], '--normal-axes', wrong, '--trust-axes')
    assert trusted.code == 0


def test_thuman_renders(tmp_path):
    normals, mask = ball()
    coded = ((np.moveaxis(normals, 0, -1) + 1) * 127.5).round().astype(np.uint8)
    alpha = (mask * 255).astype(np.uint8)[..., None]
    for scan in ('0001', '0002'):
        for view in ('000', '090'):
            colour = np.full((80, 60, 3), 90, np.uint8)
            png(tmp_path / 'renders' / scan / 'render' / f'{view}.png', np.concatenate([colour, alpha], -1))
            png(tmp_path / 'renders' / scan / 'normal_F' / f'{view}.png', np.concatenate([coded[..., ::-1], alpha], -1))
            png(tmp_path / 'renders' / scan / 'depth_F' / f'{view}.png', (mask * 2500).astype(np.uint16))
    done = convert('thuman', tmp_path / 'renders', tmp_path / 'out', '--views', '90', '--depth-unit', 0.001)
    assert done.code == 0, done.error
    header, found = entries(tmp_path / 'out')
    assert list(found) == ['0001_090', '0002_090']
    entry = found['0002_090']
    np.testing.assert_array_equal(read(entry, 'mask', decode_mask), mask)
    got = np.moveaxis(read(entry, 'normals', decode_normals), -1, 0)
    assert np.abs(got - normals)[:, mask].max() < 0.02
    np.testing.assert_allclose(read(entry, 'depth', decode_depth)[mask], 2.5, rtol=1e-6)


def write_ball_obj(path, centre, radius, steps=60):
    """A ball of quads; the poles are closed by their own rings."""
    angles = np.linspace(0, np.pi, steps)
    turns = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    grid = np.stack(np.meshgrid(angles, turns, indexing='ij'), -1).reshape(-1, 2)
    points = np.stack(
        [np.sin(grid[:, 0]) * np.cos(grid[:, 1]), np.cos(grid[:, 0]), np.sin(grid[:, 0]) * np.sin(grid[:, 1])], 1
    )
    lines = [f'v {x} {y} {z}' for x, y, z in points * radius + centre]
    for i in range(steps - 1):
        for j in range(steps):
            a, b = i * steps + j, i * steps + (j + 1) % steps
            lines.append(f'f {a + 1} {b + 1} {b + steps + 1} {a + steps + 1}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines))


def test_hi4d_draws_depth_and_normals_from_the_scan(tmp_path):
    """A ball before a pinhole camera: depth and normals are known in closed form."""
    pytest.importorskip('numba')
    action = tmp_path / 'hi4d' / 'pair00' / 'hug00'
    photo(action / 'images' / '4' / '000001.jpg', 90, 120)
    centre, radius = np.array([0.1, -0.05, 3.0]), 0.8
    turn = cv2.Rodrigues(np.array([0.2, -0.4, 0.1]))[0]
    shift = np.array([0.3, 0.2, 0.5])
    write_ball_obj(action / 'frames' / 'mesh-f00001.obj', turn.T @ (centre - shift), radius)
    intrinsics = np.array([[100.0, 0, 58], [0, 100, 44], [0, 0, 1]])
    (action / 'cameras').mkdir()
    extrinsics = np.concatenate([turn, shift[:, None]], 1)
    np.savez(action / 'cameras' / 'rgb_cameras.npz', ids=np.array([4]), intrinsics=intrinsics[None],
             extrinsics=extrinsics[None], dist_coeffs=np.zeros((1, 5)))  # fmt: skip
    for person in ('0', '1'):
        mask = np.zeros((90, 120), np.uint8)
        mask[20:60, (40 if person == '0' else 70) : (60 if person == '0' else 90)] = 255
        png(action / 'seg' / 'img_seg_mask' / '4' / person / '000001.png', mask)
    done = convert('hi4d', tmp_path / 'hi4d', tmp_path / 'out', '--cameras', '4')
    assert done.code == 0, done.error
    header, found = entries(tmp_path / 'out')
    entry = found['pair00_hug00_4_000001']
    depth = read(entry, 'depth', decode_depth, header['depth_scale'])
    normals = read(entry, 'normals', decode_normals)
    rows, columns = np.mgrid[:90, :120]
    rays = np.stack([(columns - 58) / 100, (rows - 44) / 100, np.ones((90, 120))], -1)
    a, b, c = (rays**2).sum(-1), -2 * rays @ centre, centre @ centre - radius**2
    root = b**2 - 4 * a * c
    hit = root > 0
    expected = np.where(hit, (-b - np.sqrt(np.maximum(root, 0))) / (2 * a), 0)
    inner = cv2.erode(hit.astype(np.uint8), np.ones((7, 7))) > 0
    assert ((depth > 0) != hit).sum() < 0.02 * hit.sum()
    assert np.abs(depth - expected)[inner].max() < 0.012
    outward = (rays * expected[..., None] - centre) / radius * [1, -1, -1]
    angle = np.degrees(np.arccos(np.clip((normals * outward).sum(-1), -1, 1)))
    assert angle[inner].max() < 4
    assert [person['bbox'] for person in entry['fields']['persons']] == [[40, 20, 20, 40], [70, 20, 20, 40]]
    np.testing.assert_allclose(entry['fields']['camera']['K'], intrinsics)


def test_failures_are_one_line_and_leave_no_manifest(tmp_path):
    def line(*arguments):
        done = convert(*arguments)
        assert done.code == 1 and done.error.count('\n') == 1
        assert not (tmp_path / 'out' / 'manifest.json').exists()
        return done.error

    (tmp_path / 'empty').mkdir()
    for name in ('lip', 'cihp', 'hi4d', 'thuman'):
        assert str(tmp_path / 'empty') in line(name, tmp_path / 'empty', tmp_path / 'out')
    photo(tmp_path / 'rgb' / 'a.jpg')
    png(tmp_path / 'd' / 'a.png', np.ones((40, 60), np.uint16))
    text = line('folders', tmp_path, tmp_path / 'out', '--images', 'rgb', '--depth', 'd')
    assert 'a.jpg: the image is 80x60 but its depth are 40x60 (H x W)' in text
    assert 'give at least one folder' in line('folders', tmp_path, tmp_path / 'out', '--images', 'rgb')
    png(tmp_path / 'lip' / 'val_segmentations' / 'a.png', np.zeros((80, 60), np.uint8))
    photo(tmp_path / 'lip' / 'val_images' / 'b.jpg')
    assert 'a.png: its image is missing' in line('lip', tmp_path / 'lip', tmp_path / 'out')


@pytest.mark.parametrize(
    ('tool', 'arguments', 'words'),
    [
        ('dataset_converters/lip.py', ['a', 'b', '--limit', -1], 'no whole number of at least 1'),
        ('dataset_converters/hi4d.py', ['a', 'b', '--every', 0], 'no whole number of at least 1'),
        ('dataset_converters/thuman.py', ['a', 'b', '--views', '0,left'], "invalid numbers value: '0,left'"),
        ('analyze_logs.py', ['a', '--smooth', 0], 'no whole number of at least 1'),
        ('get_flops.py', ['c.py', '--shape', 0, 5], 'no whole number of at least 1'),
    ],
)
def test_numbers_that_make_no_sense_are_one_line(tool, arguments, words):
    done = run_tool(tool, *arguments)
    assert done.code == 2 and words in done.error.splitlines()[-1] and 'Traceback' not in done.error
