# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One call of an Inferencer: what it takes, what belongs to it, and one line for what is wrong."""

import io
import re
import shutil
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from made_photos import photo

from sapiens.apis import Detections, Inferencer, Predictor, load_model
from sapiens.apis.background import WriteBehind, read_ahead
from sapiens.datasets.image_files import pictures_in
from sapiens.errors import UserError


@pytest.fixture
def pose(make_model):
    return Inferencer(*make_model('pose'), device='cpu', flip_test=False)


JPEG = cv2.imencode('.jpg', photo()[..., ::-1])[1].tobytes()


# ---------------------------------------------------------------- what it takes


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, io.BytesIO])
def test_bytes_are_a_file_never_numbers(pose, kind, monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', lambda number: pytest.fail(f'opened camera {number}'))
    (result,) = pose(kind(JPEG))
    assert result.name == 'image' and result.size == (120, 90)
    names = [r.name for r in pose([kind(JPEG), kind(JPEG)])]
    assert names == ['image_000000', 'image_000001']
    with pytest.raises(UserError, match='image: the image is truncated'):
        list(pose(kind(JPEG[:900])))


def test_sources_that_are_none(pose, tmp_path):
    from PIL import Image

    (tmp_path / 'text.txt').write_text('words')
    for source, message in [
        ('', 'an empty path is no source'),
        ({'a': 1}, 'a dict is no source'),
        (
            Image.open(io.BytesIO(JPEG[: len(JPEG) * 2 // 3])),
            'image: the image cannot be read .image file is truncated',
        ),
        (open(tmp_path / 'text.txt'), "text.txt: was opened as text; open it as open.path, 'rb'."),  # noqa: SIM115
    ]:
        with pytest.raises(UserError, match=message):
            list(pose(source))
    (result,) = pose(np.frombuffer(JPEG, np.uint8))
    assert result.size == (120, 90)


def test_an_open_file_has_a_name(pose, tmp_path):
    (tmp_path / 'a.jpg').write_bytes(JPEG)
    with open(tmp_path / 'a.jpg', 'rb') as file:
        assert pose.predict(file).name == 'a'


def test_a_task_may_be_given_as_a_word(make_model):
    model = Inferencer(*make_model('seg', 'depth'), device='cpu')
    result = model.predict(photo(), color='rgb', tasks='seg')
    assert result.parts is not None and result.depth is None
    with pytest.raises(UserError, match="no model here does the task 'segs'; these do depth, seg"):
        model(photo(), color='rgb', tasks='segs')


def test_one_image(pose, photos):
    assert pose.predict(photos / '0.png').name == '0'
    with pytest.raises(UserError, match='predict\\(\\) is for one image; loop over model\\(source\\) for several'):
        pose.predict(photos)
    (photos / '0.png').write_bytes(b'')
    with pytest.raises(UserError, match='0.png: the image file is empty'):
        pose.predict(photos / '0.png')


def test_a_limit(pose, photos):
    assert [r.name for r in pose(photos, limit=2)] == ['0', '1']


# ---------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ('gives', 'message'),
    [
        (lambda f: None, 'the detector gave NoneType for .*, not Detections'),
        (lambda f: [[1, 2, 3, 4]], 'the detector gave list for .*, not Detections'),
        (lambda f: Detections(np.full((1, 4), np.nan), np.ones(1)), '1 boxes and 1 scores for .* not finite'),
        (lambda f: Detections(np.ones((2, 4)), np.ones(1)), '2 boxes and 1 scores'),
    ],
)
def test_a_detector_that_gives_no_boxes(pose, photos, gives, message):
    with pytest.raises(UserError, match=message) as caught:
        list(pose(photos, detect=gives))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('ahead', [False, True])
def test_images_before_an_error_come_out(pose, ahead):
    """Three images are less than a batch, so they are still waiting when the fourth cannot be had."""

    class Source:
        def __iter__(self):
            for i in range(3):
                yield photo(seed=i)
            raise KeyError('no such row')

    done = []
    with pytest.raises(UserError, match="the source: its item 3 cannot be had \\(KeyError: 'no such row'\\)"):
        for result in pose(Source() if ahead else iter(Source()), color='rgb'):
            done.append(result.index)
    assert done == [0, 1, 2]


def test_images_before_a_bad_one_come_out(pose, photos):
    (photos / '3.png').write_bytes(b'')
    done = []
    with pytest.raises(UserError, match='3.png: the image file is empty'):
        for result in pose(photos, skip_bad=False):
            done.append(result.name)
    assert done == ['0', '1', '2']


@pytest.mark.parametrize('kind', ['array', 'tensor'])
def test_a_generator_may_fill_one_array_again_and_again(pose, kind):
    """As the libraries of cameras do: the pictures of a whole batch became those of its last image."""
    frames = [photo(seed=i) for i in range(6)]
    kept = frames[0].copy()

    def camera():
        for frame in frames:
            kept[:] = frame
            yield torch.from_numpy(kept).permute(2, 0, 1) if kind == 'tensor' else kept

    for result, frame in zip(pose(camera(), color='rgb'), frames, strict=True):
        np.testing.assert_array_equal(result.image, frame)


def test_files_of_other_kinds_are_noted(pose, photos):
    (photos / 'phone.heic').write_bytes(b'x')
    results = pose(photos)
    assert len(list(results)) == 5 and not results.failures
    assert 'left out 1 HEIC (phone.heic)' in results.notes[0]


# ---------------------------------------------------------------- threads


def test_failures_belong_to_the_call(pose, photos, tmp_path):
    (photos / '0.png').write_bytes(b'')
    good = tmp_path / 'good.png'
    cv2.imwrite(str(good), photo())
    first, second = pose(photos), pose(good)
    assert len(list(second)) == 1 and len(list(first)) == 4
    assert len(first.failures) == 1 and second.failures == []
    assert pose.failures is second.failures, 'of the last call'


def test_two_threads_use_one_model(make_model, photos):
    model = Inferencer(*make_model('pose', 'seg', 'depth'), device='cpu', batch_size=2)
    expected = {r.name: r for r in model(photos)}
    found, errors = [], []

    def work(order):
        try:
            for _ in range(3):
                paths = sorted(photos.iterdir(), reverse=order)
                found.extend(model([*paths, 'nothing.jpg']))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(bool(i % 2),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(found) == 4 * 3 * 5
    for result in found:
        one = expected[result.name]
        np.testing.assert_allclose(result.keypoints.scores, one.keypoints.scores, rtol=1e-4)
        np.testing.assert_allclose(result.depth.data, one.depth.data, atol=1e-4)


def test_reading_ahead_is_bounded_and_stops_with_the_reader():
    made, closed = [], threading.Event()

    def numbers():
        try:
            for i in range(1000):
                made.append(i)
                yield i
        finally:
            closed.set()

    reader = read_ahead(numbers(), 2)
    assert next(reader) == 0
    for expected in range(1, 5):
        time.sleep(0.02)
        assert len(made) <= expected + 3
        assert next(reader) == expected
    reader.close()
    assert closed.wait(10) and len(made) < 12


def test_reading_ahead_raises_after_what_came_before():
    def numbers():
        yield 1
        yield 2
        raise OSError('gone')

    seen = []
    with pytest.raises(OSError, match='gone'):
        for number in read_ahead(numbers()):
            seen.append(number)
    assert seen == [1, 2]


def test_writing_behind_keeps_order_and_raises_the_first_error():
    with WriteBehind(workers=3) as behind:
        done = [x for i in range(20) for x in behind.submit(lambda i: (time.sleep(0.001 * (i % 3)), i)[1], i)]
        done += behind.finish()
    assert done == list(range(20))
    with pytest.raises(ZeroDivisionError), WriteBehind() as behind:
        behind.submit(lambda: 1 / 0)
        behind.finish()


# ---------------------------------------------------------------- arrays in, arrays out


def test_predictor_takes_and_gives_arrays(make_model):
    config, file = make_model('pose', 'seg', 'depth', 'normal')
    predictor = Predictor(load_model(None, file, config), flip_test=False)
    assert set(predictor.tasks) == {'pose', 'seg', 'depth', 'normal'} and predictor.topdown
    image, box = photo(120, 90), [10, 20, 70, 110]
    found = predictor.predict(image, box)
    shapes = {name: value.shape for name, value in found.items()}
    assert shapes == dict(keypoints=(133, 2), keypoint_scores=(133,), parts=(120, 90), depth=(120, 90),
                          normals=(120, 90, 3))  # fmt: skip
    assert all(isinstance(value, np.ndarray) for value in found.values())
    # Several images of several sizes in one pass say the same.
    other = photo(64, 200, 5)
    passes = []
    predictor.model.backbone.register_forward_hook(lambda *_: passes.append(1))
    both = predictor.predict_batch([image, other], [box, None])
    assert len(passes) == 1 and both[1]['depth'].shape == (64, 200)
    np.testing.assert_allclose(both[0]['keypoint_scores'], found['keypoint_scores'], rtol=1e-4)
    np.testing.assert_allclose(both[0]['depth'], found['depth'], atol=1e-4)
    assert set(predictor.predict(image, tasks=['seg'])) == {'parts'}


def test_predictor_and_inferencer_agree(make_model):
    image, boxes = photo(150, 200), [[10, 20, 90, 140], [100, 5, 190, 140]]
    model = Inferencer(*make_model('pose'), device='cpu', detector=boxes)
    result = model.predict(image, color='rgb')
    for i, box in enumerate(boxes):
        alone = model.predictors[0].predict(image, box)
        np.testing.assert_allclose(result.keypoints.xy[i], alone['keypoints'], atol=1e-3)


def test_tensors_beside(make_model):
    predictor = Inferencer(*make_model('depth'), device='cpu').predictors[0]
    inputs = torch.randn(2, 3, 64, 48)
    samples = predictor.predict_tensor(inputs)
    assert samples[1].pred_depth.shape == (1, 64, 48)
    torch.testing.assert_close(samples[1].pred_depth, predictor.model.predict(inputs)[1].pred_depth)


def test_heads_run_in_the_precision_of_the_encoder_but_for_their_last_layer(make_model):
    predictor = Inferencer(*make_model('pose', 'depth'), device='cpu', dtype='bfloat16').predictors[0]
    for head in predictor.heads.values():
        assert {p.dtype for p in head.deconv_layers.parameters()} == {torch.bfloat16}
        assert {p.dtype for p in head.final_layer.parameters()} == {torch.float32}
    outputs = predictor.model.outputs(predictor.inputs_of([torch.zeros(3, 64, 48, dtype=torch.uint8)]))
    assert {output.dtype for output in outputs.values()} == {torch.float32}


@pytest.mark.parametrize('ending', ['png', 'webp', 'tif'])
@pytest.mark.parametrize('where', ['file', 'folder', 'bytes', 'PIL'])
def test_of_an_animation_the_first_picture_is_read_and_that_is_said(pose, tmp_path, ending, where):
    from PIL import Image

    first, second = (Image.fromarray(np.full((40, 30, 3), value, np.uint8)) for value in (200, 10))
    first.save(tmp_path / f'a.{ending}', save_all=True, append_images=[second])
    path = tmp_path / f'a.{ending}'
    shutil.copy(path, tmp_path / f'b.{ending}')
    source = {'file': path, 'folder': tmp_path, 'bytes': path.read_bytes()}
    results = pose(Image.open(path) if where == 'PIL' else source[where])
    assert {int(result.image.mean()) for result in results} == {200}
    names = (
        f'a.{ending} and 1 other file' if where == 'folder' else {'bytes': 'image', 'PIL': 'a'}.get(where, path.name)
    )
    assert len(results.notes) == 1 and re.search(
        rf'{names}.*: pages or an animation, of which the first', results.notes[0]
    )
    first.save(path)
    (tmp_path / f'b.{ending}').unlink()
    results = pose(tmp_path)
    assert len(list(results)) == 1 and not results.notes


def test_smaller_copies_in_a_file_are_no_pictures():
    """Of a pyramidal TIFF and of a phone's photo; two eyes of one camera are two."""
    from PIL import Image, TiffImagePlugin

    small = TiffImagePlugin.ImageFileDirectory_v2()
    small[254] = 1
    pages = [Image.new('RGB', size) for size in ((40, 30), (20, 15))]
    pages[1].encoderinfo = {'tiffinfo': small}
    for options, count in (({}, 1), ({'pages': [pages[0]]}, 2), ({'ending': 'MPO'}, 1)):
        file = io.BytesIO()
        pages[0].save(file, options.get('ending', 'TIFF'), save_all=True, append_images=options.get('pages', pages[1:]))
        assert pictures_in(file.getvalue()) == count
        assert pictures_in(file.getvalue()[:-40]) >= 1, 'a broken file is for the decoder to name'
    stereo = bytearray(file.getvalue())
    assert pictures_in(bytes(stereo)) == 1
    place = stereo.rindex(b'\0\0\3\0', 0, 130)  # the type of the first in the index, 16 bytes before that of the second
    stereo[place : place + 4] = stereo[place + 16 : place + 20] = b'\2\0\2\0'
    assert pictures_in(bytes(stereo)) == 2
