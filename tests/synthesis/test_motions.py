# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Poses and expressions of others: files, the rig, packs of the user's own."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.errors import UserError
from sapiens.synthesis import contact, fixture, imported, poses
from sapiens.synthesis.actor import pose_actor
from sapiens.synthesis.fixture_assets import FixtureAssets
from sapiens.synthesis.makehuman import bake
from sapiens.synthesis.makehuman.bake_motions import bake_motions, load_motions
from sapiens.synthesis.makehuman.motions import (
    bvh_poses,
    converted_poses,
    load_face_units,
    read_bvh,
    read_mhpose,
)
from sapiens.synthesis.posing import Pose, bone_rotations, neutral
from sapiens.synthesis.scene import Recipe, draw_sample
from sapiens.synthesis.skeleton import rotation

SMALL = """HIERARCHY
ROOT hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT lower back
  {
    OFFSET 0 1.5 0
    CHANNELS 3 Yrotation Xrotation Zrotation
    End Site
    {
      OFFSET 0 1 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.04
1 2 3 90 90 0 0 0 0
0 0 0 0 0 0 90 0 90
"""


@pytest.fixture(scope='module')
def skeleton():
    return fixture.build(np.random.default_rng(0)).skeleton


def write_bvh(path, skeleton, frames, z_up=False, extra=''):
    """A file for our rig; ``frames``: bone -> angles about x, y, z of the file."""
    turn = rotation((1, 0, 0), 90) if z_up else np.eye(3)
    order = []

    def joint(i):
        parent = skeleton.parents[i]
        order.append(skeleton.names[i])
        offset = turn @ (skeleton.heads[i] - (skeleton.heads[parent] if parent >= 0 else 0))
        lines = [f'{"JOINT" if parent >= 0 else "ROOT"} {skeleton.names[i]}', '{', 'OFFSET {} {} {}'.format(*offset),
                 'CHANNELS 3 Xrotation Yrotation Zrotation']  # fmt: skip
        children = [c for c in range(len(skeleton.names)) if skeleton.parents[c] == i]
        for child in children:
            lines += joint(child)
        if parent < 0 and extra:
            lines += [f'JOINT {extra}', '{', 'OFFSET 0 0 0', 'CHANNELS 0', '}']
        return [*lines, *([] if children else ['End Site', '{', 'OFFSET 0 0 0', '}']), '}']

    lines = ['HIERARCHY', *joint(0), 'MOTION', f'Frames: {len(frames)}', 'Frame Time: 0.04']
    lines += [' '.join(f'{a}' for name in order for a in frame.get(name, (0, 0, 0))) for frame in frames]
    path.write_text('\n'.join(lines))
    return path


def test_bvh_channels_in_any_order(tmp_path):
    (tmp_path / 'a.bvh').write_text(SMALL)
    bvh = read_bvh(tmp_path / 'a.bvh')
    assert bvh.names == ['hips', 'lower back'] and bvh.parents.tolist() == [-1, 0] and bvh.offsets[1, 1] == 1.5
    # First channel outermost: about z after about x takes y to z; about y after about z takes x to y.
    assert np.allclose(bvh.rotations[0, 0] @ [0, 1, 0], [0, 0, 1])
    assert np.allclose(bvh.rotations[0, 0] @ [1, 0, 0], [0, 1, 0])
    assert np.allclose(bvh.rotations[1, 1] @ [1, 0, 0], [0, 1, 0])
    assert np.allclose(bvh.rotations[1, 1] @ [0, 0, 1], [1, 0, 0])
    assert np.allclose(bvh.rotations[1, 0], np.eye(3))


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_bvh_and_mhpose_as_windows_writes_them(tmp_path, encoding):
    (tmp_path / 'a.bvh').write_text(SMALL, encoding=encoding)
    assert read_bvh(tmp_path / 'a.bvh').names == ['hips', 'lower back']
    (tmp_path / 'a.mhpose').write_text('{"unit_poses": {"JawDrop": 1}}', encoding=encoding)
    assert read_mhpose(tmp_path / 'a.mhpose', {'jawdrop': {'open': 1.0}}) == {'open': 1.0}


