# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""How each label is kept in a file: part ids, masks, instances, depth and normals to bytes and back.

==========  ==============  =====================================================================================
label       array           file
==========  ==============  =====================================================================================
parts       (H, W) uint8    8-bit grey or palette PNG of ids (255 = ignore)
mask        (H, W) uint8    8-bit PNG, nonzero = person
instances   (H, W) uint8    8-bit PNG, 0 = background, i = person i - 1
depth       (H, W) float32  16-bit PNG or whole-number array of ``metres / depth_scale`` (0 = unknown), or a float
                            .npy / .npz of metres
normals     (H, W, 3) f32   8- or 16-bit RGB PNG of ``(n + 1) / 2 * max``, black or the middle grey (the code of the
                            zero vector) = unknown, or .npy / .npz
==========  ==============  =====================================================================================
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from ..errors import UserError
from ..structures.geometry import NORMAL_AXES, OUR_AXES, check_axes
from .image_files import imdecode, is_jpeg, open_with_pil
from .png_files import decode_png, is_png, png_is_whole


def encode_image(image: np.ndarray, extension: str = '.jpg', quality: int = 95) -> bytes:
    """Encode an ``(H, W, 3)`` uint8 RGB image as JPEG (or PNG by extension).

    Raises:
        UserError: More pixels along a side than the format has room for.
    """
    most = {'.jpg': 65500, '.jpeg': 65500, '.webp': 16383}.get(extension)
    if most and max(image.shape[:2]) > most:
        raise UserError(f'{image.shape[1]}x{image.shape[0]} pixels do not fit a {extension}, whose sides have at most '
                        f'{most}; make it smaller')  # fmt: skip
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if extension in ('.jpg', '.jpeg') else []
    return cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def encode_ids(ids: np.ndarray) -> bytes:
    """Encode an ``(H, W)`` map of ids from 0 to 255 (parts, mask, instances) as an 8-bit PNG."""
    ids = np.asarray(ids)
    if ids.size and (ids.min() < 0 or ids.max() > 255):
        raise UserError(f'ids must lie in 0..255 to fit an 8-bit PNG, not {ids.min()}..{ids.max()}')
    return cv2.imencode('.png', np.ascontiguousarray(ids, np.uint8))[1].tobytes()


def encode_depth(depth: np.ndarray, depth_scale: float = 0.001) -> bytes:
    """Encode ``(H, W)`` metres (0, NaN or infinity = unknown) as a 16-bit PNG.

    Args:
        depth: Metres; a known depth never becomes 0, however near.
        depth_scale: Metres per unit.

    Raises:
        UserError: A depth is beyond ``65535 * depth_scale``.
    """
    depth = np.asarray(depth, np.float64)
    known = np.isfinite(depth) & (depth > 0)
    units = np.zeros(depth.shape, np.float64)
    units[known] = np.maximum(np.rint(depth[known] / depth_scale), 1)
    if units.max(initial=0) > 65535:
        raise UserError(f'depth of {depth[known].max():.1f} m does not fit 16 bits at depth_scale {depth_scale}; '
                        'use a larger depth_scale or .npz')  # fmt: skip
    return cv2.imencode('.png', units.astype(np.uint16))[1].tobytes()


def encode_normals(normals: np.ndarray, bits: int = 8) -> bytes:
    """Encode ``(H, W, 3)`` unit normals, (0, 0, 0) = unknown, as an RGB PNG of 8 or 16 bits a channel."""
    top, dtype = 2**bits - 1, np.uint8 if bits == 8 else np.uint16
    units: Any = np.empty(normals.shape, dtype)
    for start in range(0, len(normals), 256):  # a stripe at a time: photos may have 100 megapixels
        part = normals[start : start + 256]
        known = np.any(part != 0, axis=-1, keepdims=True)
        coded = np.where(known, np.rint((np.clip(part, -1, 1) + 1) * (top / 2)), 0)
        units[start : start + 256] = coded[..., ::-1]
    return cv2.imencode('.png', units)[1].tobytes()


