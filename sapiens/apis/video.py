# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read videos as streams, a frame at a time, with the times of the source (PyAV; else OpenCV)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from ..datasets.image_files import VIDEO_EXTENSIONS
from ..errors import UserError

Timed = tuple[int, float, np.ndarray]
ANEW = 1.0
"""Seconds back by which a file's clock begins anew: recordings that were put behind each other in one file."""


def is_video(path: str | Path) -> bool:
    """Whether a file is a video by its name."""
    return Path(path).suffix.lower() in VIDEO_EXTENSIONS


def has_av() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec('av') is not None


def open_video(path: str | Path) -> Any:
    """A video as PyAV's container.

    Raises:
        UserError: No such file, or no video.
    """
    import av

    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f'{path}: is no readable video ({reason(error)}); copy it again') from None
    if not container.streams.video:
        container.close()
        raise UserError(f'{path}: holds no video stream')
    return container


def start_of(container: Any) -> float:
    """Seconds at which a recording begins: streams cut out of a broadcast do not begin at 0."""
    return max(0.0, (container.start_time or 0) / 1e6)


def reason(error: Exception) -> str:
    """What FFmpeg says, without numbers and paths."""
    return (getattr(error, 'strerror', None) or str(error)).strip()


def read_video(path: str | Path) -> Iterator[Timed]:
    """Frames of a video: number, seconds, upright ``(H, W, 3)`` uint8 RGB.

    Seconds are those that the file gives each frame, from the beginning of the recording: rates may vary.

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

    count, broken, first, last, decodable = 0, 0, None, 0.0, False
    with open_video(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = 'AUTO'
        start, expected, step = start_of(container), stream.frames, 1 / float(stream.average_rate or 30)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                decodable = decodable or packet.is_keyframe
                frames = packet.decode()
            except (av.error.FFmpegError, OSError) as error:
                # The file may be whole again further on, unless it cannot even be cut into packets. What precedes the
                # first key frame of a cut is of no use, and no damage.
                broken += decodable
                first = first or ((last, reason(error)) if decodable else None)
                if (broken > 10 and count == 0) or isinstance(error, av.error.EOFError):
                    break
                continue
            for frame in frames:
                if getattr(frame, 'is_corrupt', False):
                    broken, first = broken + 1, first or (last, 'a damaged frame')
                    continue
                now = last + step if frame.time is None else float(frame.time) - start
                if count and now < last - ANEW:
                    start, now = start + now - last - step, last + step
                last = now
                image = frame.to_ndarray(format='rgb24')
                turns = round(getattr(frame, 'rotation', 0) / 90) % 4
                yield count, last, np.ascontiguousarray(np.rot90(image, turns)) if turns else image
                count += 1
    _check_end(path, count, expected, last, broken, first)


def _check_end(
    path: Path, count: int, expected: int, last: float, broken: int = 0, first: tuple[float, str] | None = None
) -> None:
    """Raise where a video breaks. That a header counts other frames than there are is common and no damage."""
    if first is None and is_cut_off(path):
        first = last, 'the file ends early'
    if first is not None:
        where, why = first
        lost = max(expected - count, broken)
        raise UserError(
            f'{path}: the video breaks after {where:.2f} s ({why}): {count} good frames were read'
            + (f', about {lost} are lost' if lost else '')
            + '; copy the file again for the rest'
        )


def is_cut_off(path: str | Path) -> bool:
    """Whether an MP4, MOV, AVI, Matroska or WebM is shorter than its own boxes say; False for other kinds."""
    size = Path(path).stat().st_size
    with open(path, 'rb') as file:
        head = file.read(12)
        if head[:4] == b'RIFF':
            ends = _riff_ends(file, size)
        elif head[:4] == b'\x1aE\xdf\xa3':
            ends = _matroska_ends(file)
        elif head[4:8] in (b'ftyp', b'moov', b'mdat', b'free', b'wide', b'skip', b'pnot'):
            ends = _box_ends(file, size)
        else:
            return False
        return any(end > size for end in ends)


def _box_ends(file: BinaryIO, size: int) -> Iterator[int]:
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[:4], 'big')
        if length == 1:
            length = int.from_bytes(head[8:16], 'big')
        if length < 8 or not head[4:8].isalnum():
            return  # 0: up to the end of the file, whatever that is; else no box
        place += length
        yield place


def _riff_ends(file: BinaryIO, size: int) -> Iterator[int]:
    place = 0
    while place + 12 <= size:
        file.seek(place)
        head = file.read(12)
        if head[:4] != b'RIFF':
            return
        place += 8 + int.from_bytes(head[4:8], 'little')
        yield place
        place += place % 2


def _matroska_ends(file: BinaryIO) -> Iterator[int]:
    place = 0
    for name in (b'\x1aE\xdf\xa3', b'\x18S\x80g'):
        file.seek(place)
        head = file.read(12)
        width = 9 - head[4].bit_length() if len(head) == 12 and head[:4] == name and head[4] else 0
        length = int.from_bytes(head[4 : 4 + width], 'big') & ~(1 << 7 * width)
        if not width or length == (1 << 7 * width) - 1:
            return  # a live recording does not know its length
        place += 4 + width + length
        yield place


def _read_opencv(path: Path) -> Iterator[Timed]:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise UserError(
                f"{path}: is no video that OpenCV can read; copy it again, or pip install 'sapiens-toolkit[demo]'"
            )
        step, expected = 1 / (capture.get(cv2.CAP_PROP_FPS) or 30.0), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        count, last = 0, -step
        while True:
            good, image = capture.read()
            if not good:
                break
            # Some back ends know no times.
            last = max(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, last + step / 100) if count else 0.0
            yield count, last, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            count += 1
        _check_end(path, count, expected, max(last, 0.0))
    finally:
        capture.release()


def video_facts(path: str | Path) -> tuple[float, int, Fraction | None]:
    """Mean frames per second, about how many frames (0 = unknown) and how wide pixels (None = square) a video has."""
    if has_av():
        with open_video(path) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 30)
            seconds = (container.duration or 0) / 1e6
            counts = [n for n in (stream.frames, round(seconds * rate)) if n]
            return rate, min(counts, default=0), stream.sample_aspect_ratio
    capture = cv2.VideoCapture(str(path))
    facts = capture.get(cv2.CAP_PROP_FPS) or 30.0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return *facts, None
