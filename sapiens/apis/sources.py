# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Anything that gives images, as a stream of frames: files, folders, arrays, videos, cameras, generators."""

from __future__ import annotations

import glob
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..datasets.image_files import decode_image, is_image_name, list_images
from ..errors import UserError

VIDEO_EXTENSIONS = ('.mp4', '.mov', '.avi', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.gif')


@dataclass
class Frame:
    """One image of a source.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        name: Short name without suffix, different for every frame of a source.
        path: File, if it came from one (of a video: the video).
        index: Position in the source.
        time: Seconds since the beginning of a video.
    """

    image: np.ndarray
    name: str
    path: Path | None = None
    index: int = 0
    time: float | None = None


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, or where a video broke; ``message`` names it and the mend."""

    name: str
    message: str


def open_frames(source: Any, color: str | None = None, failures: list[Failure] | None = None) -> Iterator[Frame]:
    """Read frames one by one.

    Args:
        source: Path of an image, folder, glob pattern (``'photos/*.jpg'``), video; camera number; array
            ``(H, W, 3)``, ``(H, W)`` or ``(N, H, W, 3)`` uint8; PIL image; tensor ``(3, H, W)``, ``(N, 3, H, W)``,
            uint8 or float in [0, 1]; `Frame`; or a list or generator of any of these.
        color: ``'rgb'`` or ``'bgr'``: order of the channels of arrays, which must be said (tensors: RGB unless said).
        failures: Unreadable images of folders, globs and lists are appended here and skipped, and so is the break of a
            video; None raises them.

    Raises:
        UserError: Nothing there, an unreadable image (a single one always raises), or an array that is no image.
    """
    if color not in (None, 'rgb', 'bgr'):
        raise UserError(f"color is 'rgb' or 'bgr', not {color!r}")
    names = _Names()
    for index, frame in enumerate(_frames(source, color, failures)):
        frame.index = index if frame.time is None else frame.index
        frame.name = names.unique(frame)
        yield frame


class _Names:
    """Names of frames become names of files: photos/a.jpg and more/a.jpg must not overwrite each other."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self.videos: dict[Path | None, tuple[str, str]] = {}

    def unique(self, frame: Frame) -> str:
        """The frame's name, with a number if it is taken."""
        if frame.time is None or frame.path is None:
            return self._take(frame.name) if frame.time is None else frame.name
        # One name for a whole video, since an endless one has endless frames.
        if frame.path not in self.videos:
            self.videos[frame.path] = frame.path.stem, self._take(frame.path.stem)
        stem, taken = self.videos[frame.path]
        return taken + frame.name.removeprefix(stem)

    def _take(self, name: str) -> str:
        count, candidate = 0, name
        while candidate in self.used:
            count += 1
            candidate = f'{name}_{count}'
        self.used.add(candidate)
        return candidate


def _frames(source: Any, color: str | None, failures: list[Failure] | None) -> Iterator[Frame]:
    if isinstance(source, Frame):
        yield source
    elif isinstance(source, (str, Path)):
        yield from _from_path(str(source), failures)
    elif isinstance(source, (bool, float)):
        raise UserError(f'{source!r} is no source of images')
    elif isinstance(source, (int, np.integer)):
        yield from _from_camera(int(source))
    elif isinstance(source, np.ndarray):
        yield from _from_array(source, color)
    elif isinstance(source, torch.Tensor):
        yield from _from_tensor(source, color)
    elif type(source).__module__.partition('.')[0] == 'PIL' and hasattr(source, 'convert'):
        yield _from_pil(source)
    elif isinstance(source, (Iterable, types.GeneratorType)):
        yield from _from_many(source, color, failures)
    else:
        raise UserError(f'a {type(source).__name__} is no source of images; give a path, an array, a PIL image, '
                        'a tensor, a camera number, or a list of these')  # fmt: skip


def _from_many(source: Iterable, color: str | None, failures: list[Failure] | None) -> Iterator[Frame]:
    for position, item in enumerate(source):
        try:
            for frame in _frames(item, color, failures):
                if frame.path is None and frame.name == 'image':
                    frame.name = f'image_{position:06d}'
                yield frame
        except UserError as error:
            _record(failures, str(item) if isinstance(item, (str, Path)) else f'item {position}', error)


def _record(failures: list[Failure] | None, name: str, error: UserError) -> None:
    if failures is None:
        raise error
    failures.append(Failure(name, str(error)))


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file of any kind as upright uint8 RGB.

    Raises:
        UserError: Missing, empty, truncated or no image.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f'{path}: no such file; check the path') from None
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from None
    return decode_image(data, str(path))


