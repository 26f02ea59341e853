# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read the image and its labels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ...errors import UserError
from ...registry import TRANSFORMS
from ...vocabularies import load_vocabulary
from ..image_files import decode_image, is_jpeg, reduction_matrix, upright_size
from ..label_files import decode_ids, depth_of, is_array_file, mask_of, normals_of, read_array
from ..storage import read_bytes, readable_name
from .fields import IGNORE, Sample, as_matrix, pick_pixels, turn_normals, warp_boxes, warp_map
from .topdown import fit_aspect

KINDS = ('parts', 'depth', 'normals', 'mask')
_FIELD = {'parts': 'part_map', 'depth': 'depth', 'normals': 'normals', 'mask': 'mask'}


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read ``img_path`` as upright RGB, decoding a large JPEG at 1/2, 1/4 or 1/8 where the crop to come allows it.

    The reduced image still has at least as many pixels as the network's input will show, so nothing is lost; it is
    even better than a bilinear warp of the full image, which would skip pixels. The crop is ``bbox_scale`` when
    `PersonBox` (and the box augmentations, which come before this transform) have set it, else the whole image.

    Adds ``img``, ``ori_shape`` (of the file), ``img_shape`` (decoded), ``warp_mat`` (exact, half-pixel shifts included)
    and ``flipped``. Keypoints move with the image.

    Args:
        input_size: ``(H, W)`` that the pipeline ends with; None takes the data set's (without either, the full image
            is decoded).
        max_zoom: Largest magnification beyond fitting the crop into ``input_size`` that later transforms may draw.
        reduce: False always decodes the full image (for crops at the image's own resolution).

    Raises:
        UserError: Missing, empty, truncated or no image; the message names the file.
    """

    def __init__(self, input_size: Sequence[int] | None = None, max_zoom: float = 1.0, reduce: bool = True) -> None:
        self.input_size, self.max_zoom, self.reduce = input_size, max_zoom, reduce

    def transform(self, results: Sample) -> Sample:
        """Load ``results['img_path']``, or take ``results['img']`` as it is when there.

        ``results['img_bytes']`` is the file of both, for callers that have read and decoded it already.
        """
        data = results.pop('img_bytes', None)
        if 'img' in results and data is None:
            image = results['img']
            size, matrix = image.shape[:2], np.eye(3)
        else:
            name = readable_name(str(results['img_path']))
            data = read_bytes(str(results['img_path'])) if data is None else data
            wanted = (self.input_size or results.get('input_size')) if self.reduce else None
            header = upright_size(data) if wanted and is_jpeg(data) else None
            reduce = self._reduction(results, header[0], wanted) if header else 1
            image = results['img'] if reduce == 1 and 'img' in results else decode_image(data, name, reduce)
            size = header[0] if reduce > 1 else image.shape[:2]
            matrix = reduction_matrix(size, reduce, header[1]) if reduce > 1 else np.eye(3)
        results['img'] = image
        results['ori_shape'] = (int(size[0]), int(size[1]))
        results['img_shape'] = image.shape[:2]
        results['warp_mat'] = matrix
        results.setdefault('flipped', False)
        if 'boxes' in results:
            results['boxes'] = warp_boxes(results['boxes'], matrix)
        if 'keypoints' in results:
            results['keypoints'] = (results['keypoints'] @ matrix[:2, :2].T + matrix[:2, 2]).astype(np.float32)
        return results

    def _reduction(self, results: Sample, size: tuple[int, int], input_size: Sequence[int]) -> int:
        """The largest of 8, 4, 2, 1 that leaves a pixel for every pixel of the input."""
        if 'bbox_scale' in results:
            width, height = fit_aspect(results['bbox_scale'], input_size)
        else:
            height, width = size
        ratio = min(height / input_size[0], width / input_size[1]) / self.max_zoom
        return next((r for r in (8, 4, 2) if r <= ratio), 1)


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """Kinds of dense labels as a tuple.

    Raises:
        UserError: One is none of `KINDS`.
    """
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise UserError(f'labels {sorted(unknown)} are none of {KINDS}')
    return tuple(kinds)


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):
    """Read the labels that are asked for and bring them into the current frame.

    The data set gives ``label_files`` (kind -> file), and ``depth_scale`` and ``normal_axes`` where they are not the
    defaults; ``label_map`` (a 256-entry table) renames part ids. A missing mask is made from the parts, else from the
    instances. This transform may stand anywhere behind `LoadImage`.

    Args:
        kinds: Some of ``'parts'``, ``'depth'``, ``'normals'``, ``'mask'``; None takes the data set's ``labels``, all
            where it names none.
        optional: Whether a sample may lack some of them (several tasks on mixed data).
        stride: Give labels at 1 / stride of the image's size, each the pixel nearest to the centre of its block, for
            heads that are trained at their own resolution. Put it behind what changes the image's geometry; only
            `RandomFlip` and transforms of the image alone may follow.
        frame: ``'current'`` moves the labels as the image has been moved; ``'original'`` keeps them in the original
            image's frame, where test metrics compare (the transform then comes last).

    Raises:
        UserError: A label is missing, unreadable, of another size than the image, or has ids outside the vocabulary.
    """

    def __init__(
        self, kinds: Sequence[str] | None = None, optional: bool = False, stride: int = 1, frame: str = 'current'
    ) -> None:
        if frame not in ('current', 'original'):
            raise UserError(f"LoadLabels: frame '{frame}' is neither 'current' nor 'original'")
        self.kinds = None if kinds is None else check_kinds(kinds)
        if stride > 1 and frame == 'original':
            raise UserError("LoadLabels: stride is for labels of training; with frame='original' leave it out")
        self.optional, self.stride, self.frame = optional, stride, frame

    def transform(self, results: Sample) -> Sample:
        """Add ``part_map``, ``depth``, ``normals`` and ``mask`` as asked."""
        matrix = as_matrix(results['warp_mat'])
        size = results['img_shape']
        if self.stride > 1:
            size = tuple(n // self.stride for n in size)
            centre = (self.stride - 1) / 2
            matrix = np.array([[1, 0, -centre], [0, 1, -centre], [0, 0, self.stride]]) / self.stride @ matrix
        moved = self.frame == 'current' and not np.array_equal(matrix, np.eye(3))
        for kind in self.kinds or results.get('labels', KINDS):
            label = self._load(kind, results, (matrix, size) if self.stride > 1 else None)
            if label is None:
                if self.optional:
                    continue
                name = readable_name(str(results['img_path']))
                raise UserError(f'{name}: has no {kind}, which LoadLabels asks for; add the label, drop '
                                f"'{kind}' from the data set's labels or set optional=True")  # fmt: skip
            field = _FIELD[kind]
            if self.stride > 1:
                results[field] = turn_normals(label, matrix) if kind == 'normals' else label
                continue
            if label.shape[:2] != tuple(results['ori_shape']):
                raise UserError(f'{self._name(kind, results)}: {kind} is {label.shape[0]} x {label.shape[1]} (H x W), '
                                'the image {} x {}; make them equal'.format(*results['ori_shape']))  # fmt: skip
            results[field] = warp_map(field, label, matrix, size) if moved else label
        if moved and results.get('flipped') and 'part_map' in results:
            swap = load_vocabulary(results['part_vocabulary']).swap
            table = np.arange(256, dtype=np.uint8)
            table[: len(swap)] = swap
            results['part_map'] = cv2.LUT(results['part_map'], table)
        return results

    def _load(self, kind: str, results: Sample, place: tuple[np.ndarray, tuple[int, int]] | None) -> np.ndarray | None:
        """The label, or with a place (map and size) its nearest pixels there; None where the sample has none."""
        files, decoded = results.get('label_files', {}), results.get('label_arrays', {})
        if kind == 'mask' and 'mask' not in files:
            if 'parts' in files:
                parts = self._load('parts', results, place)
                return ((parts > 0) & (parts != IGNORE)).astype(np.uint8)
            kind = 'instances'
        if kind not in files:
            return None
        name = readable_name(files[kind])
        if kind in decoded:
            array, is_image = decoded[kind], True
        else:
            data = read_bytes(files[kind])
            is_image = not is_array_file(data)
            array = decode_ids(data, name) if kind == 'parts' else read_array(data, name)
        if place is not None:
            array = pick_pixels(_FIELD.get(kind, 'mask'), array, *place, results.get('pad_part', IGNORE))
        if kind == 'depth':
            return depth_of(array, name, results.get('depth_scale', 0.001))
        if kind == 'normals':
            return normals_of(array, name, results.get('normal_axes', 'x-right y-up z-viewer'), is_image)
        if kind in ('mask', 'instances'):
            return mask_of(array)
        if results.get('label_map') is not None:
            array = cv2.LUT(array, results['label_map'])
        if results.get('part_vocabulary') is not None:
            check_part_ids(array, results['part_vocabulary'], name)
        return array

    @staticmethod
    def _name(kind: str, results: Sample) -> str:
        files = results['label_files']
        return readable_name(files.get(kind) or files.get('parts') or files['instances'])


def check_part_ids(parts: np.ndarray, vocabulary: str, name: str) -> None:
    """Raise a `UserError` naming the first id that is neither a class of the vocabulary nor 255 (ignore)."""
    vocabulary = load_vocabulary(vocabulary)
    outside = np.flatnonzero(cv2.calcHist([parts], [0], None, [256], [0, 256]).ravel()[:IGNORE])
    outside = outside[outside >= vocabulary.num_classes]
    if outside.size:
        raise UserError(f'{name}: label {outside[0]} is outside the {vocabulary.num_classes} classes of '
                        f"'{vocabulary.name}'; mend the file or give the data set a label_map")  # fmt: skip
