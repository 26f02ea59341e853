# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Videos: streamed, sound kept, breaks reported, nothing left behind; tracking and smoothing."""

import importlib.util
import json
import os
import struct
import sys
import unicodedata
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from sapiens.apis import Detections, Frame, ImageResult, Inferencer, KeypointSet, video_writer
from sapiens.apis.sources import open_frames
from sapiens.apis.stream import render_video
from sapiens.apis.tracking import OneEuroFilter, Tracker, smooth
from sapiens.apis.video import is_cut_off
from sapiens.datasets.image_files import VIDEO_EXTENSIONS
from sapiens.errors import MissingPackageError, UserError
from sapiens.vocabularies import load_vocabulary

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


@pytest.mark.parametrize('turned', [False, True])
def test_no_two_results_have_the_same_files(tmp_path, turned):
    """A video that was given twice, or beside a folder of its frames, wrote over its results."""
    files = []
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        writer = cv2.VideoWriter(str(tmp_path / folder / 'clip.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 25, (32, 24))
        for _ in range(2):
            writer.write(np.zeros((24, 32, 3), np.uint8))
        writer.release()
        files.append(tmp_path / folder / 'clip.avi')
    pictures = ('photo.jpg', 'photo.png', 'PHOTO.png', 'photo_coco.png', 'clip_000001.png', 'clip_000000_coco.png',
                'clip_1_000000.png', 'cafe\u0301.png', 'caf\u00e9.png', 'results.png', 'clip.png', 'new\nline.png',
                *([os.fsdecode(b'caf\xe9.png')] if sys.platform == 'linux' else []))  # fmt: skip
    for name in pictures:
        (tmp_path / 'a' / name).write_bytes(cv2.imencode('.png', np.zeros((24, 32, 3), np.uint8))[1].tobytes())
    sources = [*files, tmp_path / 'a', files[0], str(files[0])]
    frames = [*open_frames(sources[::-1] if turned else sources)]
    assert len(frames) == 8 + len(pictures)
    stems = [stem for f in frames for stem in (f.name, f'{f.name}_coco')] + ['results', 'results_coco']
    stems = [unicodedata.normalize('NFC', stem).casefold() for stem in stems]
    assert len(set(stems)) == len(stems) and all(stem.isprintable() for stem in stems)
    shots = [frame.name for frame in frames if frame.path == files[0]]
    assert all(name.rpartition('_')[2] == f'{i % 2:06d}' for i, name in enumerate(shots))
    given = [Frame(np.zeros((8, 8, 3), np.uint8), 'mine', time=0.0) for _ in range(2)]
    assert [frame.name for frame in open_frames(given)] == ['mine', 'mine_1']


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
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(MissingPackageError, match=r'pip install .sapiens-toolkit\[demo\]'):
        video_writer.VideoWriter(tmp_path / 'o.mp4')


# ---------------------------------------------------------------- times, cuts and sound as people have them


def times_of(path):
    import av

    with av.open(str(path)) as file:
        return [float(frame.time) for frame in file.decode(file.streams.video[0])]


def sound_of(path):
    """Codec, first and last second of the sound."""
    import av

    with av.open(str(path)) as file:
        if not file.streams.audio:
            return None
        frames = [frame.time for frame in file.decode(audio=0)]
        return file.streams.audio[0].codec_context.codec.canonical_name, frames[0], frames[-1]


@needs_av
@pytest.mark.parametrize('kind', ['.mp4', '.mkv', '.mov'])
def test_frames_keep_their_times(pose, tmp_path, kind):
    """Phones film at varying rates: here 20 a second, then 2, then two frames a millisecond apart."""
    import av

    seconds = [i / 20 for i in range(10)] + [0.5 + i / 2 for i in range(5)] + [2.501, 2.55]
    with av.open(str(tmp_path / 'v.mp4'), 'w') as out:
        video = out.add_stream('libx264' if 'libx264' in av.codecs_available else 'mpeg4', rate=20)
        (video.height, video.width), video.pix_fmt = (64, 80), 'yuv420p'
        video.codec_context.time_base = Fraction(1, 16000)
        sound = out.add_stream('aac', rate=16000, layout='mono')
        for i, second in enumerate(seconds):
            frame = av.VideoFrame.from_ndarray(np.full((64, 80, 3), 9 * i, np.uint8), format='rgb24')
            frame.pts, frame.time_base = round(second * 16000), Fraction(1, 16000)
            out.mux(video.encode(frame))
        for i in range(40):
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
            tone.sample_rate, tone.pts = 16000, 1024 * i
            out.mux(sound.encode(tone))
        for stream in (video, sound):
            out.mux(stream.encode())
    done = render_video(pose, tmp_path / 'v.mp4', tmp_path / f'out{kind}')
    assert done.frames == len(seconds) and not done.failures
    np.testing.assert_allclose(times_of(tmp_path / f'out{kind}'), seconds, atol=1.5e-3)
    lines = [json.loads(line)['time'] for line in (tmp_path / 'out.jsonl').read_text().splitlines()]
    np.testing.assert_allclose(lines, seconds, atol=1e-4)
    assert sound_of(tmp_path / f'out{kind}')[2] == pytest.approx(sound_of(tmp_path / 'v.mp4')[2], abs=0.07)


@needs_av
def test_a_cut_without_recoding_is_whole(pose, tmp_path):
    """Its header counts the frames before the cut too, which the edit list hides."""
    import av

    make_video(tmp_path / 'v.mp4', 60)
    with av.open(str(tmp_path / 'v.mp4')) as source, av.open(str(tmp_path / 'cut.mp4'), 'w') as out:
        streams = {s: out.add_stream_from_template(s) for s in (source.streams.video[0], source.streams.audio[0])}
        source.seek(1_080_000)
        for packet in source.demux(*streams):
            if packet.dts is not None:
                shift = round(Fraction(27, 25) / packet.time_base)
                packet.stream, packet.pts, packet.dts = streams[packet.stream], packet.pts - shift, packet.dts - shift
                out.mux(packet)
    with av.open(str(tmp_path / 'cut.mp4')) as file:
        counted = file.streams.video[0].frames
    for kind in ('.mp4', '.mkv'):
        done = render_video(pose, tmp_path / 'cut.mp4', tmp_path / f'out{kind}')
        assert not done.failures and done.frames < counted
        np.testing.assert_allclose(times_of(tmp_path / f'out{kind}'), times_of(tmp_path / 'cut.mp4'), atol=1.5e-3)


@needs_av
def test_a_header_that_counts_wrongly_is_no_damage(tmp_path):
    make_video(tmp_path / 'v.avi', 10, audio=False)
    data = bytearray((tmp_path / 'v.avi').read_bytes())
    for header, place in ((b'avih', 24), (b'strh', 40)):
        at = data.index(header) + place
        assert int.from_bytes(data[at : at + 4], 'little') == 10
        data[at : at + 4] = (25).to_bytes(4, 'little')
    (tmp_path / 'v.avi').write_bytes(data)
    assert len(list(open_frames(tmp_path / 'v.avi'))) == 10


@needs_av
@pytest.mark.parametrize('kind', ['.mp4', '.mkv', '.mov', '.avi', '.webm'])
@pytest.mark.parametrize('share', [0.6, 0.9])
def test_a_file_that_ends_early_is_noticed_whatever_it_is(tmp_path, kind, share):
    import av

    file, codec = tmp_path / f'v{kind}', 'libvpx' if kind == '.webm' else 'mpeg4'
    if codec not in av.codecs_available:
        pytest.skip(f'no encoder {codec}')
    with av.open(str(file), 'w', options=dict(movflags='faststart') if kind in ('.mp4', '.mov') else {}) as out:
        video = out.add_stream(codec, rate=25)
        (video.height, video.width), video.pix_fmt = (64, 80), 'yuv420p'
        for i in range(40):
            noise = np.random.default_rng(i).integers(0, 255, (64, 80, 3), np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(noise, format='rgb24')))
        out.mux(video.encode())
    assert not is_cut_off(file) and len(list(open_frames(file))) == 40
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert is_cut_off(file)
    good = []
    with pytest.raises(UserError, match='the video breaks after .* good frames were read'):
        for frame in open_frames(file):
            good.append(frame)
    assert 0 < len(good) < 40


SOUNDS = {'pcm_alaw': '.mov', 'pcm_mulaw': '.mov', 'pcm_s16le': '.avi', 'adpcm_ima_wav': '.avi', 'wmav2': '.avi',
          'mp2': '.mpg', 'flac': '.mkv', 'libvorbis': '.mkv', 'libopus': '.mkv', 'ac3': '.mkv'}  # fmt: skip


@needs_av
@pytest.mark.parametrize('codec', SOUNDS)
def test_any_sound_is_kept(pose, tmp_path, codec):
    import av

    if codec not in av.codecs_available:
        pytest.skip(f'no encoder {codec}')
    file, rate = tmp_path / f'v{SOUNDS[codec]}', 48000 if codec in ('libopus', 'wmav2', 'mp2', 'ac3') else 8000
    with av.open(str(file), 'w') as out:
        video = out.add_stream('mpeg2video' if codec == 'mp2' else 'mpeg4', rate=25)
        (video.height, video.width), video.pix_fmt = (64, 80), 'yuv420p'
        sound = out.add_stream(codec, rate=rate, layout='mono')
        sound.codec_context.bit_rate = 64000
        fifo = av.AudioResampler(
            sound.codec_context.format, 'mono', rate, frame_size=sound.codec_context.frame_size or None
        )
        for i in range(25):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((64, 80, 3), 9 * i, np.uint8), format='rgb24')))
            tone = (np.sin(np.arange(rate // 25) / 3) * 9000).astype(np.int16)[None]
            tone = av.AudioFrame.from_ndarray(tone, 's16', 'mono')
            tone.sample_rate, tone.pts = rate, rate // 25 * i
            for piece in fifo.resample(tone):
                out.mux(sound.encode(piece))
        for stream in (video, sound):
            out.mux(stream.encode())
    for kind in ('.mp4', '.mov', '.mkv'):
        done = render_video(pose, file, tmp_path / f'out{kind}')
        assert done.frames >= 24 and not done.failures
        name, begin, end = sound_of(tmp_path / f'out{kind}')
        assert 0 <= begin < 0.1 and 0.75 < end < 1.1
        kept = sound_of(file)[0]
        assert name == kept or (name == 'aac' and f'its sound ({kept}) is encoded to AAC' in done.notes[0])


@needs_av
def test_sound_that_cannot_be_decoded_is_left_out_with_a_note(pose, tmp_path, monkeypatch):
    """As where FFmpeg was built without an encoder for AAC."""
    make_video(tmp_path / 'v.mp4', 5)
    monkeypatch.setattr(video_writer, '_can_hold', lambda *_: False)
    monkeypatch.setattr(video_writer, 'ENCODER', 'no_such_codec')
    done = render_video(pose, tmp_path / 'v.mp4', tmp_path / 'out.mp4')
    assert done.frames == 5 and sound_of(tmp_path / 'out.mp4') is None
    assert 'its sound (aac) is left out' in done.notes[0]


@needs_av
def test_the_cases_of_the_tracker(pose, tmp_path):
    """The files that users reported, where they are at hand."""
    cases = Path(__file__).parents[2].parent / 'shared/cases'
    files = [f for n in ('08*', '09*', '10*') for f in sorted(cases.glob(f'{n}/*.*')) if f.suffix in VIDEO_EXTENSIONS]
    if not files:
        pytest.skip('no cases beside the checkout')
    for file in files:
        done = render_video(pose, file, tmp_path / 'out.mp4')
        assert not done.failures, file
        times = times_of(file)
        np.testing.assert_allclose(times_of(tmp_path / 'out.mp4'), np.subtract(times, min(0, times[0])), atol=1e-3)
        assert sound_of(tmp_path / 'out.mp4') is not None, file


# ---------------------------------------------------------------- tracking and smoothing


def people(shift):
    boxes = np.array([[10, 5, 30, 60], [80, 5, 100, 60]], np.float32)
    return boxes + np.array([shift, 0, shift, 0], np.float32)


@pytest.mark.skipif(
    not any(map(importlib.util.find_spec, ('trackers', 'supervision'))), reason='neither trackers nor supervision'
)
@pytest.mark.parametrize('score', [0.9, 0.5, 0.3])  # ours are near 0.5, and the least is 0.3
def test_ids_stay_with_persons_though_the_detector_changes_their_order(score):
    def detect(frame):
        order = [0, 1] if frame.index % 2 else [1, 0]
        return Detections(people(frame.index)[order], np.full(2, score, np.float32))

    track = Tracker(detect)
    left = []
    for i in range(20):
        found = track(Frame(np.zeros((90, 160, 3), np.uint8), 'f', index=i))
        left += [int(found.ids[j]) for j in range(len(found.boxes)) if found.boxes[j, 0] < 60 and found.ids[j] >= 0]
    assert len(left) >= 15 and len(set(left)) == 1


@pytest.mark.parametrize(
    'name, library, own', [('trackers', 'ByteTrackTracker', 0.0), ('supervision', 'ByteTrack', 0.1)]
)
def test_a_box_of_the_least_score_that_detectors_give_begins_a_track(monkeypatch, name, library, own):
    given = {}
    tracker = SimpleNamespace(update=None, update_with_detections=None)
    stand_in = SimpleNamespace(**{library: lambda **options: given.update(options) or tracker})
    monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda asked: asked.partition('.')[0] == name or None)
    Tracker(None)
    assert all(value + own <= 0.3 for value in given.values()) and 'track_activation_threshold' in given


def test_tracking_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(MissingPackageError, match='or trackers'):
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


def still(jitter, moving=0.0, frames=120, noise=0.0):
    """Results of a person whose box trembles by a share of its sides; the points by ``noise`` pixels."""
    random = np.random.default_rng(0)
    points = np.stack([np.linspace(500, 620, 17), np.linspace(200, 700, 17)], -1)
    box = np.array([480, 180, 640, 720], float)
    for i in range(frames):
        shift = np.array([moving * i / 30, 0])
        trembling = box + np.tile(shift, 2) + jitter * random.normal(size=4) * np.tile(box[2:] - box[:2], 2)
        xy = (points + shift + noise * random.normal(size=points.shape)).astype(np.float32)[None]
        result = ImageResult(np.zeros((8, 8, 3), np.uint8), 'f', index=i, time=i / 30)
        ids = np.zeros(1, np.int64)
        boxes, ones = trembling[None].astype(np.float32), np.ones(1, np.float32)
        result.keypoints = KeypointSet(xy, np.ones((1, 17), np.float32), boxes, ones, ids, load_vocabulary('coco17'))
        yield result


@pytest.mark.parametrize('jitter', [0.0, 0.02, 0.1])
def test_a_still_person_is_steadier_smoothed_than_raw(jitter):
    """Whatever the box does: it used to be divided out and multiplied in again, 28 pixels of trembling for 1."""
    raw = np.stack([r.keypoints.xy[0] for r in still(jitter, noise=1.25)])[30:]
    calm = np.stack([r.keypoints.xy[0] for r in smooth(still(jitter, noise=1.25))])[30:]
    assert calm.std(0).mean() < 0.5 * raw.std(0).mean()
    np.testing.assert_allclose(calm.mean(0), raw.mean(0), atol=0.5)
    nothing = np.stack([r.keypoints.xy[0] for r in smooth(still(jitter))])
    assert nothing.std(0).max() < 1e-4, 'points that do not move stay, however the box trembles'


@pytest.mark.parametrize('jitter', [0.0, 0.02])
def test_a_moving_person_is_followed(jitter):
    """Two box sides a second: late by less than a tenth of a second."""
    raw = np.stack([r.keypoints.xy[0] for r in still(jitter, moving=600.0)])
    calm = np.stack([r.keypoints.xy[0] for r in smooth(still(jitter, moving=600.0))])
    assert np.abs(calm - raw)[60:].max() < 60


def test_nobody_is_mixed_up_with_another_without_a_tracker(pose):
    """Detectors give the best first, so numbers of persons change from frame to frame."""
    image = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)

    def results(counts):
        for i, count in enumerate(counts):
            boxes = people(3 * i)[:: -1 if i % 2 else 1][:count]
            frames = [Frame(image, 'f', index=i, time=i / 30)]
            yield from pose(frames, detect=lambda f, b=boxes: Detections(b, np.ones(len(b), np.float32)))

    notes = []
    for raw, calm in zip(results([2] * 4), smooth(results([2] * 4), notes=notes), strict=True):
        assert (raw.keypoints.xy == calm.keypoints.xy).all()
    assert notes == ['several persons in a frame are not smoothed without a tracker; add --track']
    calm = list(smooth(results([1, 1, 2, 1]), notes=[]))
    raw = list(results([1, 1, 2, 1]))
    assert (calm[1].keypoints.xy != raw[1].keypoints.xy).any() and (calm[3].keypoints.xy == raw[3].keypoints.xy).all()


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


@needs_av
@pytest.mark.parametrize('codecs', [('libx264',), ()])
def test_pictures_wider_than_an_encoder_takes_are_shrunk_and_that_is_said(tmp_path, monkeypatch, codecs):
    """All tasks of a 4K video side by side ended in an error of the encoder, after the first frame."""
    import av

    monkeypatch.setattr(video_writer.av, 'codecs_available', {*codecs} & {*av.codecs_available})
    with video_writer.VideoWriter(tmp_path / 'v.mp4') as writer:
        for _ in range(2):
            writer.write(np.zeros((20, 19376, 3), np.uint8))
    assert 'v.mp4: pictures of 19376 x 20 are made' in writer.notes[0] and '--task' in writer.notes[0]
    frames = list(open_frames(tmp_path / 'v.mp4'))
    assert len(frames) == 2 and 8000 < frames[0].image.shape[1] <= 16384


@needs_av
@pytest.mark.parametrize('rate', [1 / 3600, 1 / 5000])
def test_one_picture_for_an_hour_is_a_video(tmp_path, rate):
    with video_writer.VideoWriter(tmp_path / 'v.mp4', rate) as writer:
        for i in range(2):
            writer.write(np.zeros((32, 32, 3), np.uint8), i / rate)
    assert [frame.time for frame in open_frames(tmp_path / 'v.mp4')] == pytest.approx([0, 1 / rate])


@needs_av
def test_a_drawn_video_says_how_its_colours_and_pixels_are_meant(pose, tmp_path):
    """Players took HD videos for BT.709, so red became orange; the wide pixels of a camcorder came out square."""
    import av

    with av.open(str(tmp_path / 'dv.mp4'), 'w') as out:
        stream = out.add_stream('mpeg4', rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 72, 'yuv420p'
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 72, 3), (220, 30, 30), np.uint8), 'rgb24')))
        out.mux(stream.encode())
    render_video(pose, tmp_path / 'dv.mp4', tmp_path / 'out.mp4', threshold=2)
    with av.open(str(tmp_path / 'out.mp4')) as out:
        assert out.streams.video[0].sample_aspect_ratio == Fraction(16, 15)
        frame = next(out.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (6, 1)
        np.testing.assert_allclose(frame.to_ndarray(format='rgb24').mean((0, 1)), (220, 30, 30), atol=5)


@needs_av
@pytest.mark.parametrize(('codec', 'ending'), [('aac', 'mp4'), ('mp2', 'mkv'), ('mp2', 'mp4')])
def test_recordings_put_behind_each_other_are_one_video(pose, tmp_path, codec, ending):
    """Of `cat a.ts b.ts` the clock begins anew: the second half was drawn in no time, and its sound was left out."""
    import av

    with av.open(str(tmp_path / 'a.ts'), 'w') as out:
        video = out.add_stream('mpeg2video', rate=25)
        (video.height, video.width), video.pix_fmt = (64, 80), 'yuv420p'
        sound = out.add_stream(codec, rate=48000, layout='mono')
        kind = sound.codec_context.format.name
        for i in range(50):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((64, 80, 3), 60 + i, np.uint8), format='rgb24')))
            silence = np.zeros((1, 1920), np.int16 if kind.startswith('s16') else np.float32)
            tone = av.AudioFrame.from_ndarray(silence, kind, 'mono')
            tone.sample_rate, tone.pts = 48000, 1920 * i
            out.mux(sound.encode(tone))
        for stream in (video, sound):
            out.mux(stream.encode())
    (tmp_path / 'v.ts').write_bytes((tmp_path / 'a.ts').read_bytes() * 2)
    done = render_video(pose, tmp_path / 'v.ts', tmp_path / f'out.{ending}')
    assert not done.failures and not any('ends early' in note for note in done.notes)
    times = [frame.time for frame in open_frames(tmp_path / f'out.{ending}')]
    assert len(times) == done.frames == 100
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.03)
    with av.open(str(tmp_path / f'out.{ending}')) as out:
        heard = sum(frame.samples for frame in out.decode(audio=0)) / 48000
    assert heard == pytest.approx(4, abs=0.15)