@pytest.mark.parametrize('old, new, words', [
    ('HIERARCHY', 'HIERACHY', 'line 1: '),
    ('OFFSET 0 1.5 0', 'OFFSET 0 up 0', "line 8: a number is expected, not 'up'"),
    ('3 Yrotation', '3 Yaw', 'line 9: unknown channel'),
    ('MOTION', '', "line 17: 'FRAMES:' is out of place"),
    (' 90 0 90\n', ' 90 0\n', 'line 20: ends too early'),
    ('90 0 90\n', '90 0 90 7\n', 'line 20: there are more numbers'),
    ('Frames: 2', 'Frames: -2', 'line 19: there are more numbers'),
    ('Frames: 2', 'Frames: nan', 'line 17: a number'),
])  # fmt: skip
def test_broken_bvh_names_file_and_line(tmp_path, old, new, words):
    (tmp_path / 'a.bvh').write_text(SMALL.replace(old, new))
    with pytest.raises(UserError, match='a.bvh: ') as caught:
        read_bvh(tmp_path / 'a.bvh')
    assert words in str(caught.value)


@pytest.mark.parametrize('z_up', [False, True])
def test_bvh_moves_our_rig_as_it_says(tmp_path, skeleton, z_up):
    # 80 degrees that swing the left arm forward about the vertical, which is y or z of the file.
    angles = (0, 0, -80) if z_up else (0, -80, 0)
    frames = [{}, {'upperarm01.L': angles}, {'upperarm01.L': np.multiply(angles, 1.02)}]
    found = bvh_poses(write_bvh(tmp_path / 'a.bvh', skeleton, frames, z_up), skeleton.names)
    assert len(found) == 2  # the third frame differs too little
    rest, moved = (contact.joints(skeleton, skeleton.transforms(f, np.eye(3), np.zeros(3))) for f in found)
    assert np.allclose(rest - rest[0], skeleton.heads - skeleton.heads[0], atol=1e-9)
    elbow, shoulder = skeleton.index['lowerarm01.L'], skeleton.index['upperarm01.L']
    before, after = rest[elbow] - rest[shoulder], moved[elbow] - moved[shoulder]
    assert after[2] > before[2] + 0.05 and after[1] == pytest.approx(before[1])
    assert np.allclose(moved[skeleton.index['lowerarm01.R']], rest[skeleton.index['lowerarm01.R']])


def test_joints_of_other_rigs(tmp_path, skeleton):
    path = write_bvh(tmp_path / 'a.bvh', skeleton, [{}], extra='tail')
    with pytest.warns(UserWarning, match='1 joints are not of the rig and are ignored: tail'):
        assert 'tail' not in bvh_poses(path, skeleton.names)[0]
    (tmp_path / 'a.bvh').write_text(SMALL)
    with pytest.raises(UserError, match='a.bvh: only 0 of the'):
        bvh_poses(tmp_path / 'a.bvh', skeleton.names)


def test_converted_poses(tmp_path):
    half = np.sqrt(0.5)
    document = {'a': {'root': [half, 0, 0, half], 'jaw': [0, 0, 0, 1], 'wing': [0, 0, 0, 1]}, 'b': {}}
    (tmp_path / 'poses.json').write_text(json.dumps(document))
    found = converted_poses(tmp_path / 'poses.json', {'a', 'c'}, ('root', 'jaw'))
    assert list(found) == ['a'] and list(found['a']) == ['root']
    assert np.allclose(found['a']['root'], rotation((1, 0, 0), 90))
    (tmp_path / 'poses.json').write_text('{"a": 3}')
    with pytest.raises(UserError, match='poses.json'):
        converted_poses(tmp_path / 'poses.json', {'a'}, ('root',))


