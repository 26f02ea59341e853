# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""How every field of a sample moves: the one place that knows what a warp, a mirror or a crop does to each kind.

=============  ======================================================================================================
field          what moves it
=============  ======================================================================================================
img            bilinear
part_map       nearest; a mirror exchanges left and right ids
mask           nearest
depth          nearest across edges, bilinear on smooth surfaces; values stay metres (see `warp_sample`)
normals        as depth, then rotated or mirrored as vectors and scaled to length 1
keypoints      as points; a mirror exchanges left and right points
boxes          as the box around their four moved corners
warp_mat       multiplied from the left
=============  ======================================================================================================

Pixel centres have integer coordinates. Normals are x right, y up, z to the viewer; image rows run down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from ...errors import UserError
from ...structures.geometry import covered_window
from ...vocabularies import KeypointVocabulary, PartVocabulary, load_vocabulary
from ..label_files import unit

Sample = dict[str, Any]
Place = tuple[np.ndarray, tuple[int, int], tuple[int, int]]
"""Matrix of a warp, ``(H, W)`` of its result, and x, y where an array begins in the map that it is a window of."""
IGNORE = 255
"""Part id of pixels without a label."""
MAPS = ('img', 'part_map', 'mask', 'depth', 'normals')
"""Fields of the image's size."""
_DEPTH_STEP = 0.02
_NORMAL_STEP = 0.25
# Pixels along a side, and types, that OpenCV warps as they are.
_MOST_SIDE = 32766
_WARPED = tuple(np.dtype(name) for name in ('u1', 'u2', 'i2', 'f4', 'f8'))


def translation(x: float, y: float) -> np.ndarray:
    """``(3, 3)`` shift by x, y pixels."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def warp_sample(
    results: Sample,
    matrix: np.ndarray,
    size: tuple[int, int],
    pad_img: int | tuple[int, int, int] = 0,
    pad_part: int = IGNORE,
    depth_scale_compensation: bool = False,
) -> Sample:
    """Move every field present by one affine map.

    A pure zoom of the image plane keeps metric depth: the surface point behind a pixel is as far away as before, only
    the focal length in pixels changes. With ``depth_scale_compensation`` depth is divided by the magnification
    instead, which is the depth at which the *same* camera would see the person at the new size.

    Args:
        matrix: ``(3, 3)`` or ``(2, 3)``: pixel centres of the current frame -> new frame.
        size: ``(H, W)`` of the new frame.
        pad_img: Colour outside the image.
        pad_part: Part id outside the image.

    Returns:
        ``results``.
    """
    matrix = as_matrix(matrix)
    for name in MAPS:
        if name in results:
            results[name] = warp_map(name, results[name], matrix, size, pad_img, pad_part)
    results['pad_part'] = pad_part
    if depth_scale_compensation:
        # Kept for labels that are loaded later.
        results['depth_divisor'] = results.get('depth_divisor', 1.0) * magnification(matrix)
        if 'depth' in results:
            results['depth'] = (results['depth'] / magnification(matrix)).astype(np.float32)
    if np.linalg.det(matrix[:2, :2]) < 0:
        _swap_sides(results)
    return _finish(results, matrix, size)


def flip_sample(results: Sample) -> Sample:
    """Mirror every field left to right, exactly: x -> W - 1 - x."""
    for name in MAPS:
        if name in results:
            results[name] = cv2.flip(results[name], 1)
    if 'normals' in results:
        # Minus zero would be written to files and compared as such.
        results['normals'][..., 0] = 0 - results['normals'][..., 0]
    _swap_sides(results)
    width = results['img_shape'][1]
    return _finish(results, np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]], np.float64), results['img_shape'])


def cut_sample(
    results: Sample, x: int, y: int, size: tuple[int, int], pad_img: int | tuple = 0, pad_part: int = IGNORE
) -> Sample:
    """Take the window of ``(H, W)`` whose upper left pixel is ``x, y``; beyond the image it is padded."""
    height, width = results['img_shape']
    rows, columns = slice(max(y, 0), min(y + size[0], height)), slice(max(x, 0), min(x + size[1], width))
    border = (rows.start - y, y + size[0] - rows.stop, columns.start - x, x + size[1] - columns.stop)
    for name in MAPS:
        if name in results:
            part = results[name][rows, columns]
            if any(border):
                part = cv2.copyMakeBorder(part, *border, cv2.BORDER_CONSTANT, value=_padding(name, pad_img, pad_part))
            results[name] = np.ascontiguousarray(part)
    if any(border):
        results['pad_part'] = pad_part
    return _finish(results, translation(-x, -y), size)


def warp_map(
    name: str,
    array: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    pad_img: int | tuple[int, int, int] = 0,
    pad_part: int = IGNORE,
    convert: Callable[[np.ndarray], np.ndarray] | None = None,
    nearest: bool = False,
) -> np.ndarray:
    """Warp one field of the image's size by its kind; normals are turned with the image.

    With ``convert`` the array is what a label's file holds, and only the pixels that are needed are made into numbers:
    at 4K that is most of the work, and the result is the same.

    Args:
        name: Name of the field, one of `MAPS`.
        array: ``(H, W[, C])``.
        matrix: ``(3, 3)`` current -> new pixel centres.
        size: New ``(H, W)``.
        pad_img, pad_part: Values outside.
        convert: Pixel by pixel from the file's numbers to the field's; what is 0 must stay 0.
        nearest: Take the nearest pixel of every kind, also where a surface could be interpolated.
    """
    value, place = _padding(name, pad_img, pad_part), (matrix, size, (0, 0))
    if name == 'img':
        return _warp(array, place, cv2.INTER_LINEAR, value)
    if convert is not None and array.dtype not in _WARPED:
        array, convert = convert(array), None
    convert = convert or np.asarray
    if name in ('part_map', 'mask') or nearest or magnification(matrix) < 0.9 or array.size == 0:
        out = convert(_warp(array, place, cv2.INTER_NEAREST, value))
    else:
        rows, columns = _window(matrix, size, array.shape[:2])
        array = convert(array[rows, columns])
        place = (matrix, size, (columns.start, rows.start))
        if name == 'depth':
            out = _warp_smooth(array, array > 0, place, lambda low, high: high - low < _DEPTH_STEP * low)
        else:
            out = _warp_smooth(
                array, array.any(-1), place, lambda low, high: (high - low).max(-1, initial=0) < _NORMAL_STEP
            )
            out = unit(out)
    return _turn(out, matrix) if name == 'normals' else out


def warp_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Map ``(..., 2)`` points by an affine ``(3, 3)`` or ``(2, 3)``."""
    return (points @ matrix[:2, :2].T + matrix[:2, 2]).astype(np.float32)


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Boxes ``(N, 4)`` x1, y1, x2, y2 around the moved corners of ``(N, 4)`` boxes."""
    corners = warp_points(boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]], matrix)
    return np.concatenate([corners.min(1), corners.max(1)], 1)


def magnification(matrix: np.ndarray) -> float:
    """How many times longer an affine map makes things (geometric mean of both axes)."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))


