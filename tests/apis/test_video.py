# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Videos: streamed, sound kept, breaks reported, nothing left behind; tracking and smoothing."""

import importlib.util
import json
import struct

import cv2
import numpy as np
import pytest

from sapiens.apis import Detections, Frame, Inferencer
from sapiens.apis.sources import open_frames
from sapiens.apis.stream import render_video
from sapiens.apis.tracking import OneEuroFilter, Tracker, smooth
from sapiens.errors import MissingPackageError, UserError

needs_av = pytest.mark.skipif(importlib.util.find_spec('av') is None, reason='PyAV (av) is not installed')
BOX = np.array([[10, 5, 50, 60]], np.float32)


def make_video(path, frames=30, size=(64, 80), audio=True, **options):
    """A moving square with a tone."""
    import av

    with av.open(str(path), 'w', options=options) as out:
        video = out.add_stream('libx264' if 'libx264' in av.codecs_available else 'mpeg4', rate=25)
        (video.height, video.width), video.pix_fmt = size, 'yuv420p'
        video.options = {'g': '5'}
        sound = out.add_stream('aac', rate=16000, layout='mono') if audio else None
        for i in range(frames):
            image = np.full((*size, 3), 60 + i, np.uint8)
            image[20:40, i : i + 20] = (200, 30, 30)
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
            if sound is not None:
                tone = av.AudioFrame.from_ndarray(np.sin(np.arange(640) / 9).astype(np.float32)[None], 'fltp', 'mono')
                tone.sample_rate, tone.pts = 16000, 640 * i
                out.mux(sound.encode(tone))
        for stream in filter(None, (video, sound)):
            out.mux(stream.encode())


@pytest.fixture
def pose(make_model):
    return Inferencer(*make_model('pose'), device='cpu', flip_test=False)


@needs_av
def test_frames_have_numbers_and_times(tmp_path):
    make_video(tmp_path / 'v.mp4')
    frames = list(open_frames(tmp_path / 'v.mp4'))
    assert [f.index for f in frames] == list(range(30))
    assert frames[25].time == pytest.approx(1.0) and frames[25].name == 'v_000025'
    red = (frames[7].image[..., 0].astype(int) - frames[7].image[..., 1]) > 80
    assert abs(np.argwhere(red).mean(0)[1] - 16.5) < 1.5, 'RGB, and the square where it was drawn'


@needs_av
def test_videos_of_phones_are_upright(tmp_path):
    """The track's matrix says: show it turned a quarter clockwise."""
    file = tmp_path / 'v.mp4'
    make_video(file, 3, audio=False)
    data = bytearray(file.read_bytes())
    identity = struct.pack('>9i', 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(identity, data.index(b'tkhd'))
    data[at : at + 36] = struct.pack('>9i', 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    file.write_bytes(data)
    image = next(open_frames(file)).image
    assert image.shape == (80, 64, 3)
    red = np.argwhere(image[..., 0].astype(int) - image[..., 1] > 80)
    # Rows 20 to 39 of 64 at the left edge become columns 24 to 43 at the top.
    np.testing.assert_allclose(red.min(0), [0, 24], atol=1)
    np.testing.assert_allclose(red.max(0), [19, 43], atol=1)


@needs_av
def test_sound_is_kept_and_every_frame_written(pose, tmp_path):
    import av

    make_video(tmp_path / 'v.mp4')
    count = render_video(pose, tmp_path / 'v.mp4', tmp_path / 'out.mp4').frames
    with av.open(str(tmp_path / 'out.mp4')) as out, av.open(str(tmp_path / 'v.mp4')) as source:
        assert count == out.streams.video[0].frames == 30 and out.streams.video[0].average_rate == 25
        sound = [bytes(p) for p in out.demux(audio=0) if p.size]
        assert sound == [bytes(p) for p in source.demux(audio=0) if p.size]
    lines = [json.loads(line) for line in (tmp_path / 'out.jsonl').read_text().splitlines()]
    assert [line['frame'] for line in lines] == list(range(30)) and 'nose' in lines[3]['persons'][0]['keypoints']
    render_video(pose, tmp_path / 'v.mp4', tmp_path / 'mute.mp4', audio=False, max_frames=3)
    with av.open(str(tmp_path / 'mute.mp4')) as out:
        assert not out.streams.audio and out.streams.video[0].frames == 3


@needs_av
@pytest.mark.parametrize('kind', ['cut', 'damaged'])
def test_video_that_breaks_keeps_its_good_frames_and_is_reported(pose, tmp_path, kind):
    file = tmp_path / 'v.mp4'
    make_video(file, 60, audio=False, movflags='faststart')
    data = bytearray(file.read_bytes())
    start = data.index(b'mdat')
    middle = start + (len(data) - start) // 2
    if kind == 'cut':
        data = data[:middle]
    else:
        data[middle : middle + 60] = b'\xff' * 60
    file.write_bytes(data)
    done = render_video(pose, file, tmp_path / 'out.mp4')
    count, (failure,) = done.frames, done.failures
    assert 10 <= count < 60
    assert 'v.mp4: the video breaks after' in failure.message and f'{count} good frames were read' in failure.message
    with pytest.raises(UserError, match='the video breaks after'):
        list(open_frames(file))


@needs_av
@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError])
def test_interruption_leaves_nothing_behind(pose, tmp_path, error):
    make_video(tmp_path / 'v.mp4')
    (tmp_path / 'out').mkdir()

    def stop(result, picture):
        if result.index == 5:
            raise error

    with pytest.raises(error):
        render_video(pose, tmp_path / 'v.mp4', tmp_path / 'out/out.mp4', on_frame=stop)
    assert not list((tmp_path / 'out').iterdir())


