# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Anything that gives images, as a stream of frames: files, folders, bytes, arrays, videos, cameras, generators."""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..datasets.image_files import count_pictures, decode_image, is_image_name, is_jpeg, pictures_in
from ..errors import UserError
from ..utils.file_names import short_name
from ..utils.json_files import read_file
from .files import find_files
from .video import is_video, read_video


@dataclass(eq=False)
class Frame:
    """One image of a source.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        name: Short name without suffix, different for every frame of a source.
        path: File, if it came from one (of a video: the video).
        time: Seconds since the beginning of a video.
        data: Bytes of the file where it is a JPEG, which pipelines decode at a fraction of its size.
    """

    image: np.ndarray
    name: str
    path: Path | None = None
    index: int = 0
    time: float | None = None
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, or where a video broke; ``message`` names it and the mend."""

    name: str
    message: str


def open_frames(
    source: Any,
    color: str | None = None,
    failures: list[Failure] | None = None,
    notes: list[str] | None = None,
) -> Iterator[Frame]:
    """Read frames one by one.

    Args:
        source: Path of an image, folder, glob pattern (``'photos/*.jpg'``), video; camera number; bytes of an image
            file, or an open one; array ``(H, W, 3)``, ``(H, W)`` or ``(N, H, W, 3)`` uint8; PIL image; tensor
            ``(3, H, W)``, ``(N, 3, H, W)``, uint8 or float in [0, 1]; `Frame`; or a list or generator of any of these.
        color: ``'rgb'`` or ``'bgr'``: order of the channels of arrays, which must be said (tensors: RGB unless said).
        failures: Unreadable images of folders, globs and lists are appended here and skipped, and so is the break of a
            video; None raises them.
        notes: What else is worth knowing (files of other kinds that were left out) is appended here.

    Raises:
        UserError: Nothing there, an unreadable image (a single one always raises), or an array that is no image.
    """
    if color not in (None, 'rgb', 'bgr'):
        raise UserError(f"color is 'rgb' or 'bgr', not {color!r}")
    reader, names = _Reader(color, failures, [] if notes is None else notes), _Names()
    for index, frame in enumerate(reader.frames(source)):
        frame.index = index if frame.time is None else frame.index
        frame.name = names.unique(frame)
        yield frame


class _Names:
    """Names of frames become names of files: those of photos/a.jpg, more/a.jpg and a_coco.jpg must not meet."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self.frames: set[str] = set()
        self.videos: dict[tuple[Path | None, str], tuple[str, int]] = {}
        self._take('results')  # of the whole source, see `save_all`

    def unique(self, frame: Frame) -> str:
        """The frame's name, shortened if it is too long for a file and with a number if it is taken."""
        stem = frame.name.removesuffix(f'_{frame.index:06d}')
        if frame.time is None or stem == frame.name:
            return self._take(frame.name)
        # One name for a whole video, since an endless one has endless frames; one that begins again is another one.
        taken, last = self.videos.get((frame.path, stem), ('', frame.index))
        taken = self._take(stem, video=True) if last >= frame.index else taken
        self.videos[frame.path, stem] = taken, frame.index
        return taken + frame.name.removeprefix(stem)

    def _take(self, name: str, video: bool = False) -> str:
        # Separators, line breaks and their like, and bytes of file names that are no text.
        name = short_name(re.sub(r'[/\\\0-\x1f\ud800-\udfff]', '_', name) or 'image')
        count, candidate = 0, name
        while True:
            # Stems of the JSON files of a result; some file systems take A for a, or other forms of letters for one.
            own = unicodedata.normalize('NFC', candidate).casefold() + '_#' * video
            files = {own, f'{own}_coco'}
            frames = {re.sub(r'_\d{6,}(?=(_coco)?$)', '_#', file) for file in files}
            if not self.used & (files | frames) and not (video and self.frames & files):
                self.used |= files
                self.frames |= frames
                return candidate
            count += 1
            candidate = f'{name}_{count}'


