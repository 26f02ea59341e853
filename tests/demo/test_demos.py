# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The scripts that users type: files, exit codes, one line for what is wrong."""

import importlib.util
import json
import shutil
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from made_photos import photo
from PIL import Image

from sapiens.apis import files
from sapiens.datasets.image_files import find_images

needs_av = pytest.mark.skipif(importlib.util.find_spec('av') is None, reason='PyAV (av) is not installed')


@pytest.fixture
def image(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), photo()[..., ::-1])
    return tmp_path / 'a.png'


def options(pair):
    return '--config', pair[0], '--checkpoint', pair[1], '--device', 'cpu'


def test_all_tasks_of_one_image(run, make_model, image, tmp_path):
    model = options(make_model('pose', 'seg', 'depth', 'normal'))
    code, out, err = run('image_demo.py', image, *model, '--out-dir', tmp_path / 'out')
    assert (code, err) == (0, '')
    for task in ('pose', 'seg', 'depth', 'normal'):
        picture = cv2.imread(str(tmp_path / f'out/a_{task}.jpg'))
        assert picture.shape == (120, 90, 3) and str(tmp_path / f'out/a_{task}.jpg') in out
    assert len(json.loads((tmp_path / 'out/a.json').read_text())['persons'][0]['keypoints']) == 133


def test_several_models_boxes_and_one_task(run, make_model, image, tmp_path):
    models = (*options(make_model('pose'))[:4], *options(make_model('depth')))
    boxes = ('--bbox', '5,5,60,110', '--bbox', '30,10,88,118')
    code, _, _ = run('image_demo.py', image, *models, *boxes, '--out-dir', tmp_path / 'two', '--no-arrays')
    assert code == 0 and len(json.loads((tmp_path / 'two/a_coco.json').read_text())) == 2
    assert {p.name for p in (tmp_path / 'two').iterdir()} == {'a.json', 'a_coco.json', 'a_pose.jpg', 'a_depth.jpg'}
    code, _, _ = run('image_demo.py', image, *models, '--task', 'depth', '--out-dir', tmp_path / 'one')
    assert code == 0 and not (tmp_path / 'one/a_pose.jpg').exists() and (tmp_path / 'one/a_depth.png').exists()


def test_nobody_found_is_said(run, make_model, image, tmp_path):
    (tmp_path / 'boxes.json').write_text(json.dumps({image.name: []}))
    nobody = ('--detector', f'file:{tmp_path / "boxes.json"}')
    code, out, err = run('image_demo.py', image, *options(make_model('pose')), *nobody, '--out-dir', tmp_path / 'out')
    assert code == 0 and '0 person(s)' in out and 'nobody was found in 1 of 1 image(s): say --detector whole' in err
    code, out, err = run('image_demo.py', image, *options(make_model('depth')), *nobody, '--out-dir', tmp_path / 'out')
    assert (code, err) == (0, '') and 'the whole image' in out, 'nobody was looked for'


