# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read the image and its labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from ...errors import UserError
from ...registry import TRANSFORMS
from ...structures.geometry import OUR_AXES
from ...vocabularies import PartVocabulary, load_parts
from ..image_files import decode_image, is_jpeg, reduction_matrix, upright_size
from ..label_files import decode_depth, decode_mask, decode_normals, people_of, read_label
from ..storage import read_bytes, readable_name
from .base import Transform
from .fields import IGNORE, Sample, as_matrix, swap_parts, warp_map, warp_points
from .topdown import fit_aspect

_FIELD = {'parts': 'part_map', 'depth': 'depth', 'normals': 'normals', 'mask': 'mask'}
KINDS = tuple(_FIELD)


@TRANSFORMS.register_module()
@dataclass(eq=False)
class LoadImage(Transform):
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
        backend_args: Of mmpose's configs; files are local.

    Raises:
        UserError: Missing, empty, truncated or no image; the message names the file.
    """

    input_size: Sequence[int] | None = None
    max_zoom: float = 1.0
    reduce: bool = True
    backend_args: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        backend = (self.backend_args or {}).get('backend')
        if backend not in (None, 'local', 'disk'):
            raise UserError(f'LoadImage: reads local files, not those of {backend}; copy them first')

    def transform(self, results: Sample) -> Sample:
        """Load ``results['img_path']``, or take ``results['img']`` as it is when there.

        ``results['img_bytes']`` is the file of both, for callers that have read and decoded it already.
        """
        data, image = results.pop('img_bytes', None), results.get('img')
        header, reduce = None, 1
        if data is not None or image is None:
            name = readable_name(str(results['img_path']))
            data = read_bytes(str(results['img_path'])) if data is None else data
            # A box that no `PersonBox` has looked at yet: the crop may be much smaller than the image.
            unknown = results.get('bbox') is not None and 'bbox_scale' not in results
            wanted = self.input_size if self.reduce and not unknown else None
            header = upright_size(data) if wanted and is_jpeg(data) else None
            reduce = self._reduction(results, header[0], wanted) if header and wanted else 1
            if reduce > 1 or image is None:
                image = decode_image(data, name, reduce)
        size, matrix = image.shape[:2], np.eye(3)
        if header and reduce > 1:
            size, matrix = header[0], reduction_matrix(header[0], reduce, header[1])
        results['img'] = image
        results['ori_shape'] = (int(size[0]), int(size[1]))
        if data is not None and results.get('file_size') is not None:
            check_size(tuple(results['file_size']), results['ori_shape'], data, name)
        results['img_shape'] = image.shape[:2]
        results['warp_mat'] = matrix
        results.setdefault('flipped', False)
        if 'keypoints' in results:
            results['keypoints'] = warp_points(results['keypoints'], matrix)
        return results

    def _reduction(self, results: Sample, size: tuple[int, int], input_size: Sequence[int]) -> int:
        """The largest of 8, 4, 2, 1 that leaves a pixel for every pixel of the input."""
        if 'bbox_scale' in results:
            width, height = fit_aspect(results['bbox_scale'], input_size)
        else:
            height, width = size
        ratio = min(height / input_size[0], width / input_size[1]) / self.max_zoom
        return next((r for r in (8, 4, 2) if r <= ratio), 1)


def check_size(told: tuple[int, int], size: tuple[int, int], data: bytes, name: str) -> None:
    """Raise a `UserError` when an image is not as large as its annotations say: its coordinates are then elsewhere."""
    if told == size:
        return
    header = upright_size(data)
    if told == size[::-1]:
        turned = 'its EXIF data turn it' if header and header[1] >= 5 else 'it was turned'
        reason = f'height and width are exchanged: {turned}, and the labels were drawn on the other one'
    else:
        reason = 'it was resized after labelling, or belongs to other labels'
    raise UserError(f'{name}: is {size[0]} x {size[1]} (H x W), its annotation says {told[0]} x {told[1]}: {reason}; '
                    'take the image that was labelled, or mend size and coordinates in the file')  # fmt: skip


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """Kinds of dense labels, or a single one, as a tuple.

    Raises:
        UserError: One is none of `KINDS`.
    """
    kinds = [kinds] if isinstance(kinds, str) else kinds
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise UserError(f'labels {sorted(unknown)} are none of {KINDS}')
    return tuple(kinds)


@TRANSFORMS.register_module()
@dataclass(eq=False)
class LoadLabels(Transform):
    """Read the labels that are asked for and bring them into the current frame.

    The data set gives ``label_files`` (kind -> file), and ``depth_scale`` and ``normal_axes`` where they are not the
    defaults; ``label_map`` (a 256-entry table) renames part ids. A missing mask is made from the parts, else from the
    instances. This transform may stand anywhere behind `LoadImage`.

    Args:
        kinds: Some of ``'parts'``, ``'depth'``, ``'normals'``, ``'mask'``; None takes the data set's ``labels``, all
            where it names none. Kinds that the data set's ``labels`` leave out stay out.
        optional: Whether a sample may lack some of them.
        stride: Give labels at 1 / stride of the image's size, each the pixel nearest to the centre of its block, for
            heads that are trained at their own resolution. Put it behind what changes the image's geometry; only
            `RandomFlip` and transforms of the image alone may follow.
        frame: ``'current'`` moves the labels as the image has been moved; ``'original'`` keeps them in the original
            image's frame, where test metrics compare (the transform then comes last).

    Raises:
        UserError: A label is missing, unreadable, of another size than the image, or has ids outside the vocabulary.
    """

    kinds: Sequence[str] | None = None
    optional: bool = False
    stride: int = 1
    frame: str = 'current'

    def __post_init__(self) -> None:
        if self.frame not in ('current', 'original'):
            raise UserError(f"LoadLabels: frame '{self.frame}' is neither 'current' nor 'original'")
        self.kinds = None if self.kinds is None else check_kinds(self.kinds)
        self.labels: tuple[str, ...] | None = None  # the data set's, see `settle`
        if self.stride > 1 and self.frame == 'original':
            raise UserError("LoadLabels: stride is for labels of training; with frame='original' leave it out")

    def transform(self, results: Sample) -> Sample:
        """Add ``part_map``, ``depth``, ``normals`` and ``mask`` as asked; what is there already stays."""
        matrix = as_matrix(results['warp_mat'])
        size = results['img_shape']
        if self.stride > 1:
            size = tuple(n // self.stride for n in size)
            centre = (self.stride - 1) / 2
            matrix = np.array([[1, 0, -centre], [0, 1, -centre], [0, 0, self.stride]]) / self.stride @ matrix
        moved = self.frame == 'current' and not np.array_equal(matrix, np.eye(3))
        there = KINDS if self.labels is None else self.labels
        for kind in there if self.kinds is None else self.kinds:
            field = _FIELD[kind]
            if kind not in there and not (kind == 'mask' and 'parts' in there):
                continue
            if field in results and results[field].shape[:2] == tuple(size) and self.frame == 'current':
                continue
            label, convert = self._read(kind, results)
            if label is None:
                if self.optional:
                    continue
                name = readable_name(str(results['img_path']))
                raise UserError(f'{name}: has no {kind}, which LoadLabels asks for; add the label, leave '
                                f"'{kind}' out of the data set's labels=[...] or set optional=True")  # fmt: skip
            if not moved:
                results[field] = convert(label)
                continue
            results[field] = warp_map(field, label, matrix, size, pad_part=results.get('pad_part', IGNORE),
                                      convert=convert, nearest=self.stride > 1)  # fmt: skip
            if kind == 'parts' and results.get('flipped'):
                swap_parts(results)
            if kind == 'depth' and 'depth_divisor' in results:
                results[field] = (results[field] / results['depth_divisor']).astype(np.float32)
        return results

    def _read(self, kind: str, results: Sample) -> tuple[np.ndarray | None, Callable[[np.ndarray], np.ndarray]]:
        """What the file holds (None where the sample has none), and what makes it the field, pixel by pixel."""
        files = results.get('label_files', {})
        if kind == 'mask' and 'mask' not in files:
            if 'parts' in files:
                return self._read('parts', results)[0], people_of
            kind = 'instances'
        if kind not in files:
            return None, np.asarray
        name, decoded = readable_name(files[kind]), results.setdefault('label_arrays', {})
        if kind not in decoded:
            decoded[kind] = read_label(kind, read_bytes(files[kind]), name)
        array = decoded[kind]
        if array.shape[:2] != tuple(results['ori_shape']):
            raise UserError(f'{name}: {kind} is {array.shape[0]} x {array.shape[1]} (H x W), the image '
                            '{} x {}; make them equal'.format(*results['ori_shape']))  # fmt: skip
        if kind == 'depth':
            return array, partial(decode_depth, name=name, depth_scale=results.get('depth_scale', 0.001))
        if kind == 'normals':
            return array, partial(decode_normals, name=name, axes=results.get('normal_axes', OUR_AXES))
        if kind in ('mask', 'instances'):
            return array, decode_mask
        if results.get('label_map') is not None:
            array = cv2.LUT(np.ascontiguousarray(array), results['label_map'])
        if results.get('part_vocabulary') is not None:
            check_part_ids(array, results['part_vocabulary'], name)
        return array, np.asarray


def check_part_ids(parts: np.ndarray, vocabulary: str | PartVocabulary, name: str) -> None:
    """Raise a `UserError` naming the first id that is neither a class of the vocabulary nor 255 (ignore)."""
    known = load_parts(vocabulary)
    table = np.zeros(256, np.uint8)
    table[known.num_classes : IGNORE] = 1
    if cv2.LUT(np.ascontiguousarray(parts), table).any():
        outside = np.unique(parts[(parts >= known.num_classes) & (parts != IGNORE)])
        raise UserError(f'{name}: label {outside[0]} is outside the {known.num_classes} classes of '
                        f"'{known.name}'; mend the file or give the data set a label_map")  # fmt: skip
