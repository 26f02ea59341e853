# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Decode any image file to upright RGB bytes, large JPEGs at a reduced scale where that loses nothing."""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.logging import print_log
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from ..errors import UserError
from .png_files import is_png, png_is_whole
from .storage import read_bytes, readable_name

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.jfif', '.jpe', '.png', '.webp', '.bmp', '.tif', '.tiff')
VIDEO_EXTENSIONS = ('.mp4', '.mov', '.avi', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.ts', '.mts', '.m2ts', '.wmv',
                    '.asf', '.flv', '.3gp', '.3g2', '.ogv', '.mxf', '.vob', '.gif')  # fmt: skip
LEFT_OUT = ('.heic', '.heif', '.avif', '.jxl', '.jp2', '.psd', '.dng', '.cr2', '.cr3', '.nef', '.arw',
            *VIDEO_EXTENSIONS)  # fmt: skip
"""What is not read from folders; one that has some is told how many were left out."""
# OpenCV 4.11 decodes to RGB at no cost; flag 1 asks for BGR.
_RGB = getattr(cv2, 'IMREAD_COLOR_RGB', 0)
_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
            8: cv2.IMREAD_REDUCED_COLOR_8}  # fmt: skip
_UNREADABLE = (OSError, ValueError, SyntaxError)
"""What PIL raises of a damaged file, or one of another kind."""


def decode_image(data: bytes, name: str, reduce: int = 1) -> np.ndarray:
    """Decode a JPEG, PNG, WebP, TIFF or BMP.

    Grey, palette, CMYK, 16-bit and transparent images become 8-bit RGB (alpha is dropped); EXIF rotation is applied.

    Args:
        reduce: 1, 2, 4 or 8: decode at that fraction of the size (JPEG only: libjpeg then skips most of the work).

    Returns:
        ``(H, W, 3)`` uint8 RGB; sides are divided by ``reduce`` and rounded up.

    Raises:
        UserError: Empty, not an image, or cut off; the message names the file.
    """
    if not data:
        raise UserError(f'{name}: the image file is empty (0 bytes); replace it or take it off the list')
    if _is_cut_off(data):
        raise UserError(f'{name}: the image is truncated; copy it again or take it off the list')
    orientation = _own_orientation(data)
    flags = _REDUCED[reduce] & ~1 | _RGB if _RGB else _REDUCED[reduce]
    if orientation > 1:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    # Asked first: OpenCV 5 reads no floats as colours.
    is_tiff = data[2:4] in (b'*\0', b'\0*')
    whole = imdecode(data, cv2.IMREAD_UNCHANGED) if is_tiff else None
    if whole is not None and whole.dtype.kind == 'f':
        raise UserError(f'{name}: holds floating-point numbers, whose white is not known; save it with 8 or 16 bits')
    image = imdecode(data, flags)
    if image is None:
        raise UserError(f'{name}: is {_kind(data)}; replace it by a JPEG, PNG, WebP, TIFF or BMP')
    image = image if _RGB else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if whole is not None and whole.dtype == np.uint8 and whole.shape[2:] == (4,):
        image = _without_alpha(data, image)
    return image if orientation == 1 else _upright(image, orientation)


def imdecode(data: bytes, flags: int) -> np.ndarray | None:
    """What OpenCV makes of an image file; None where it can make nothing of it."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _without_alpha(data: bytes, image: np.ndarray) -> np.ndarray:
    """A TIFF's colours, which libtiff has multiplied by their alpha, by another reader if that can."""
    try:
        return np.array(ImageOps.exif_transpose(open_with_pil(data)).convert('RGB'))
    except _UNREADABLE:
        return image