def test_three_bad_images_among_a_hundred(run, make_model, tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    good = cv2.imencode('.jpg', photo(64, 48))[1].tobytes()
    for i in range(97):
        (folder / f'{i:03d}.jpg').write_bytes(good)
    (folder / '0bad.jpg').write_text('text')
    (folder / '50bad.jpg').write_bytes(b'')
    (folder / 'zbad.jpg').write_bytes(good[: len(good) // 2])
    code, out, err = run('image_demo.py', folder, *options(make_model('pose')), '--no-flip-test', '--batch-size', 32,
                         '--out-dir', tmp_path / 'out', '--no-arrays')  # fmt: skip
    assert code == 3 and '97 image(s)' in out
    lines = err.splitlines()
    assert lines[0] == '97 done, 3 failed:' and len(lines) == 4
    for line, name in zip(lines[1:], ('0bad.jpg', '50bad.jpg', 'zbad.jpg'), strict=True):
        assert name in line
    assert len(list((tmp_path / 'out').glob('*_pose.jpg'))) == 97


def test_several_sources(run, make_model, image, tmp_path, monkeypatch):
    """A file, a folder with one of the same name and a pattern: one run, one list, a name for each; looked at once."""
    monkeypatch.chdir(tmp_path)
    listed = []
    monkeypatch.setattr(files, 'find_images', lambda folder: listed.append(str(folder)) or find_images(folder))
    for folder in ('more', 'last'):
        (tmp_path / folder).mkdir()
        shutil.copy(image, tmp_path / folder / 'a.png')
    (tmp_path / 'last/b.png').write_text('no image')
    (tmp_path / 'more/c.heic').write_bytes(b'x')
    model = options(make_model('pose'))
    code, out, err = run('image_demo.py', 'a.png', 'more', 'last/*.png', *model, '--out-dir', 'out')
    assert code == 3 and '3 done, 1 failed' in err and '3 image(s)' in out and 'b.png' in err
    assert listed == ['more'] and 'note: more: left out 1 HEIC' in err
    assert {p.name for p in (tmp_path / 'out').glob('*_pose.jpg')} == {f'a{n}_pose.jpg' for n in ('', '_1', '_2')}
    persons = json.loads((tmp_path / 'out/results_coco.json').read_text())
    assert [person['image_id'] for person in persons] == ['a', 'a_1', 'a_2']


def test_a_list_of_the_shell_holds_results_of_the_run_before(run, make_model, tmp_path):
    """`sapiens predict *.jpg --out-dir .` took the pictures of its last run for photos."""
    for name in ('a', 'b'):
        (tmp_path / f'{name}.jpg').write_bytes(cv2.imencode('.jpg', photo())[1].tobytes())
    model = options(make_model('pose'))
    for left in ('', f'the sources: left out 2 results of an earlier run, e.g. {tmp_path / "a_pose.jpg"}'):
        listed = sorted(tmp_path.glob('*.jpg'))  # as the shell makes of a pattern without quotes
        code, out, err = run('image_demo.py', *listed, *model, '--no-arrays', '--out-dir', tmp_path)
        assert code == 0 and '2 image(s)' in out and (left in err if left else not err)
    code, out, err = run('image_demo.py', tmp_path / 'a_pose.jpg', *model, '--out-dir', tmp_path / 'out')
    assert (code, err) == (0, ''), 'a file that is named alone is meant'


def test_a_box_may_begin_outside_of_the_image(run, make_model, image, tmp_path):
    """`--bbox -5,10,60,110`, as detectors give them, was taken for an option."""
    model = options(make_model('pose'))
    code, _, _ = run('image_demo.py', image, *model, '--bbox', '-5,10,60,110', '--out-dir', tmp_path / 'out')
    persons = json.loads((tmp_path / 'out/a.json').read_text())['persons']
    assert code == 0 and persons[0]['bbox_xyxy'] == [-5, 10, 60, 110]


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ('none.jpg', 'none.jpg: no such file; check the path'),
        ('*.webp', r'*.webp: no file matches this pattern'),
        ('empty', 'empty: holds no image'),
        ('', 'an empty path is no source of images'),
        ('https://a.b/c.jpg', 'https://a.b/c.jpg: is a URL; download the file first'),
    ],
)
def test_what_is_missing_among_several_is_said_first(run, image, monkeypatch, wrong, message):
    monkeypatch.chdir(image.parent)
    (image.parent / 'empty').mkdir()
    code, _, err = run('image_demo.py', 'a.png', wrong, '--model', 'no_such_model', '--out-dir', 'out')
    assert code == 1 and message in err and err.count('\n') == 1, 'before the model is looked at'
    assert not (image.parent / 'out').exists()


def test_given_masks(run, make_model, image, tmp_path):
    mask = np.zeros((120, 90), np.uint8)
    mask[30:80, 20:60] = 1
    (tmp_path / 'masks').mkdir()
    palette = Image.fromarray(mask, 'P')  # as annotation tools write ids, in a colour so dark that its grey is 0
    palette.putpalette([0, 0, 0, 0, 0, 3] + [0] * 762)
    palette.save(tmp_path / 'masks/a.png')
    model = options(make_model('depth', 'normal'))
    code, _, _ = run(
        'image_demo.py', image, *model, '--masks', tmp_path / 'masks', '--arrays', '--out-dir', tmp_path / 'out'
    )
    with np.load(tmp_path / 'out/a.npz') as arrays:
        assert code == 0 and (arrays['depth_valid'] == (mask > 0)).all()
    (tmp_path / 'masks/a.png').unlink()
    code, _, err = run('image_demo.py', image, *model, '--masks', tmp_path / 'masks', '--out-dir', tmp_path / 'out')
    assert code == 1 and 'a.png: no such mask' in err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['none.jpg'], 'none.jpg: no such file'),
        (['a.png', '--task', 'seg'], "no model here does the task 'seg'"),
        (['a.png', '--detector', 'magic'], "unknown detector 'magic'"),
        (['a.png', '--detector', 'whole', '--bbox', '1,2,3,4'], 'give --bbox or --detector'),
        (['a.png', '--checkpoint', 'b.pth'], '1 models and 2 checkpoints'),
        (['a.png', '--model', 'pose_17'], 'give --model or --config'),
    ],
)
def test_one_line_for_what_is_wrong(run, make_model, image, monkeypatch, arguments, message):
    monkeypatch.chdir(image.parent)
    code, _, err = run('image_demo.py', *arguments, *options(make_model('pose')), '--out-dir', 'out')
    assert code == 1 and err.startswith('error: ') and err.count('\n') == 1 and message in err
    assert not (image.parent / 'out').exists()


