# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The stages of the small models: listing sets, evaluation on photographs, scripts that at least parse."""

import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sapiens.errors import UserError

ROOT = Path(__file__).parents[2]


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f'tools/zoo/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPTS = sorted(path for path in (ROOT / 'tools/zoo').glob('*.sh') if path.stem != 'stage')
NEEDS_BASH = pytest.mark.skipif(shutil.which('bash') is None or shutil.which('timeout') is None, reason='needs bash')


@pytest.fixture
def call(tmp_path):
    """Start a script in a folder of its own, with a stand-in for python that notes its arguments, one a line."""
    (tmp_path / 'py').write_text(
        '#!/bin/bash\nprintf "%s\\n" "$@" >> "$LOG"\n[ "$1" != -c ] || echo 2\n'
        'while [ "${1:---work-dir}" != --work-dir ]; do shift; done\n'
        '[ $# = 0 ] || { mkdir -p "$2"; echo "$2/a.pth" > "$2/last_checkpoint"; }\n'
        'if grep -q synthesis/render.py "$LOG"; then eval "$RENDER"; fi\n'
    )
    (tmp_path / 'py').chmod(0o755)
    folder = tmp_path / 'her folder'
    folder.mkdir()
    base = dict(os.environ, PYTHON='../py', LOG=str(tmp_path / 'log'), RENDER=':', ASSETS='fixture', WORKERS='1')

    def start(script, *arguments, **env):
        command = [os.path.relpath(ROOT / 'tools/zoo' / f'{script}.sh', folder), *map(str, arguments)]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return subprocess.Popen(command, cwd=folder, env={**base, **env}, start_new_session=True, **pipes)

    start.log, start.folder = tmp_path / 'log', folder
    return start


@NEEDS_BASH
@pytest.mark.parametrize(
    ('script', 'name'),
    [(script, 'BACKGROUNDS') for script in ('render', 'pretrain', 'train', 'detector')]
    + [('render', 'HDRIS'), ('evaluate', 'EXCLUDE'), *[('train', name) for name in ('PEOPLE', 'IMAGES', 'FRAMES')]],
)
def test_a_folder_that_is_missing_stops_before_anything_runs(call, script, name):
    done = call(script, *(['w', '.', '.'] if script == 'evaluate' else [1]), **{name: 'no where'})
    assert f'error: {name}={call.folder}/no where: no such file or folder' in done.communicate()[1]
    assert done.returncode == 1 and not call.log.exists()


@NEEDS_BASH
@pytest.mark.parametrize('script', SCRIPTS, ids=lambda p: p.stem)
def test_a_script_says_how_to_use_it_from_any_folder(call, script):
    done = call(script.stem, '--help')
    text = ''.join(done.communicate())
    assert done.returncode == 2 and 'Usage: ' in text and f'tools/zoo/{script.name}' in text
    assert 'set -' not in text and not call.log.exists()


@NEEDS_BASH
def test_paths_are_those_of_the_caller_and_a_budget_may_be_small(call):
    from sapiens.commands.options import parse_value

    (call.folder / 'no people').mkdir()
    done = call('train', '0.6', ZOO='my zoo', WORK='my work', BACKGROUNDS='no people')
    assert (done.communicate()[1], done.returncode) == ('', 0)
    given = call.log.read_text().splitlines()
    assert given.count('tools/train.py') == 3 == given.count('default_hooks.budget.minutes=0.2')
    paths = {
        'train_dataloader.dataset.data_root': 'my zoo/train/',
        'train_dataloader.dataset.background': 'no people',
        'val_dataloader.dataset.data_root': 'my zoo/val/',
        'load_from': 'my work/sapiens_tiny_4tasks_128x96/a.pth',
    }
    for key, value in paths.items():
        assert f'{key}={call.folder}/{value}' in given
        assert parse_value(f'{call.folder}/{value}') == f'{call.folder}/{value}'
    assert f'{call.folder}/my work/sapiens_tiny_4tasks.safetensors' in given
    again = call('train', '2', ZOO='my zoo', WORK='my work')
    assert again.communicate()[0].count('trained before; remove it to train again') == 3