def open_with_pil(data: bytes) -> Any:
    """A file as PIL opens it, also beyond PIL's limits: it warns of 90 megapixels, which phones have, and refuses 179.

    Raises:
        OSError, SyntaxError, ValueError: PIL does not know it, or it is damaged.
    """
    kinds: dict[bytes, Any] = {
        b'\xff\xd8\xff': JpegImagePlugin.jpeg_factory,
        b'\x89PNG': PngImagePlugin.PngImageFile,
        b'RIFF': WebPImagePlugin.WebPImageFile,
        **dict.fromkeys((b'II', b'MM'), TiffImagePlugin.TiffImageFile),
    }
    try:
        return next((kind for start, kind in kinds.items() if data.startswith(start)), Image.open)(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise OSError(str(error)) from None


def read_image(reference: str | Path) -> np.ndarray:
    """`decode_image` of a file, or of a part of one, by its reference (see `storage.read_bytes`)."""
    return decode_image(read_bytes(str(reference)), readable_name(str(reference)))


# EXIF orientations from 5 on exchange rows and columns; then these are mirrored.
_MIRRORED_X, _MIRRORED_Y = (2, 3, 6, 7), (3, 4, 7, 8)


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """A stored image as it is meant to be seen."""
    image = image.transpose(1, 0, 2) if orientation >= 5 else image
    rows, columns = (-1 if orientation in mirrored else 1 for mirrored in (_MIRRORED_Y, _MIRRORED_X))
    return np.ascontiguousarray(image[::rows, ::columns])


def _own_orientation(data: bytes) -> int:
    """EXIF orientation of a WebP or PNG, which only some versions of OpenCV apply; 1 for all else."""
    has_one = (data[8:12] == b'WEBP' and b'EXIF' in data) or (is_png(data) and b'eXIf' in data)
    header = upright_size(data) if has_one else None
    return header[1] if header else 1


def is_jpeg(data: bytes) -> bool:
    """Whether the bytes begin like a JPEG."""
    return data[:3] == b'\xff\xd8\xff'


def upright_size(data: bytes) -> tuple[tuple[int, int], int] | None:
    """Size ``(H, W)`` after EXIF rotation, and the EXIF orientation (1 to 8), from the header alone.

    Returns:
        None where the header cannot be read; decoding will then say what is wrong.
    """
    try:
        with open_with_pil(data) as image:
            tags = getattr(image, 'tag_v2', {})  # of a TIFF, whose size PIL gives as stored or upright by its version
            width, height = tags.get(256, image.size[0]), tags.get(257, image.size[1])
            orientation = image.getexif().get(0x0112, 1)
    except _UNREADABLE:
        return None
    orientation = orientation if orientation in range(1, 9) else 1
    return ((width, height) if orientation >= 5 else (height, width)), orientation


def pictures_in(data: bytes) -> int:
    """How many pictures a file holds, of which `decode_image` reads the first: pages of a TIFF, an animation, views.

    Smaller copies of the first do not count, nor what phones put behind a photo.
    """
    several = data[2:4] in (b'*\0', b'\0*', b'+\0', b'\0+') or is_png(data) or data[8:12] == b'WEBP'
    if several or (is_jpeg(data) and b'MPF\0' in data[: 1 << 16]):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # of damage
                return count_pictures(open_with_pil(data))
        except (*_UNREADABLE, EOFError, KeyError):
            return 1  # it is the decoder's to say what is wrong
    return 1


def count_pictures(image: Any) -> int:
    """`pictures_in` of an image that PIL has opened."""
    count = getattr(image, 'n_frames', 1)
    if count > 1 and image.format == 'MPO':
        kinds = [str(entry['Attribute']['MPType']) for entry in image.mpinfo.get(0xB002, ())]
        return max(1, sum(kind.startswith('Multi-Frame') for kind in kinds))
    if count > 1 and image.format == 'TIFF':
        place, full = image.tell(), 0
        for page in range(count):
            image.seek(page)
            full += not image.tag_v2.get(254, 0) & 1
        image.seek(place)
        return full
    return count


def reduction_matrix(size: tuple[int, int], reduce: int, orientation: int = 1) -> np.ndarray:
    """Map of pixel centres of the full upright image to those of the image decoded at ``1 / reduce``.

    A reduced pixel is the mean of ``reduce x reduce`` stored pixels, so the scale is exactly ``1 / reduce`` and centres
    shift by half a pixel's difference. A side that ``reduce`` does not divide is padded at its *stored* end, which EXIF
    rotation may turn to the other side.

    Args:
        size: ``(H, W)`` of the full upright image.

    Returns:
        ``(3, 3)`` float64.
    """
    height, width = size if orientation < 5 else size[::-1]
    shrink = np.array([[1 / reduce, 0, 0.5 / reduce - 0.5], [0, 1 / reduce, 0.5 / reduce - 0.5], [0, 0, 1]])
    full = _orientation_matrix(height, width, orientation)
    reduced = _orientation_matrix(-(-height // reduce), -(-width // reduce), orientation)
    return reduced @ shrink @ np.linalg.inv(full)


def _orientation_matrix(height: int, width: int, orientation: int) -> np.ndarray:
    """Map of stored pixel centres to upright ones for an EXIF orientation; the size is the stored one."""
    matrix, last = np.eye(3), (width - 1, height - 1)
    if orientation >= 5:
        matrix, last = matrix[[1, 0, 2]], last[::-1]
    for axis, mirrored in enumerate((_MIRRORED_X, _MIRRORED_Y)):
        if orientation in mirrored:
            matrix[axis] = [0, 0, last[axis]] - matrix[axis]
    return matrix


def _is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; decoders fill what is missing with grey and say nothing."""
    if is_jpeg(data):
        return b'\xff\xd9' not in data[-64:] and not _has_end(data)
    return is_png(data) and not png_is_whole(data)


# In the pixels of a scan, FF is followed by 0, or by a restart marker.
_MARKER = re.compile(rb'\xff[^\x00\xd0-\xd7\xff]')


def _has_end(data: bytes) -> bool:
    """Walk a JPEG's segments to its end marker; whatever follows it (a phone's short video, say) is not the photo's."""
    position = 2
    while found := _MARKER.search(data, position):
        kind, position = data[found.start() + 1], found.end()
        if kind == 0xD9:
            return True
        if kind != 0x01:
            position += int.from_bytes(data[position : position + 2], 'big')
    return False


def _kind(data: bytes) -> str:
    """What a file that is no readable image seems to be."""
    if data[4:8] == b'ftyp' and data[8:11] in (b'hei', b'hev', b'mif', b'msf', b'avi'):
        return 'HEIC or AVIF, which OpenCV does not read'
    if data[:4] == b'GIF8':
        return 'a GIF'
    return 'a text file' if all(b >= 32 or b in (9, 10, 13) for b in data[:64]) else 'no image that OpenCV can read'


def walk_files(folder: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """Files below a folder in a fixed order; links are followed, but not in a circle, and pipes left out."""
    above |= {os.path.realpath(folder)}
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # not allowed (a disk's lost+found), or gone meanwhile
        return
    yield from (entry.path for entry in entries if _is(entry.is_file) or not os.path.exists(entry.path))
    for entry in entries:
        if _is(entry.is_dir) and os.path.realpath(entry.path) not in above:
            yield from walk_files(entry.path, above)


def _is(kind: Callable[[], bool]) -> bool:
    """Whether an entry is of that kind; a link to what may not be looked at is of none."""
    try:
        return kind()
    except OSError:
        return False


def find_images(folder: str | Path) -> tuple[tuple[str, ...], str]:
    """All images below a folder, links followed, hidden files left out, in a fixed order.

    Returns:
        Paths, and a sentence about videos and images of other kinds that were left out (empty if there are none).

    Raises:
        UserError: The folder is missing or holds no image.
    """
    folder = str(folder)
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no such folder; check the path and data_root')
    files = [(path, os.path.basename(path)) for path in walk_files(folder)]
    found = tuple(path for path, name in files if is_image_name(name))
    others = [name for _, name in files if name.lower().endswith(LEFT_OUT) and not name.startswith('.')]
    note = ''
    if others:
        kinds = Counter(os.path.splitext(name)[1].lower()[1:] for name in others)
        names = ', '.join(others[:3]) + (', ...' if len(others) > 3 else '')
        counted = ', '.join(f'{count} {kind.upper()}' for kind, count in kinds.items())
        note = (
            f'{folder}: left out {counted} ({names}), which are not read from folders; convert images to JPEG or PNG, '
            'give videos by their own paths'
        )
    if not found:
        raise UserError(note or f'{folder}: holds no image ({", ".join(IMAGE_EXTENSIONS)}), also not in its folders')
    return found, note


def list_images(folder: str | Path) -> tuple[str, ...]:
    """Paths of `find_images`; what was left out goes to the log."""
    found, note = find_images(folder)
    if note:
        print_log(note, logger='current', level=logging.WARNING)
    return found


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its name; hidden files are not."""
    return has_ending(name, IMAGE_EXTENSIONS)


def has_ending(path: str, endings: tuple[str, ...]) -> bool:
    """Whether a file's name ends so, in any case; hidden files (macOS puts ``._NAME`` beside files) never do."""
    name = os.path.basename(path)
    return not name.startswith('.') and name.lower().endswith(endings)


def find_files(folder: str | Path, endings: tuple[str, ...]) -> list[Path]:
    """Files below a folder by their endings, sorted; links are followed, hidden files left out."""
    return sorted(Path(path) for path in walk_files(str(folder)) if has_ending(path, endings))