def test_model_name_without_weights(run, image, monkeypatch):
    monkeypatch.chdir(image.parent)
    code, _, err = run('image_demo.py', image, '--model', 'normal_1b')
    assert code == 1 and "model 'normal_1b': there is no sapiens_1b_normal" in err


def test_a_wrong_box_is_one_line(run, image):
    code, _, err = run('image_demo.py', image, '--bbox', '9,9,3,3')
    assert code == 1 and 'a box is x1,y1,x2,y2 with x2 > x1 and y2 > y1, not [[9.0, 9.0, 3.0, 3.0]]' in err


# ---------------------------------------------------------------- MAE


@pytest.fixture(scope='session')
def mae_file(tmp_path_factory):
    from sapiens.engine.config import load_config
    from sapiens.registry import MODELS

    model = load_config('configs/pretrain/sapiens_tiny_mae.py').model.to_dict()
    torch.manual_seed(0)
    network = MODELS.build({**model, 'type': 'sapiens.MAEPretrainer', '_scope_': 'sapiens'})
    path = tmp_path_factory.mktemp('mae') / 'mae.pth'
    torch.save(network.state_dict(), path)
    return path


def test_mae_picture_has_a_row_per_ratio(run, mae_file, image, tmp_path):
    code, out, _ = run(
        'mae_demo.py', image, '--checkpoint', mae_file, '--mask-ratio', 0.5, 0.9, '--out', tmp_path / 'm.png'
    )
    picture = cv2.imread(str(tmp_path / 'm.png'))
    assert code == 0 and 'm.png' in out
    gap = 2
    assert picture.shape == (2 * 256 + gap, 3 * 256 + 2 * gap, 3)
    # Removed patches are mid-grey: about the ratio asked for, in the second column (labels aside).
    for row, ratio in enumerate((0.5, 0.9)):
        tile = picture[row * 258 : row * 258 + 256, 258:514][48:]
        grey = (tile.reshape(13, 16, 16, 16, 3) == 128).all((1, 3, 4)).mean()
        assert abs(grey - ratio) < 0.1
    original = cv2.resize(cv2.imread(str(image)), (256, 256))
    assert np.abs(picture[48:256, :256].astype(int) - original[48:]).mean() < 2


def test_mae_refusals(run, mae_file, make_model, image, tmp_path):
    encoder = {k: v for k, v in torch.load(mae_file, weights_only=True).items() if k.startswith('backbone.')}
    torch.save(encoder, tmp_path / 'encoder.pth')
    code, _, err = run('mae_demo.py', image, '--checkpoint', tmp_path / 'encoder.pth')
    assert code == 1 and 'holds no MAE decoder' in err
    code, _, err = run('mae_demo.py', image, '--checkpoint', mae_file, '--mask-ratio', 1.5)
    assert code == 1 and '--mask-ratio lies in [0, 1), not 1.5' in err


# ---------------------------------------------------------------- video