def test_mhpose(tmp_path):
    path = tmp_path / 'a.mhpose'
    path.write_text(json.dumps({'name': 'a', 'unit_poses': {'JawDrop': 0.5, 'mouthleftpullup': 2.0, 'Hum': 1}}))
    with pytest.warns(UserWarning, match='Hum'):
        assert read_mhpose(path, load_face_units()) == {'jawOpen': 0.5, 'mouthSmileLeft': 1.0}
    for text in ('{"unit_poses": [', '{"name": 1}', '{"unit_poses": {"JawDrop": "wide"}}', '[]'):
        path.write_text(text)
        with pytest.raises(UserError, match='a.mhpose: '):
            read_mhpose(path, load_face_units())


def test_face_units_keep_their_side():
    units = load_face_units()
    for unit, actions in units.items():
        other = 'Right' if 'left' in unit else 'Left'
        if ('left' in unit) != ('right' in unit):
            assert not any(action.endswith(other) for action in actions)
            twin = unit.replace('left', '*').replace('right', 'left').replace('*', 'right')
            assert sorted(units[twin].values()) == sorted(actions.values())


def library(skeleton):
    kick = {'root': rotation((1, 0, 0), 5), 'upperleg01.L': rotation((1, 0, 0), -60), 'head': rotation((0, 1, 0), 30)}
    return (imported.ImportedPose.measured('kick', kick, [skeleton]),)


def test_mirror_image(skeleton):
    bones = {'upperarm01.L': rotation((1, 2, 3), 40), 'spine03': rotation((0, 1, 1), 20)}
    again = imported.mirrored(imported.mirrored(bones))
    assert all(np.allclose(again[n], r) for n, r in bones.items())
    at = [contact.joints(skeleton, skeleton.transforms(b, np.eye(3), np.zeros(3)))
          for b in (bones, imported.mirrored(bones))]  # fmt: skip
    left, right = skeleton.index['wrist.L'], skeleton.index['wrist.R']
    assert np.allclose(at[0][left] * [-1, 1, 1], at[1][right], atol=1e-6)


def test_imported_poses_override_angles(skeleton):
    chosen = library(skeleton)[0]
    pose = poses.draw(np.random.default_rng(0), 'imported', (chosen,))
    assert pose.family == 'imported' and contact.settle_feet(skeleton, pose) is pose
    turns = bone_rotations(skeleton, pose)
    thigh = [turns[f'upperleg01.{s}'] for s in 'LR']
    assert any(np.allclose(t, chosen.bones['upperleg01.L']) for t in thigh)
    assert not np.allclose(turns['finger2-1.L'], np.eye(3))  # the file does not move fingers: they are drawn
    assert np.allclose(pose.tilt, chosen.bones['root'])


def test_imported_poses_are_drawn_where_there_are_any(skeleton):
    rng = np.random.default_rng(0)
    drawn = [poses.choose_family(rng, None, library(skeleton)) for _ in range(600)]
    assert 20 < drawn.count('imported') < 100
    assert 'imported' not in [poses.choose_family(rng) for _ in range(200)]
    assets = FixtureAssets()
    assets.poses = library(skeleton)
    recipe = Recipe(size=(96, 72), persons=(1, 1), framings=('full',), families=('imported',), samples=1, lights=6)
    sample = draw_sample(assets, recipe, 0, 0)
    assert sample.labels.persons[0]['pose'] == 'imported'


def test_what_carries_a_pose(skeleton):
    def support(bones=None, tilt=None, **angles):
        base = neutral()
        for side in 'LR':
            base.update({f'{k}.{side}': np.array(v, float) for k, v in angles.items()})
        return contact.support_of(skeleton, Pose(base, np.eye(3) if tilt is None else tilt, bones=bones or {}))

    assert support() == 'feet'
    assert support(hip=(90, 5, 0), knee=(90,)) == 'seat'
    assert support(hip=(90, 5, 0), knee=(0,)) == 'body'
    assert support(tilt=rotation((1, 0, 0), 70)) == 'air'  # leaps head first
    actor = fixture.build(np.random.default_rng(1))
    figure = pose_actor(actor, Pose(neutral(), rotation((1, 0, 0), 180)), 0, np.zeros(2))
    assert figure.mesh.vertices[:, 1].min() == pytest.approx(0, abs=1e-5)


