# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read and write videos as streams, a frame at a time (PyAV; reading falls back to OpenCV)."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from ..errors import MissingPackageError, UserError
from ..utils.files import replace_when_done

Timed = tuple[int, float, np.ndarray]


def has_av() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec('av') is not None


def read_video(path: str | Path) -> Iterator[Timed]:
    """Frames of a video: number, seconds, upright ``(H, W, 3)`` uint8 RGB.

    Args:
        path: The file.

    Raises:
        UserError: No video; or, after all good frames were given, where and how much of it is broken.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such video; check the path')
    if path.stat().st_size == 0:
        raise UserError(f'{path}: the video is empty (0 bytes); copy it again')
    return _read_av(path) if has_av() else _read_opencv(path)


def _read_av(path: Path) -> Iterator[Timed]:
    import av

    count, broken, first = 0, 0, None
    last = 0.0
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f'{path}: is no readable video ({_reason(error)}); copy it again') from None
    with container:
        if not container.streams.video:
            raise UserError(f'{path}: holds no video stream')
        stream = container.streams.video[0]
        stream.thread_type = 'AUTO'
        expected, rate = stream.frames, float(stream.average_rate or 30)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                frames = packet.decode()
            except (av.error.FFmpegError, OSError) as error:
                # The file may be whole again further on, unless it cannot even be cut into packets.
                broken, first = broken + 1, first or (last, _reason(error))
                if broken > 10 and count == 0 or isinstance(error, av.error.EOFError):
                    break
                continue
            for frame in frames:
                if getattr(frame, 'is_corrupt', False):
                    broken, first = broken + 1, first or (last, 'a damaged frame')
                    continue
                last = float(frame.time) if frame.time is not None else count / rate
                image = frame.to_ndarray(format='rgb24')
                turns = round(getattr(frame, 'rotation', 0) / 90) % 4
                yield count, last, np.ascontiguousarray(np.rot90(image, turns)) if turns else image
                count += 1
    if first or (expected and count < expected):
        lost = max(expected - count, broken)
        where, reason = first or (last, 'it ends early')
        raise UserError(
            f'{path}: the video breaks after {where:.2f} s ({reason}): {count} good frames were read, about {lost} are '
            'lost; copy the file again for the rest'
        )


def _reason(error: Exception) -> str:
    return (getattr(error, 'strerror', None) or str(error)).strip()


def _read_opencv(path: Path) -> Iterator[Timed]:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise UserError(f'{path}: is no video that OpenCV can read; copy it again, or `pip install av`')
        rate, expected = capture.get(cv2.CAP_PROP_FPS) or 30.0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        count = 0
        while True:
            good, image = capture.read()
            if not good:
                break
            yield count, count / rate, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            count += 1
        if count < expected:
            raise UserError(
                f'{path}: the video breaks after {count / rate:.2f} s: {count} good frames were read, about '
                f'{expected - count} are lost; copy the file again for the rest'
            )
    finally:
        capture.release()


def video_facts(path: str | Path) -> tuple[float, int]:
    """Frames per second and number of frames (0 = unknown) of a video file."""
    if has_av():
        import av

        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                rate = float(stream.average_rate or 30)
                seconds = float(stream.duration * stream.time_base) if stream.duration else 0.0
                return rate, stream.frames or round(seconds * rate)
        except (av.error.FFmpegError, OSError, IndexError) as error:
            raise UserError(f'{path}: is no readable video ({_reason(error)}); copy it again') from None
    capture = cv2.VideoCapture(str(path))
    facts = capture.get(cv2.CAP_PROP_FPS) or 30.0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return facts


class VideoWriter:
    """Write H.264 (or MPEG-4 where there is no encoder for it) frame by frame, with the sound of another video.

    The file appears under its name when it is complete; on an error or Ctrl-C nothing is left behind.

    Args:
        path: ``.mp4``, ``.mkv`` or ``.mov``.
        rate: Frames per second.
        audio: Video whose sound is copied, as it is, if it has any.

    Raises:
        MissingPackageError: PyAV is not installed.
    """

    def __init__(self, path: str | Path, rate: float = 30.0, audio: str | Path | None = None) -> None:
        if not has_av():
            raise MissingPackageError('writing videos needs PyAV: run `pip install av`')
        self.path = Path(path)
        if self.path.suffix.lower() not in ('.mp4', '.mkv', '.mov'):
            raise UserError(f'{path}: the name of the output video must end in .mp4, .mkv or .mov')
        self.rate, self.audio = Fraction(rate).limit_denominator(1001), audio
        self._stack = contextlib.ExitStack()
        self._out: Any = None
        self._size: tuple[int, int] | None = None
        self._count = 0

    def __enter__(self) -> VideoWriter:
        return self

    def _open(self, image: np.ndarray) -> None:
        import av

        temporary = self._stack.enter_context(replace_when_done(self.path))
        container = {'.mp4': 'mp4', '.mkv': 'matroska', '.mov': 'mov'}[self.path.suffix.lower()]
        self._out = self._stack.enter_context(av.open(str(temporary), 'w', format=container))
        codec = 'libx264' if 'libx264' in av.codecs_available else 'mpeg4'
        self._stream = self._out.add_stream(codec, rate=self.rate)
        # These encoders take even sides only.
        self._size = (image.shape[0] // 2 * 2, image.shape[1] // 2 * 2)
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = 'yuv420p'
        if codec == 'libx264':
            self._stream.options = {'crf': '20', 'preset': 'veryfast'}
        self._sound = self._sound_packets()

    def _sound_packets(self) -> Iterator[Any] | None:
        import av

        if self.audio is None:
            return None
        source = self._stack.enter_context(av.open(str(self.audio)))
        if not source.streams.audio:
            return None
        stream = source.streams.audio[0]
        copy = self._out.add_stream_from_template(stream)

        def packets() -> Iterator[Any]:
            try:
                for packet in source.demux(stream):
                    if packet.dts is not None:
                        start = float(packet.pts * packet.time_base)
                        packet.stream = copy
                        yield start, packet
            except (av.error.FFmpegError, OSError):
                return  # the sound of a broken video ends where it breaks

        return packets()

    def write(self, image: np.ndarray) -> None:
        """Add ``(H, W, 3)`` uint8 RGB; all frames get the size of the first."""
        import av

        if self._out is None:
            self._open(image)
        height, width = self._size
        if (
            image.shape[0] < height
            or image.shape[1] < width
            or image.shape[0] > height + 1
            or image.shape[1] > width + 1
        ):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format='rgb24')
        frame.pts, frame.time_base = self._count, 1 / self.rate
        self._count += 1
        for packet in self._stream.encode(frame):
            self._out.mux(packet)
        self._copy_sound(until=float(self._count / self.rate))

    def _copy_sound(self, until: float) -> None:
        if self._sound is None:
            return
        for start, packet in self._sound:
            self._out.mux(packet)
            if start >= until:
                return
        self._sound = None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._out is not None and error is None:
            for packet in self._stream.encode():
                self._out.mux(packet)
        self._stack.__exit__(kind, error, trace)