def encode_npz(data: np.ndarray | None = None, **members: np.ndarray) -> bytes:
    """Encode arrays as a compressed .npz; a label (lossless depth or normals) is its one member ``data``."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = dict(members) if data is None else {'data': data}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_label(kind: str, data: bytes, name: str) -> np.ndarray:
    """What a label's file holds, checked: its numbers before they are made into metres, vectors or 0 and 1.

    Args:
        kind: ``'parts'``, ``'mask'``, ``'instances'``, ``'depth'`` or ``'normals'``.

    Returns:
        ``(H, W)`` uint8 ids of parts and instances, ``(H, W[, C])`` of masks, ``(H, W)`` of depth, ``(H, W, 3)`` of
        normals with x, y, z in the last axis.

    Raises:
        UserError: Unreadable, damaged, or of another shape or type.
    """
    if kind in ('parts', 'instances'):
        return decode_ids(data, name)
    if kind != 'normals':
        refuse_jpeg(kind, data, name)
    raw = read_array(data, name)
    if kind == 'depth':
        if raw.ndim == 3 and 1 in (raw.shape[0], raw.shape[-1]):
            raw = raw[..., 0] if raw.shape[-1] == 1 else raw[0]
        if raw.ndim != 2:
            raise UserError(f'{name}: depth needs one channel, this has shape {raw.shape}')
    if kind == 'normals':
        if raw.ndim == 3 and is_array_file(data) and raw.shape[0] == 3 != raw.shape[-1]:
            raw = np.moveaxis(raw, 0, -1)
        if raw.ndim != 3 or raw.shape[-1] < 3:
            raise UserError(f'{name}: normals need three channels, this has shape {raw.shape}')
        if not is_array_file(data):
            rgb = raw[..., 2::-1]  # of `decode_png` contiguous
            raw = rgb if rgb.flags.c_contiguous else cv2.cvtColor(raw[..., :3], cv2.COLOR_BGR2RGB)
        raw = raw[..., :3]
        if raw.dtype.kind not in 'uf':
            raise UserError(f'{name}: normals are {raw.dtype}; save them as floats, or as unsigned bytes')
    return raw


def refuse_jpeg(kind: str, data: bytes, name: str) -> None:
    """Raise a `UserError` for a label whose edges mean something in a file that blurs them."""
    if is_jpeg(data):
        raise UserError(f'{name}: a JPEG cannot hold a {kind} label (it blurs every edge); use PNG')


def decode_ids(data: bytes, name: str) -> np.ndarray:
    """Decode a map of ids from a grey or palette image, or an array of whole numbers.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        UserError: Not an image, a JPEG (which blurs ids), several channels that differ, or ids beyond 255.
    """
    if is_jpeg(data):
        raise UserError(f'{name}: a JPEG cannot hold label ids (it blurs them); use PNG')
    if is_png(data) and data[25:26] == b'\x03':
        # OpenCV would turn palette entries into colours; the ids are the indices.
        _check_png(data, name)
        if (ids := decode_png(data)) is not None:
            return ids
        with _foreign(name, 'not a readable image', 'replace the file'):
            return np.array(open_with_pil(data), np.uint8)
    ids = read_array(data, name)
    if ids.ndim == 3:
        ids = ids[..., :3]
        if (ids != ids[..., :1]).any():
            raise UserError(f'{name}: holds colours, not ids; save a grey or palette PNG of ids')
        ids = ids[..., 0]
    if ids.dtype != np.uint8:
        if ids.dtype.kind not in 'biu':
            raise UserError(f'{name}: ids are {ids.dtype}, not whole numbers; save them as 8 bits')
        if ids.max(initial=0) > 255 or ids.min(initial=0) < 0:
            worst = ids.max() if ids.max() > 255 else ids.min()
            raise UserError(f'{name}: id {worst} is beyond 255; save ids as 8 bits' if worst > 0 else
                            f'{name}: id {worst} is below 0; write 255 for pixels to ignore')  # fmt: skip
        ids = ids.astype(np.uint8)
    return np.ascontiguousarray(ids)


_PEOPLE = np.ones(256, np.uint8)
_PEOPLE[[0, 255]] = 0


def people_of(parts: np.ndarray) -> np.ndarray:
    """``(H, W)`` uint8 of 0 and 1: where part ids say that there is a person."""
    return cv2.LUT(np.ascontiguousarray(parts), _PEOPLE)


def decode_mask(data: bytes | np.ndarray, name: str = '') -> np.ndarray:
    """A mask from its file, or from what `read_label` gives: ``(H, W)`` uint8; any nonzero value, alpha aside, is 1."""
    mask = read_label('mask', data, name) if isinstance(data, bytes) else data
    if mask.ndim == 3:
        mask = mask[..., :3].any(-1)
    return (mask != 0).view(np.uint8)


def decode_depth(data: bytes | np.ndarray, name: str, depth_scale: float = 0.001) -> np.ndarray:
    """Decode depth.

    Args:
        data: A 16-bit (or 8-bit) one-channel image, .npy or .npz, or what `read_label` gives.
        depth_scale: Metres per unit of whole numbers, in images and arrays alike; floats are metres.

    Returns:
        ``(H, W)`` float32 metres; 0 = unknown (NaN, infinity and what is not positive become 0).
    """
    raw = read_label('depth', data, name) if isinstance(data, bytes) else data
    depth = raw.astype(np.float32)
    if raw.dtype.kind != 'f':
        depth *= np.float32(depth_scale)
    if raw.dtype.kind != 'u':
        depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
    return depth


def decode_normals(data: bytes | np.ndarray, name: str, axes: str = OUR_AXES) -> np.ndarray:
    """Decode normals.

    Args:
        data: An 8- or 16-bit RGB image, .npy or .npz of ``(H, W, 3)``, or what `read_label` gives.
        axes: ``'x-right y-up z-viewer'`` (ours) or ``'opencv'`` (x right, y down, z away from the viewer).

    Returns:
        ``(H, W, 3)`` float32 unit vectors in our axes; (0, 0, 0) = unknown.
    """
    check_axes(axes, name)
    raw = read_label('normals', data, name) if isinstance(data, bytes) else data
    normals = vectors_of(raw)
    if raw.dtype.kind == 'f':
        normals = np.nan_to_num(normals, nan=0.0, posinf=0.0, neginf=0.0)
    signs = np.array(NORMAL_AXES[axes], np.float32)
    return unit(normals if (signs == 1).all() else normals * signs)


def vectors_of(raw: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` float32 vectors as the file has them, of any length: unsigned ones are ``(n + 1) / 2 * max``."""
    if raw.dtype.kind == 'f':
        return raw.astype(np.float32)
    step = np.float32(2 / np.iinfo(raw.dtype).max)
    if raw.dtype == np.uint8:
        vectors = cv2.LUT(np.ascontiguousarray(raw), np.arange(256, dtype=np.float32) * step - np.float32(1))
    else:
        vectors = raw * step - np.float32(1)
    # Renderers write the zero vector behind people, and its code is the middle grey: no direction either.
    grey = raw - raw.dtype.type(np.iinfo(raw.dtype).max // 2) <= 1
    vectors[(raw[..., 0] | raw[..., 1] | raw[..., 2] == 0) | (grey[..., 0] & grey[..., 1] & grey[..., 2])] = 0
    return vectors


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale ``(..., 3)`` vectors to length 1; those shorter than 1e-6 become (0, 0, 0)."""
    length = np.sqrt(np.einsum('...i,...i->...', vectors, vectors))
    factor = np.where(length > 1e-6, 1 / np.maximum(length, 1e-6), 0)
    return (vectors * factor[..., None]).astype(np.float32)


def is_array_file(data: bytes) -> bool:
    """Whether a file is .npy or .npz."""
    return data[:6] == b'\x93NUMPY' or data[:4] == b'PK\x03\x04'


_MOST_BYTES = 2**32


@contextmanager
def _foreign(name: str, problem: str, mend: str) -> Iterator[None]:
    """The border to a library's parser: whatever a damaged file makes it raise (there is no list) is one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise UserError(f'{name}: {problem} ({reason}); {mend}') from None


def read_array(data: bytes, name: str) -> np.ndarray:
    """Numbers as a file has them: an image (channels in OpenCV's order), .npy or .npz; never unpickles.

    Returns:
        ``(H, W)`` or ``(H, W, C)`` of whole numbers or floats.

    Raises:
        UserError: Damaged, no numbers, or of another number of dimensions.
    """
    if not is_array_file(data):
        return _decode(data, name)
    with _foreign(name, 'not a readable array', 'write it again without pickled objects'):
        if data[:4] == b'PK\x03\x04':
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = archive.infolist()
                if len(members) != 1:
                    raise UserError(f'{name}: an .npz label holds one array, this has {[m.filename for m in members]}')
                if members[0].file_size > _MOST_BYTES:
                    raise UserError(f'{name}: claims to hold {members[0].file_size} bytes; write it again')
                data = archive.read(members[0])
        array = np.load(io.BytesIO(data), allow_pickle=False)
        if array.dtype.kind not in 'biuf' or array.ndim not in (2, 3) or not array.size:
            raise UserError(f'{name}: holds {array.dtype} of shape {array.shape}; a label is numbers of (H, W[, C])')
    return array


def _check_png(data: bytes, name: str) -> None:
    if is_png(data) and not png_is_whole(data):
        raise UserError(f'{name}: not a readable image (cut off or damaged); replace the file')


def _decode(data: bytes, name: str) -> np.ndarray:
    if not data:
        raise UserError(f'{name}: the file is empty (0 bytes); replace it')
    _check_png(data, name)
    if is_png(data) and data[25:26] != b'\x03' and (image := decode_png(data)) is not None:
        return image if image.ndim == 2 else image[..., ::-1]
    image = imdecode(data, cv2.IMREAD_UNCHANGED)
    if image is None:
        exr = ' (OpenCV reads EXR only with OPENCV_IO_ENABLE_OPENEXR=1)' if data[:4] == b'v/1\x01' else ''
        raise UserError(f'{name}: not a readable image{exr}; replace the file')
    if is_png(data) and data[25] == 0 and data[24] < 8 and image.ndim == 2:
        return np.floor_divide(image, 255 // (2 ** data[24] - 1))  # numbers of 1, 2 or 4 bits are spread over 8
    return image