def _from_path(text: str, failures: list[Failure] | None) -> Iterator[Frame]:
    path = Path(text).expanduser()
    if path.is_dir():
        # Without its cache: a folder may have changed since the last call.
        yield from _from_files(list_images.__wrapped__(str(path)), failures)
    elif path.suffix.lower() in VIDEO_EXTENSIONS and path.is_file():
        yield from _from_video(path, failures)
    elif not path.exists() and any(c in text for c in '*?['):
        found = sorted(p for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        if not found:
            raise UserError(f'{text}: no file matches this pattern')
        yield from _from_files(found, failures)
    else:
        if text.startswith(('http:', 'https:')):
            raise UserError(f'{text}: download the image first and give its path')
        yield Frame(read_image(path), path.stem, path)


def _from_files(paths: Iterable[str], failures: list[Failure] | None) -> Iterator[Frame]:
    for name in paths:
        path = Path(name)
        try:
            if path.suffix.lower() in VIDEO_EXTENSIONS and not is_image_name(path.name):
                yield from _from_video(path, failures)
            else:
                yield Frame(read_image(path), path.stem, path)
        except UserError as error:
            _record(failures, str(path), error)


def _from_video(path: Path, failures: list[Failure] | None) -> Iterator[Frame]:
    from .video import read_video

    try:
        for index, time, image in read_video(path):
            yield Frame(image, f'{path.stem}_{index:06d}', path, index, time)
    except UserError as error:
        _record(failures, str(path), error)


def _from_camera(number: int) -> Iterator[Frame]:
    capture = cv2.VideoCapture(number)
    try:
        if not capture.isOpened():
            raise UserError(f'camera {number}: cannot be opened; check that it is plugged in and free')
        rate, index = capture.get(cv2.CAP_PROP_FPS) or 30.0, 0
        while True:
            good, image = capture.read()
            if not good:
                return
            yield Frame(
                cv2.cvtColor(image, cv2.COLOR_BGR2RGB), f'camera{number}_{index:06d}', None, index, index / rate
            )
            index += 1
    finally:
        capture.release()


def _from_array(array: np.ndarray, color: str | None) -> Iterator[Frame]:
    if array.dtype != np.uint8:
        raise UserError(f'an image array is uint8, not {array.dtype}; scale it to 0 .. 255 and convert it')
    if array.ndim == 4:
        for i, one in enumerate(array):
            yield from (Frame(f.image, f'image_{i:06d}') for f in _from_array(one, color))
        return
    if array.ndim == 2:
        yield Frame(np.repeat(array[..., None], 3, axis=2), 'image')
        return
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise UserError(f'an image array is (H, W, 3), (H, W, 4) or (H, W), not {array.shape}')
    if array.shape[2] == 1:
        yield Frame(np.repeat(array, 3, axis=2), 'image')
        return
    if color is None:
        raise UserError("say the order of the array's channels: color='rgb' (PIL, imageio) or color='bgr' (OpenCV)")
    rgb = array[..., :3] if color == 'rgb' else array[..., 2::-1]
    yield Frame(np.ascontiguousarray(rgb), 'image')


def _from_tensor(tensor: torch.Tensor, color: str | None) -> Iterator[Frame]:
    if tensor.ndim == 4:
        for i, one in enumerate(tensor):
            yield from (Frame(f.image, f'image_{i:06d}') for f in _from_tensor(one, color))
        return
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3) or 0 in tensor.shape:
        raise UserError(f'an image tensor is (3, H, W) or (N, 3, H, W), not {tuple(tensor.shape)}')
    array = tensor.detach().cpu()
    if array.is_floating_point():
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise UserError(f'a float image tensor lies in [0, 1], this one in [{low:.3g}, {high:.3g}]; undo its '
                            'normalisation, or give uint8')  # fmt: skip
        array = (array.float() * 255).round().to(torch.uint8)
    elif array.dtype != torch.uint8:
        raise UserError(f'an image tensor is uint8 or float, not {array.dtype}')
    yield from _from_array(array.permute(1, 2, 0).contiguous().numpy(), color or 'rgb')


def _from_pil(image: Any) -> Frame:
    from PIL import ImageOps

    name = Path(getattr(image, 'filename', '') or 'image').stem
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16') or image.mode in ('I', 'F'):
        values = np.asarray(image, np.float64)
        top = 65535 if values.max() > 255 else 255
        return Frame(np.repeat((values / top * 255).round().astype(np.uint8)[..., None], 3, axis=2), name)
    return Frame(np.array(image.convert('RGB')), name)
