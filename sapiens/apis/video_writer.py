# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Write videos frame by frame, each at its own time, with the sound of another video (PyAV)."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

try:
    import av
    from av.error import FFmpegError
except ImportError:  # said when a writer is made
    FFmpegError = OSError  # type: ignore[misc, assignment]

from ..errors import UserError
from ..utils.files import replace_when_done
from ..utils.optional import need
from .video import ANEW, open_video, reason, start_of

FORMATS = {'.mp4': 'mp4', '.mkv': 'matroska', '.mov': 'mov'}
TICKS = 60000
"""Time units a second: exact for the usual rates, and no more than MPEG-4 allows."""
ENCODER = 'aac'
_MOST_SIDE = {'libx264': 16384, 'mpeg4': 8190}
"""Pixels that an encoder takes along a side: all tasks of a 4K video side by side are wider."""
_MATRIX, _RANGE = 6, 1
"""How RGB was made YUV (BT.601, 16 to 235), in FFmpeg's numbers; players guess BT.709 from 720 rows on."""
_PLAYED_IN_MP4 = ('aac', 'mp3', 'ac3', 'eac3', 'alac', 'opus', 'flac')
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


class VideoWriter:
    """Write H.264 (or MPEG-4 where there is no encoder for it) frame by frame, with the sound of another video.

    The file appears under its name when it is complete; on an error or Ctrl-C nothing is left behind. Sound that the
    container cannot hold is encoded to AAC, and left out where even that cannot be done.

    Args:
        path: ``.mp4``, ``.mkv`` or ``.mov``.
        rate: Frames per second, where frames come without times.
        audio: Video whose sound is kept, if it has any.
        pixel_aspect: Width of a pixel by its height, as the film of a camcorder may have it.

    Attributes:
        notes: What became of the sound, where it is not simply copied, and of pictures that no encoder takes.

    Raises:
        MissingPackageError: PyAV is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        rate: float = 30.0,
        audio: str | Path | None = None,
        pixel_aspect: Fraction | None = None,
    ) -> None:
        need('av', 'writing videos', extra='demo')
        self.path = Path(path)
        if self.path.suffix.lower() not in FORMATS:
            raise UserError(f'{path}: the name of the output video must end in .mp4, .mkv or .mov')
        # A picture that stands for an hour has next to no rate.
        self.rate = max(Fraction(rate).limit_denominator(1001), Fraction(1, 1001))
        self.audio, self.pixel_aspect = audio, pixel_aspect
        self.notes: list[str] = []
        self._stack = contextlib.ExitStack()
        self._out: Any = None
        self._size = (0, 0)
        self._last = -1
        self._sound: Iterator[tuple[float, list]] | None = None

    def __enter__(self) -> VideoWriter:
        return self

    def _open(self, image: np.ndarray) -> None:
        temporary = self._stack.enter_context(replace_when_done(self.path))
        self._out = self._stack.enter_context(av.open(str(temporary), 'w', format=FORMATS[self.path.suffix.lower()]))
        codec = 'libx264' if 'libx264' in av.codecs_available else 'mpeg4'
        self._stream = self._out.add_stream(codec, rate=self.rate)
        self._stream.codec_context.time_base = Fraction(1, TICKS)
        height, width = image.shape[:2]
        shrink = min(1.0, _MOST_SIDE[codec] / max(height, width))
        # These encoders take even sides only.
        self._size = (max(2, int(height * shrink) // 2 * 2), max(2, int(width * shrink) // 2 * 2))
        if shrink < 1:
            size = '{1} x {0}'.format(*self._size)
            self.notes.append(f'{self.path}: pictures of {width} x {height} are made {size}, since {codec} takes no '
                              'larger ones; one task at a time (--task) needs no more than the video')  # fmt: skip
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = 'yuv420p'
        context = self._stream.codec_context
        context.colorspace, context.color_range = _MATRIX, _RANGE
        if self.pixel_aspect:
            context.sample_aspect_ratio = self.pixel_aspect
        if codec == 'libx264':
            self._stream.options = {'crf': '20', 'preset': 'veryfast'}
        self._sound = None if self.audio is None else self._open_sound(self.audio)

    def _open_sound(self, audio: str | Path) -> Iterator[tuple[float, list]] | None:
        """Packets of the sound for the file's time, with the seconds at which they begin."""
        source = self._stack.enter_context(open_video(audio))
        if not source.streams.audio:
            return None
        stream, start = source.streams.audio[0], start_of(source)
        name = stream.codec_context.codec.canonical_name if stream.codec_context else 'an unknown codec'
        # MP4 holds PCM too, but next to nothing plays it.
        if _can_hold(self._out.format.name, stream) and (self._out.format.name != 'mp4' or name in _PLAYED_IN_MP4):
            return self._copied(source, stream, self._out.add_stream_from_template(stream), start)
        try:
            encoder = self._out.add_stream(ENCODER, rate=stream.rate if stream.rate in _AAC_RATES else 44100)
            encoder.layout = 'mono' if stream.channels == 1 else 'stereo'
        except (ValueError, AttributeError, FFmpegError) as error:
            self.notes.append(f'{self.audio}: its sound ({name}) is left out: it cannot be encoded ({reason(error)})')
            return None
        self.notes.append(f'{self.audio}: its sound ({name}) is encoded to AAC for {self.path.suffix}')
        return self._encoded(source, stream, encoder, start)

    def _copied(self, source: Any, stream: Any, copy: Any, start: float) -> Iterator[tuple[float, list]]:
        end = 0.0
        with self._until_it_breaks():
            for packet in source.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                at = float(packet.pts * packet.time_base)
                start = at - end if at - start < end - ANEW else start
                end = at - start + float((packet.duration or 0) * packet.time_base)
                shift = round(start / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                # What lies before the beginning moves the pictures of a Matroska; the others note where to begin.
                if packet.pts >= 0 or self._out.format.name != 'matroska':
                    yield float(packet.pts * packet.time_base), [packet]

    def _encoded(self, source: Any, stream: Any, encoder: Any, start: float) -> Iterator[tuple[float, list]]:
        rate = encoder.rate
        resampler, place = av.AudioResampler('fltp', encoder.layout, rate, frame_size=1024), None
        with self._until_it_breaks():
            for frame in itertools.chain(source.decode(stream), [None]):
                if frame is not None:
                    at = place or 0 if frame.time is None else max(0, round((frame.time - start) * rate))
                    # Times of many files are coarser than their sound: they only say where it begins, and where it
                    # has a gap.
                    place = at if place is None or at - place > rate / 5 else place
                    frame.pts = None
                for piece in resampler.resample(frame):
                    piece.pts, piece.time_base = place, Fraction(1, rate)
                    yield place / rate, encoder.encode(piece)
                    place += piece.samples
            yield (place or 0) / rate, encoder.encode()

    @contextlib.contextmanager
    def _until_it_breaks(self) -> Iterator[None]:
        """The sound of a broken video ends where it breaks."""
        try:
            yield
        except (FFmpegError, OSError, ValueError) as error:
            if getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            self.notes.append(f'{self.audio}: its sound ends early ({reason(error)})')

    def write(self, image: np.ndarray, time: float | None = None) -> None:
        """Add a frame.

        Args:
            image: ``(H, W, 3)`` uint8 RGB; all frames get the size of the first.
            time: Seconds from the beginning; None: one frame's time after the last.
        """
        if self._out is None:
            self._open(image)
        height, width = self._size
        if not (height <= image.shape[0] <= height + 1 and width <= image.shape[1] <= width + 1):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format='rgb24')
        step = round(TICKS / self.rate)
        ticks = (self._last + step if self._last >= 0 else 0) if time is None else round(time * TICKS)
        self._last = max(ticks, self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS)
        self._out.mux(self._stream.encode(frame))
        self.copy_sound(until=(self._last + step) / TICKS)

    def copy_sound(self, until: float = float('inf')) -> None:
        """Bring the sound up to that second; without one, to its end."""
        with self._until_it_breaks():
            for start, packets in self._sound or ():
                self._out.mux(packets)
                if start >= until:
                    return
        self._sound = None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._out is not None and error is None:
            self._out.mux(self._stream.encode())
        self._stack.__exit__(kind, error, trace)


def _can_hold(container: str, stream: Any) -> bool:
    """Whether a container takes a stream as it is: some say so only when they write their header."""
    try:
        with av.open(io.BytesIO(), 'w', format=container) as probe:
            probe.add_stream_from_template(stream)
            probe.start_encoding()
    except (ValueError, AttributeError, FFmpegError):
        return False
    return True