@needs_av
def test_refusals(pose, tmp_path):
    (tmp_path / 'text.mp4').write_text('I am no video')
    (tmp_path / 'empty.mp4').write_bytes(b'')
    make_video(tmp_path / 'v.mp4', 3)
    for source, out, message in [
        ('text.mp4', 'o.mp4', 'text.mp4: is no readable video'),
        ('none.mp4', 'o.mp4', 'none.mp4: no such file'),
        ('v.mp4', 'v.mp4', 'is the video itself'),
        ('v.mp4', 'o.txt', r'must end in .mp4, .mkv or .mov'),
    ]:
        with pytest.raises(UserError, match=message):
            render_video(pose, tmp_path / source, tmp_path / out)
    assert not (tmp_path / 'o.mp4').exists() and not (tmp_path / 'o.jsonl').exists()
    list(pose([tmp_path / 'empty.mp4', tmp_path / 'v.mp4']))
    assert 'empty.mp4: the video is empty' in pose.failures[0].message


def test_opencv_reads_where_pyav_is_missing(tmp_path, monkeypatch):
    from sapiens.apis import video, video_writer

    writer = cv2.VideoWriter(str(tmp_path / 'v.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (48, 32))
    for i in range(8):
        writer.write(np.full((32, 48, 3), 20 * i, np.uint8))
    writer.release()
    monkeypatch.setattr(video, 'has_av', lambda: False)
    frames = list(open_frames(tmp_path / 'v.avi'))
    assert len(frames) == 8 and abs(int(frames[5].image.mean()) - 100) < 4 and frames[5].time == pytest.approx(0.5)
    monkeypatch.setattr(video_writer, 'has_av', lambda: False)
    with pytest.raises(MissingPackageError, match='pip install av'):
        video_writer.VideoWriter(tmp_path / 'o.mp4')


# ---------------------------------------------------------------- tracking and smoothing


def people(shift):
    boxes = np.array([[10, 5, 30, 60], [80, 5, 100, 60]], np.float32)
    return boxes + np.array([shift, 0, shift, 0], np.float32)


@pytest.mark.skipif(
    not any(map(importlib.util.find_spec, ('trackers', 'supervision'))), reason='neither trackers nor supervision'
)
def test_ids_stay_with_persons_though_the_detector_changes_their_order():
    def detect(frame):
        order = [0, 1] if frame.index % 2 else [1, 0]
        return Detections(people(frame.index)[order], np.array([0.9, 0.9], np.float32))

    track = Tracker(detect)
    left = []
    for i in range(20):
        found = track(Frame(np.zeros((90, 160, 3), np.uint8), 'f', index=i))
        left += [int(found.ids[j]) for j in range(len(found.boxes)) if found.boxes[j, 0] < 60 and found.ids[j] >= 0]
    assert len(left) >= 15 and len(set(left)) == 1


def test_tracking_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(MissingPackageError, match='pip install trackers'):
        Tracker(None)


def test_one_euro_filter_calms_noise_and_follows_motion():
    noise = np.random.default_rng(0).normal(0, 0.01, 400)
    times = np.arange(400) / 30
    still = OneEuroFilter()
    calm = np.array([still(np.array([v]), t)[0] for v, t in zip(noise, times, strict=True)])
    assert calm[50:].std() < 0.5 * noise[50:].std()
    moving = OneEuroFilter(beta=5.0)
    path = np.array([moving(np.array([2 * t]), t)[0] for t in times])
    assert np.abs(path[60:] - 2 * times[60:]).max() < 0.05
    broken = OneEuroFilter()
    values = [broken(np.array([v]), t)[0] for v, t in zip([1.0, np.nan, 1.0], times, strict=False)]
    assert np.isnan(values[1]) and values[2] == 1.0


def test_smoothing_is_per_person(pose):
    def results(order):
        image = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
        for i in range(6):
            ids = np.array([[7, 8], [8, 7]][i % 2] if order else [7, 8])
            boxes = people(3 * i)[[0, 1] if ids[0] == 7 else [1, 0]]
            frames = [Frame(image, 'f', index=i, time=i / 30)]
            yield from pose(frames, detect=lambda f, b=boxes, n=ids: Detections(b, np.ones(2, np.float32), n))

    swapped, ordered = list(smooth(results(True)))[-1], list(smooth(results(False)))[-1]
    a = {p.instance_id: p.xy for p in swapped.keypoints}
    b = {p.instance_id: p.xy for p in ordered.keypoints}
    for person in (7, 8):
        np.testing.assert_allclose(a[person], b[person], atol=1e-2)