@NEEDS_BASH
def test_the_command_that_is_printed_can_be_copied(call):
    out, _ = call('pretrain', '1', WORK='my work').communicate()
    assert shlex.split(out)[0] == f'FROM={call.folder}/my work/tiny_mae/a.pth'


@pytest.mark.skipif(shutil.which('make') is None, reason='needs make')
@pytest.mark.parametrize('folder', [None, 'no where'])
def test_all_of_it_asks_for_its_photographs_at_once(tmp_path, folder):
    env = {key: value for key, value in os.environ.items() if key != 'BACKGROUNDS'}
    command = ['make', 'zoo', '-o', 'env', f'BIN={tmp_path}', *([f'BACKGROUNDS={folder}'] if folder else [])]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and f'error: BACKGROUNDS={folder or ""} is no folder' in done.stderr
    assert 'render.sh' not in done.stdout


@NEEDS_BASH
def test_rendering_that_fails_is_no_success(call):
    done = call('render', RENDER='exit 3')
    done.communicate()
    assert done.returncode == 3 and call.log.read_text().count('synthesis/render.py') == 1


@NEEDS_BASH
def test_ctrl_c_ends_rendering(call):
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell lets what it starts in the background ignore it
    try:
        running = call('render', RENDER='echo started; exec sleep 60')
    finally:
        signal.signal(signal.SIGINT, before)
    assert running.stdout.readline() == 'started\n'
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(20) != 0 and call.log.read_text().count('synthesis/render.py') == 1
    running.communicate()


def write_set(zoo, name, count):
    from sapiens.datasets import ManifestWriter

    for split in ('train', 'val'):
        with ManifestWriter(zoo / 'renders' / name / split, keypoints='keypoints308', parts='parts28') as writer:
            for i in range(count):
                writer.write(f'{i}', np.zeros((16, 12, 3), np.uint8), persons=[])


def test_sets_are_listed_in_the_order_in_which_they_came(tmp_path):
    from sapiens.datasets import Manifest

    list_sets = tool('list_sets').list_sets
    write_set(tmp_path, 'base', 2)
    assert list_sets(tmp_path, 'train') == ['../renders/base/train/manifest.json']
    write_set(tmp_path, 'a_later_one', 1)
    (tmp_path / 'renders/unfinished/train').mkdir(parents=True)
    assert list_sets(tmp_path, 'train') == [f'../renders/{n}/train/manifest.json' for n in ('base', 'a_later_one')]
    assert [entry['id'] for entry in Manifest(tmp_path / 'train').entries()] == ['0', '1', '0']
    assert len(list_sets(tmp_path, 'val')) == 2
    done = subprocess.run([sys.executable, ROOT / 'tools/zoo/list_sets.py', tmp_path / 'nothing'], capture_output=True)
    assert done.returncode == 1 and b'holds no finished set' in done.stderr


def test_photographs_are_evaluated(tmp_path, monkeypatch, capsys):
    from sapiens.engine.config import load_config
    from sapiens.engine.files import save_plain
    from sapiens.registry import MODELS

    config = ROOT / 'configs/multitask/sapiens_tiny_4tasks_128x96.py'
    torch.manual_seed(0)
    save_plain({'state_dict': MODELS.build(load_config(config).model).state_dict(), 'meta': {}}, tmp_path / 'w.pth')
    arguments = [str(ROOT / 'tests/data/coco_785.json'), '--images', str(ROOT / 'demo/images')]
    options = ['--config', str(config), '--weights', str(tmp_path / 'w.pth'), '--out', str(tmp_path / 'out.json')]
    evaluate = tool('evaluate')
    monkeypatch.setattr(sys, 'argv', ['evaluate.py', *arguments, *options])
    evaluate.main()
    figures = json.loads((tmp_path / 'out.json').read_text())
    assert figures['persons over 96 x 96'] == 1 and 0 <= figures['PCK@0.2'] <= 1 and figures['AP_L'] >= 0
    assert 'PCK@0.1 left_knee' in capsys.readouterr().out
    monkeypatch.setattr(sys, 'argv', ['evaluate.py', *arguments, *options, '--exclude', arguments[0]])
    with pytest.raises(UserError, match='has all images of'):
        evaluate.main()