@pytest.fixture
def video(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / 'v.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for i in range(8):
        writer.write(photo(48, 64, seed=i))
    writer.release()
    return tmp_path / 'v.avi'


@needs_av
def test_video(run, make_model, video, tmp_path):
    model = options(make_model('pose'))
    code, out, err = run('video_demo.py', video, *model, '--smooth', '--out', tmp_path / 'o.mp4')
    assert (code, err) == (0, '') and '8 frames' in out and 'fps' in out
    assert len((tmp_path / 'o.jsonl').read_text().splitlines()) == 8 and (tmp_path / 'o.mp4').stat().st_size > 1000
    code, _, err = run('video_demo.py', tmp_path / 'none.mp4', *model)
    assert code == 1 and 'none.mp4: no such video' in err


@needs_av
def test_broken_video_has_its_own_exit_code(run, make_model, video, tmp_path):
    data = video.read_bytes()
    video.write_bytes(data[: len(data) * 2 // 3])
    code, out, err = run('video_demo.py', video, *options(make_model('pose')), '--out', tmp_path / 'o.mp4')
    assert code == 3 and 'v.avi: the video breaks after' in err
    done = int(out.rpartition(' frames')[0].split()[-1])
    assert 3 <= done < 8 and len((tmp_path / 'o.jsonl').read_text().splitlines()) == done


def test_a_folder_is_no_video(run, tmp_path):
    code, _, err = run('video_demo.py', tmp_path, '--out', tmp_path / 'out.mp4')
    assert code == 1 and 'is a folder; give a video, or its images to `sapiens predict`' in err


def test_camera_that_is_not_there(run, make_model, tmp_path):
    model = options(make_model('pose'))
    if importlib.util.find_spec('av') is not None:
        code, _, err = run('webcam_demo.py', 77, *model, '--no-window', '--out', tmp_path / 'o.mp4')
        assert code == 1 and 'camera 77: cannot be opened' in err and not list(tmp_path.iterdir())
    code, _, err = run('webcam_demo.py', 77, *model, '--no-window')
    assert code == 1 and 'would do nothing' in err


@pytest.mark.parametrize(
    ('screen', 'message'), [('', 'no screen: neither DISPLAY nor'), (':0', 'this OpenCV opens no windows')]
)
def test_a_window_that_cannot_be_had_is_one_line(run, make_model, monkeypatch, screen, message):
    """OpenCV without a screen ends the process; its wheel for servers has no windows."""

    def refuse(name):
        raise cv2.error('The function is not implemented. Rebuild the library with Windows, GTK+ 2.x or Cocoa support')

    monkeypatch.setattr(cv2, 'namedWindow', refuse)
    monkeypatch.setattr(sys, 'platform', 'linux')
    monkeypatch.setenv('DISPLAY', screen)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    code, _, err = run('webcam_demo.py', 0, *options(make_model('pose')))
    assert code == 1 and err.count('\n') == 1 and message in err and '--no-window --out VIDEO' in err


@needs_av
def test_camera(run, make_model, tmp_path, monkeypatch):
    """A camera of three frames: read through OpenCV, written as a video."""

    class Camera:
        def __init__(self, number):
            self.frames = [photo(48, 64, seed=i) for i in range(3)]

        def isOpened(self):
            return True

        def get(self, prop):
            return 10.0

        def read(self):
            return (True, self.frames.pop()) if self.frames else (False, None)

        def release(self):
            pass

    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    code, out, err = run('webcam_demo.py', 0, *options(make_model('pose')), '--no-window', '--out', tmp_path / 'o.mp4')
    assert (code, err) == (0, '') and '3 frames' in out
    people = ('--smooth', '--bbox', '1,1,30,40', '--bbox', '20,5,60,45', '--out', tmp_path / 'two.mp4')
    code, _, err = run('webcam_demo.py', 0, *options(make_model('pose')), '--no-window', *people)
    assert code == 0 and err == 'note: several persons in a frame are not smoothed without a tracker; add --track\n'
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize('deep', ['', 'deep'])
def test_a_file_in_the_way_of_the_folder_is_named(run, image, make_model, tmp_path, deep):
    (tmp_path / 'out').write_text('mine')
    code, _, err = run('image_demo.py', image, *options(make_model('depth')), '--out-dir', tmp_path / 'out' / deep)
    assert code == 1 and 'out' in err and err.splitlines()[-1].endswith('a file is in the way; give another folder')


@pytest.mark.parametrize('refusal', [OSError('Cannot find empty port'), OverflowError('bind(): port must be 0-65535.')])
def test_a_port_that_cannot_be_had_is_one_line(run, monkeypatch, refusal):
    page = SimpleNamespace(launch=lambda **_: (_ for _ in ()).throw(refusal))
    monkeypatch.setattr('sapiens.apis.page.build_page', lambda *_, **__: page)
    code, _, err = run('app.py', '--device', 'cpu', '--port', 7860)
    assert code == 1 and '--port 7860: cannot be had; --port 0 takes a free one' in err