class _Reader:
    """Turns sources into frames; knows what was said about their colours and where failures go."""

    def __init__(self, color: str | None, failures: list[Failure] | None, notes: list[str]) -> None:
        self.color, self.failures, self.notes = color, failures, notes
        self.several: list[str] = []  # files of several pictures
        self.note = ''

    def frames(self, source: Any) -> Iterator[Frame]:
        """Frames of any source."""
        if isinstance(source, Frame):
            yield source
        elif isinstance(source, (str, os.PathLike)):
            yield from self._path(os.fsdecode(source))
        elif isinstance(source, (bytes, bytearray, memoryview)):
            yield self._from_bytes(bytes(source), 'image')
        elif isinstance(source, (int, np.integer)) and not isinstance(source, bool):
            yield from _from_camera(int(source))
        elif isinstance(source, np.ndarray):
            yield from self._array(source)
        elif isinstance(source, torch.Tensor):
            yield from self._tensor(source)
        elif any((kind.__module__, kind.__name__) == ('PIL.Image', 'Image') for kind in type(source).__mro__):
            frame = _from_pil(source)
            self._note_pictures(count_pictures(source), frame.name)
            yield frame
        elif callable(getattr(source, 'read', None)):
            name, data = str(getattr(source, 'name', '')) or 'image', source.read()
            if not isinstance(data, bytes):
                raise UserError(f"{name}: was opened as text; open it as open(path, 'rb')")
            yield self._from_bytes(data, name, Path(name).stem)
        elif isinstance(source, Iterable) and not isinstance(source, dict):
            yield from self._many(source)
        else:
            raise UserError(f'a {type(source).__name__} is no source of images; give a path, bytes, an array, a PIL '
                            'image, a tensor, a camera number, or a list of these')  # fmt: skip

    def _many(self, source: Iterable) -> Iterator[Frame]:
        position, items = 0, iter(source)
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except UserError:
                raise
            except Exception as error:  # the caller's own code: whatever it is, say where it happened
                told = f'its item {position} cannot be had ({type(error).__name__}: {error})'
                raise UserError(f'the source: {told}; mend the generator') from error
            try:
                for frame in self.frames(item):
                    if frame.path is None and frame.name == 'image':
                        frame.name = f'image_{position:06d}'
                    yield frame
            except UserError as error:
                self._record(str(item) if isinstance(item, (str, Path)) else f'item {position}', error)
            position += 1

    def _record(self, name: str, error: UserError) -> None:
        if self.failures is None:
            raise error
        self.failures.append(Failure(name, str(error)))

    def _path(self, text: str) -> Iterator[Frame]:
        paths, note = find_files(text)
        self.notes += [note] if note else []
        if paths != [Path(text).expanduser()]:
            yield from self._files(paths)
        elif is_video(paths[0]):
            yield from self._video(paths[0])
        else:
            yield self._image(paths[0])

    def _files(self, paths: Iterable[Path]) -> Iterator[Frame]:
        for path in paths:
            try:
                if is_video(path) and not is_image_name(path.name):
                    yield from self._video(path)
                else:
                    yield self._image(path)
            except UserError as error:
                self._record(str(path), error)

    def _image(self, path: Path) -> Frame:
        return self._from_bytes(read_file(path), str(path), path.stem, path)

    def _from_bytes(self, data: bytes, label: str, name: str = 'image', path: Path | None = None) -> Frame:
        image = decode_image(data, label)
        self._note_pictures(pictures_in(data), label)
        return Frame(image, name, path, data=data if is_jpeg(data) else None)

    def _note_pictures(self, count: int, label: str) -> None:
        """One note, however many such files there are."""
        if count > 1:
            self.several.append(label)
            rest = f' and {len(self.several) - 1} other file(s)' if len(self.several) > 1 else ''
            note = (f'{self.several[0]}{rest}: pages or an animation, of which the first picture is read; save the '
                    'others as files of their own, an animation as .mp4')  # fmt: skip
            self.notes[:] = [*(old for old in self.notes if old != self.note), note]
            self.note = note

    def _video(self, path: Path) -> Iterator[Frame]:
        try:
            for index, second, image in read_video(path):
                yield Frame(image, f'{path.stem}_{index:06d}', path, index, second)
        except UserError as error:
            self._record(str(path), error)

    def _array(self, array: np.ndarray, color: str | None = None) -> Iterator[Frame]:
        if array.dtype == np.uint8 and array.ndim == 1 and array.size:
            yield self._from_bytes(array.tobytes(), 'image')  # of a file, as OpenCV's imdecode takes it
            return
        if array.dtype != np.uint8:
            raise UserError(f'an image array is uint8, not {array.dtype}; scale it to 0 .. 255 and convert it')
        if array.ndim == 4:
            for i, one in enumerate(array):
                yield from (Frame(f.image, f'image_{i:06d}') for f in self._array(one, color))
            return
        if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1 and array.size):
            yield Frame(np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2), 'image')
            return
        if array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
            raise UserError(f'an image array is (H, W, 3), (H, W, 4) or (H, W), not {array.shape}')
        color = self.color or color
        if color is None:
            raise UserError("say the order of the array's channels: color='rgb' (PIL, imageio) or color='bgr' (OpenCV)")
        # A copy: cameras' libraries read their next frame into the same array, while this one waits for its batch.
        yield Frame(np.array(array[..., :3] if color == 'rgb' else array[..., 2::-1], order='C'), 'image')

    def _tensor(self, tensor: torch.Tensor) -> Iterator[Frame]:
        if tensor.ndim not in (3, 4) or tensor.shape[-3] not in (1, 3, 4) or 0 in tensor.shape:
            raise UserError(f'an image tensor is (3, H, W) or (N, 3, H, W), not {tuple(tensor.shape)}')
        values = tensor.detach().cpu()
        if values.is_floating_point():
            low, high = float(values.min()), float(values.max())
            if not (low >= 0 and high <= 1):
                raise UserError(f'a float image tensor lies in [0, 1], this one in [{low:.3g}, {high:.3g}]; undo its '
                                'normalisation, or give uint8')  # fmt: skip
            values = (values.float() * 255).round().to(torch.uint8)
        elif values.dtype != torch.uint8:
            raise UserError(f'an image tensor is uint8 or float, not {values.dtype}')
        yield from self._array(values.movedim(-3, -1).contiguous().numpy(), 'rgb')