def _window(matrix: np.ndarray, size: tuple[int, int], shape: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of an ``(H, W)`` map that a warp to ``size`` looks at, their neighbours included."""
    box = warp_boxes(np.array([[0, 0, size[1] - 1, size[0] - 1]]), cv2.invertAffineTransform(matrix[:2]))[0]
    end = np.array([shape[1], shape[0]])
    low = np.clip(np.floor(box[:2]) - 4, 0, end - 1).astype(int)
    high = np.clip(np.ceil(box[2:]) + 5, low + 1, end).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _warp_smooth(
    array: np.ndarray, known: np.ndarray, place: Place, is_smooth: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Nearest neighbour; bilinear where all pixels around are known and nearly equal.

    So a surface does not come out in steps, and no value ever mixes a person with what is behind it.
    """
    nearest = _warp(array, place, cv2.INTER_NEAREST, 0)
    kernel = np.ones((3, 3), np.uint8)
    smooth = is_smooth(cv2.erode(array, kernel), cv2.dilate(array, kernel)) & (
        cv2.erode(known.view(np.uint8), kernel) > 0
    )
    smooth = _warp(smooth.view(np.uint8), place, cv2.INTER_NEAREST, 0) > 0
    # Replicated borders keep the outermost half pixel of a surface clean.
    linear = _warp(array, place, cv2.INTER_LINEAR, None)
    return np.where(smooth[..., None] if array.ndim == 3 else smooth, linear, nearest)


def _warp(array: np.ndarray, place: Place, flags: int, value: Any) -> np.ndarray:
    """Warp an array; ``value`` is what lies outside, None the border's."""
    matrix, size, origin = place
    # A view with negative strides costs ten times more inside OpenCV than its copy.
    array = np.ascontiguousarray(array)
    border = dict(borderMode=cv2.BORDER_REPLICATE) if value is None else dict(borderValue=value)
    step = np.ones((2, 1))
    if max(array.shape[:2]) > _MOST_SIDE:
        if origin == (0, 0):
            rows, columns = _window(matrix, size, array.shape[:2])
            array, origin = array[rows, columns], (columns.start, rows.start)
        y, x = (-(-side // _MOST_SIDE) for side in array.shape[:2])
        array, step = np.ascontiguousarray(array[::y, ::x]), np.array([[x], [y]])
    # Not left to OpenCV, for the origin; the same numbers, so that ties fall as they do there.
    inverse = (cv2.invertAffineTransform(matrix[:2]) - np.array([[0, 0, origin[0]], [0, 0, origin[1]]])) / step
    return cv2.warpAffine(array, inverse, (size[1], size[0]), flags=flags | cv2.WARP_INVERSE_MAP, **border)


def _turn(normals: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Rotate or mirror vectors with the image plane, by the orthogonal part of the map (rows down, y up)."""
    left, _, right = np.linalg.svd(matrix[:2, :2])
    turn = left @ right
    if np.allclose(turn, np.eye(2)):
        return normals
    turn = (turn * np.array([[1, -1], [-1, 1]])).astype(np.float32)
    normals = normals.copy()
    normals[..., :2] = normals[..., :2] @ turn.T
    return normals


def swap_parts(results: Sample) -> None:
    """Exchange left and right ids of ``part_map``."""
    swap = vocabulary_of(results, 'part_vocabulary').swap
    table = np.arange(256, dtype=np.uint8)
    table[: len(swap)] = swap
    results['part_map'] = cv2.LUT(results['part_map'], table)


def inside_image(results: Sample) -> np.ndarray:
    """``(H, W)`` bool: the pixels that lie in the file's image, not in padding."""
    inverse = cv2.invertAffineTransform(as_matrix(results['warp_mat'])[:2])
    window, shown = covered_window(inverse, results['ori_shape'], results['img_shape'])
    inside = np.zeros(results['img_shape'], bool)
    inside[window] = True if shown is None else shown
    return inside


def _swap_sides(results: Sample) -> None:
    """Exchange left and right ids and points after a mirror."""
    if 'part_map' in results:
        swap_parts(results)
    if 'keypoints' in results:
        swap = vocabulary_of(results, 'keypoint_vocabulary').swap
        if len(swap) != len(results['keypoints']):
            raise UserError(f'{results.get("img_path", "sample")}: has {len(results["keypoints"])} keypoints, but '
                            f"'{results['keypoint_vocabulary']}' has {len(swap)}")  # fmt: skip
        results['keypoints'] = results['keypoints'][swap]
        if 'keypoints_visible' in results:
            results['keypoints_visible'] = results['keypoints_visible'][swap]
    results['flipped'] = not results.get('flipped', False)


def vocabulary_of(results: Sample, key: str) -> KeypointVocabulary | PartVocabulary:
    """A sample's ``'keypoint_vocabulary'`` or ``'part_vocabulary'``, without which nobody knows what its ids mean.

    Raises:
        UserError: It has none.
    """
    if results.get(key) is None:
        raise UserError(f'{results.get("img_path", "sample")}: ids say nothing without a {key}; '
                        f"give the data set one, e.g. '{'coco17' if 'keypoint' in key else 'parts28'}'")  # fmt: skip
    return load_vocabulary(results[key])


def _finish(results: Sample, matrix: np.ndarray, size: tuple[int, int]) -> Sample:
    if 'keypoints' in results:
        results['keypoints'] = warp_points(results['keypoints'], matrix)
    if 'boxes' in results:
        results['boxes'] = warp_boxes(results['boxes'], matrix)
    results['warp_mat'] = matrix @ as_matrix(results.get('warp_mat', np.eye(3)))
    results['img_shape'] = (int(size[0]), int(size[1]))
    return results


def as_matrix(matrix: np.ndarray) -> np.ndarray:
    """``(3, 3)`` or ``(2, 3)`` -> ``(3, 3)`` float64."""
    matrix = np.asarray(matrix, np.float64)
    return matrix if matrix.shape == (3, 3) else np.vstack([matrix, [0, 0, 1]])


def _padding(name: str, pad_img: int | tuple, pad_part: int) -> Any:
    if name == 'img':
        return (pad_img,) * 3 if isinstance(pad_img, int) else tuple(pad_img)
    return pad_part if name == 'part_map' else 0