def test_a_pack_of_the_users_own(tmp_path, skeleton):
    npm = tmp_path / 'npm'
    (npm / 'proxies/clothes/suit').mkdir(parents=True)
    (npm / 'poses').mkdir()
    proxy = {
        'metadata': {'ref_vIdxs': [[0, 1, 2]] * 3, 'weights': [[1, 0, 0]] * 3, 'offsets': [[0, 0, 0]] * 3},
        'uvs': [[0, 0, 1, 0, 1, 1]], 'faces': [0, 0, 1, 2],
    }  # fmt: skip
    (npm / 'proxies/clothes/suit/suit.json').write_text(json.dumps(proxy))
    (npm / 'poses/poses.json').write_text(json.dumps({'stand': {'root': [0, 0, 0, 1]}, 'other': {}}))
    allow = {k: {'sha256': 'x'} for k in ('base/clothes/suit/suit.mhclo', 'base/poses/stand.bvh')}
    pack, out = tmp_path / 'pack', tmp_path / 'out'
    (pack / 'clothes').mkdir(parents=True)
    out.mkdir()
    (pack / 'clothes/cap.obj').write_text('v 0 0 0\nv 1 0 0\nv 1 1 0\nvt 0 0\nf 1/1 2/1 3/1\n')
    (pack / 'clothes/cap.mhmat').write_text('name cap\ndiffuseTexture cap.png\n')
    (pack / 'clothes/cap.mhclo').write_text('obj_file cap.obj\nmaterial cap.mhmat\nverts 0\n3\n4\n5\n')
    (pack / 'clothes/plain.mhclo').write_text('obj_file cap.obj\nverts 0\n3\n4\n5\n')
    cv2.imwrite(str(pack / 'clothes/cap.png'), np.full((4, 4, 3), 50, np.uint8))
    write_bvh(pack / 'Dance.bvh', skeleton, [{}, {'upperleg01.L': (-50, 0, 0), 'finger1-1.L': (20, 0, 0)}])
    for name in ('clothes/._cap.mhclo', '._Dance.bvh', '._wow.mhpose'):
        (pack / name).write_bytes(b'\0\5\26\7Mac OS X')
    (pack / 'clothes/plain.mhclo').rename(pack / 'clothes/plain.MHCLO')
    (pack / 'wow.mhpose').write_text(json.dumps({'unit_poses': {'JawDrop': 1}}))

    sources = bake.Sources()
    bake.bake_wardrobe(npm, allow, out, sources, pack)
    assert bake_motions(npm, allow, skeleton.names, out, sources, pack) == (3, 1)
    bake.write_manifest(out, sources)
    bake.verify(out)
    with np.load(out / 'wardrobe.npz') as wardrobe, np.load(out / 'textures.npz') as textures:
        assert wardrobe['clothes/cap/refs'].tolist() == [[3] * 3, [4] * 3, [5] * 3]
        assert cv2.imdecode(textures['clothes/cap'], cv2.IMREAD_COLOR).max() == 50
        assert cv2.imdecode(textures['clothes/plain'], cv2.IMREAD_COLOR) is not None  # no material: plain
    found, expressions = load_motions(out / 'motions.npz', [skeleton])
    assert [p.name for p in found] == ['dance_0', 'dance_1', 'stand']
    assert expressions == ({'jawOpen': 1.0},)
    assert 'finger1-1.L' in found[1].bones and 'finger1-1.L' not in found[0].bones
    assert 'finger1-1.R' not in found[1].bones
    own = [s['file'] for s in sources.files if s['licence'] == "the user's own"]
    assert {'cap.mhclo', 'Dance.bvh', 'wow.mhpose'} <= set(own)
    assert load_motions(out / 'none.npz', [skeleton]) == ((), ())