def _from_camera(number: int) -> Iterator[Frame]:
    capture = cv2.VideoCapture(number)
    try:
        if not capture.isOpened():
            raise UserError(f'camera {number}: cannot be opened; check that it is plugged in and free')
        index, start = 0, time.monotonic()
        while True:
            good, image = capture.read()
            if not good:
                return
            rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            # A camera gives what it sees now, however long the last frame took.
            yield Frame(rgb, f'camera{number}_{index:06d}', None, index, time.monotonic() - start)
            index += 1
    finally:
        capture.release()


def _from_pil(image: Any) -> Frame:
    from PIL import ImageOps

    name = Path(getattr(image, 'filename', '') or 'image').stem
    try:
        image = ImageOps.exif_transpose(image)  # reads the file, which PIL has only opened so far
        wide = image.mode.startswith('I;16') or image.mode in ('I', 'F')
        image = image if wide else image.convert('RGB')
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f'{name}: the image cannot be read ({error}); replace it') from None
    if wide:
        values = np.asarray(image, np.float64)
        tops = {'F': (1, 255, 65535), 'I': (255, 65535)}.get(image.mode, (65535,))
        top = next((top for top in tops if values.min() >= 0 and values.max() <= top), None)
        if top is None:
            raise UserError(f'{name}: its values are {values.min():.3g} to {values.max():.3g}; convert it to 8 bits')
        return Frame(np.repeat((values / top * 255).round().astype(np.uint8)[..., None], 3, axis=2), name)
    return Frame(np.array(image), name)