def test_images_of_another_file_are_left_out(tmp_path):
    document = {'images': [{'id': i, 'file_name': f'{i}.jpg'} for i in range(3)], 'categories': [],
                'annotations': [{'id': i, 'image_id': i % 3} for i in range(6)]}  # fmt: skip
    (tmp_path / 'all.json').write_text(json.dumps(document))
    (tmp_path / 'some.json').write_text(json.dumps({**document, 'images': document['images'][1:2]}))
    evaluate = tool('evaluate')
    rest = evaluate.leave_out(str(tmp_path / 'all.json'), str(tmp_path / 'some.json'), str(tmp_path))
    assert {i: len(image['persons']) for i, image in evaluate.read_annotations(rest).items()} == {0: 2, 2: 2}


def test_outlined_photographs_become_training_data(tmp_path, monkeypatch):
    from sapiens.datasets import HumanManifestDataset
    from sapiens.vocabularies import load_vocabulary

    document = json.loads((ROOT / 'tests/data/coco_785.json').read_text())
    person = document['annotations'][0]
    x, y, w, h = person['bbox']
    person['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    (tmp_path / 'outlined.json').write_text(json.dumps(document))
    options = ['--images', str(ROOT / 'demo/images'), '--out', str(tmp_path / 'out')]
    monkeypatch.setattr(sys, 'argv', ['outlines.py', str(tmp_path / 'outlined.json'), *options])
    tool('outlines').main()
    steps = [dict(type='LoadImage'), dict(type='LoadLabels')]
    data = HumanManifestDataset(str(tmp_path / 'out'), sample_per='person', labels=['mask'], pipeline=steps)
    sample = data[0]
    assert sample['mask'].sum() == pytest.approx(w * h, rel=0.02) and 'part_map' not in sample
    ids = cv2.imread(sample['label_files']['instances'], cv2.IMREAD_UNCHANGED)
    assert ids.max() == 1 and ((ids > 0) == sample['mask']).all()
    names = load_vocabulary('keypoints308').names
    labelled = np.reshape(person['keypoints'], (17, 3))
    nose = sample['keypoints'][names.index('nose')]
    assert nose == pytest.approx(labelled[0, :2], abs=0.01)
    assert (sample['keypoints_visible'] > 0).sum() == (labelled[:, 2] > 0).sum()
    person.pop('segmentation')
    (tmp_path / 'plain.json').write_text(json.dumps(document))
    monkeypatch.setattr(sys, 'argv', ['outlines.py', str(tmp_path / 'plain.json'), *options])
    with pytest.raises(UserError, match='no image has outlines of all its persons'):
        tool('outlines').main()


def test_people_are_cut_out_by_colour():
    y, x = np.mgrid[:120, :90]
    person = (x - 45) ** 2 / 20**2 + (y - 70) ** 2 / 45**2 < 1
    noise = np.random.RandomState(0).randint(-8, 9, (120, 90, 3))
    image = np.clip(np.where(person[..., None], (180, 60, 40), (60, 90, 120)) + noise, 0, 255).astype(np.uint8)
    rough = (x - 46) ** 2 / 22**2 + (y - 69) ** 2 / 44**2 < 1
    mask = tool('cutouts').sharpen(image, rough)
    assert (rough != person).mean() > 0.02 and (mask != person).mean() < 0.005
    assert tool('cutouts').sharpen(image, np.zeros_like(rough)) is None


def test_points_that_are_right_count(tmp_path):
    annotations = ROOT / 'tests/data/coco_785.json'
    person = json.loads(annotations.read_text())['annotations'][0]
    points = np.reshape(person['keypoints'], (17, 3))
    pose = tool('evaluate').Pose17(str(annotations))
    pose.add(person['image_id'], person, points[:, :2].astype(float), np.ones(17))
    figures = pose.summary()
    assert figures['PCK@0.1'] == 1 and figures['AP'] == pytest.approx(1)
    off = tool('evaluate').Pose17(str(annotations))
    off.add(person['image_id'], person, points[:, :2] + 0.15 * max(person['bbox'][2:]), np.ones(17))
    assert off.summary()['PCK@0.1'] == 0 and off.summary()['PCK@0.2'] == 0  # both axes: 0.21 of the box


def test_boxes_are_matched_once():
    evaluate = tool('evaluate')
    a = np.array([[0, 0, 10, 10], [0, 0, 10, 8.0]])
    iou, inside = evaluate.overlaps(a, np.array([[0, 0, 10, 10.0]]))
    assert iou[:, 0].tolist() == [1.0, 0.8] and inside[:, 0].tolist() == [1.0, 1.0]


def test_figures_are_broken_down_by_who_was_drawn(tmp_path, monkeypatch, capsys):
    sys.path.insert(0, str(ROOT / 'tests/e2e'))
    from made_people import write_people

    people = write_people(tmp_path / 'val', count=3)
    lines = [json.loads(line) for line in (people / 'manifest.jsonl').read_text().splitlines()]
    for line, tone in zip(lines, (60, 150, 200), strict=True):
        line['persons'][0].update(traits={'skin_tone': tone, 'age': 0.9}, pose='standing')
    (people / 'manifest.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    out, sheet = tmp_path / 'table.md', tmp_path / 'sheet.png'
    options = ['breakdown.py', str(people), '--out', str(out), '--sheet', str(sheet), '--worst', '1']
    monkeypatch.setattr(sys, 'argv', options)
    tool('breakdown').main()
    rows = [[cell.strip() for cell in line.strip('|\n').split('|')] for line in out.read_text().splitlines()]
    counts = {tuple(row[:2]): int(row[2]) for row in rows[2:]}
    assert counts == {('everybody', ''): 3, ('skin tone', 'darkest'): 1, ('skin tone', 'light'): 1,
                      ('skin tone', 'lightest'): 1, ('age', 'old'): 3, ('pose', 'standing'): 3}  # fmt: skip
    assert rows[2][3:] == rows[-1][3:] == rows[-2][3:]  # everybody stands and is old
    assert all(0 <= float(value) < 180 for row in rows[2:] for value in row[3:]) and sheet.stat().st_size > 5000


def test_views_of_a_panorama_stand_upright_and_go_around(tmp_path, monkeypatch, capsys):
    rows, columns = np.mgrid[:64, :128]
    panorama = np.stack([np.where(rows < 32, 1.0, 0.05), columns / 128, np.full_like(rows, 0.1, float)], -1)
    (tmp_path / 'hdris').mkdir()
    cv2.imwrite(str(tmp_path / 'hdris/room.hdr'), panorama.astype(np.float32))  # blue sky, greener to the right
    arguments = ['views.py', str(tmp_path / 'hdris'), '--out', str(tmp_path / 'out'), '--views', '4']
    monkeypatch.setattr(sys, 'argv', arguments)
    tool('views').main()
    assert '4 pictures' in capsys.readouterr().out
    pictures = [cv2.imread(str(tmp_path / f'out/room_{i}.jpg')) for i in range(4)]
    assert [p.shape[:2] for p in pictures] == [(384, 288), *[(288, 384)] * 3]
    higher = [p[:60, :, 0].mean() - p[-60:, :, 0].mean() for p in pictures]
    assert min(higher) > 0 and sorted(higher)[1] > 50  # the sky is above; one camera hardly sees the ground
    greens = [p[..., 1].astype(float).mean() / p[..., 2].mean() for p in pictures]
    assert greens == sorted(greens)  # each looks further around
    monkeypatch.setattr(sys, 'argv', ['views.py', str(tmp_path), '--out', str(tmp_path / 'out')])
    with pytest.raises(UserError, match='has no .hdr file'):
        tool('views').main()
