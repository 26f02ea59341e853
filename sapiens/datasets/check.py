# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read every sample of a data set and say what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from ..vocabularies import KeypointVocabulary, load_vocabulary
from .base import HumanDataset
from .label_files import read_array
from .storage import exists, read_bytes, readable_name
from .transforms.loading import KINDS, LoadImage, LoadLabels

UNIT_TOLERANCE = 0.05
"""A normal whose length differs more from 1 is not a unit vector (8-bit files err by 0.01)."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with one sample.

    Attributes:
        index: Position in the data set.
        kind: What is wrong, in a few words that repeat.
        file: The file to mend.
        detail: One line.
    """

    index: int
    kind: str
    file: str
    detail: str


def check_dataset(dataset: Any, workers: int = 0) -> Iterator[list[Problem]]:
    """Check every sample.

    Args:
        dataset: Ours, a wrapper around ours, or any other; of the latter only the pipeline is run.
        workers: Processes that read.

    Yields:
        The problems of each sample, in order.
    """
    yield from DataLoader(_Checked(dataset), batch_size=None, num_workers=workers, collate_fn=list)


class _Checked(Dataset):
    """Problems in the place of samples."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> list[Problem]:
        dataset, position = _unwrap(self.dataset, index)
        if isinstance(dataset, HumanDataset):
            return [Problem(index, *found) for found in check_sample(dataset, position)]
        try:
            dataset[position]
        except (UserError, OSError, ValueError, KeyError, AssertionError) as error:
            return [Problem(index, 'fails in the pipeline', f'sample {position}', _line(error))]
        return []


def _unwrap(dataset: Any, index: int) -> tuple[Any, int]:
    """The innermost data set and the position in it, through concatenations and repetitions."""
    while not isinstance(dataset, HumanDataset):
        inner = vars(dataset)
        if inner.get('datasets'):
            part = next(i for i, end in enumerate(dataset.cumulative_sizes) if index < end)
            dataset, index = inner['datasets'][part], index - (dataset.cumulative_sizes[part - 1] if part else 0)
        elif inner.get('dataset') is not None and len(dataset) % max(1, len(inner['dataset'])) == 0:
            dataset, index = inner['dataset'], index % len(inner['dataset'])
        else:
            break
    return dataset, index


def check_sample(dataset: HumanDataset, index: int) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, file, detail) for everything that is wrong with a sample."""
    dataset.full_init()
    try:
        sample = dataset.get_data_info(index)
    except UserError as error:
        yield 'malformed annotation', dataset.ann_file or dataset.data_root, _line(error)
        return
    path = str(sample['img_path'])
    size, error = _image_size(path)
    if error:
        yield 'missing file' if not exists(path) else 'unreadable image', readable_name(path), error
    else:
        sample.update(ori_shape=size, img_shape=size, warp_mat=np.eye(3))
        for kind in KINDS:
            yield from _check_label(kind, sample)
    if 'keypoints' in sample:
        name = f'{readable_name(path)}, person {sample.get("ann_id", index)}'
        for kind, detail in check_keypoints(sample, size):
            yield kind, name, detail


@lru_cache(maxsize=8)
def _image_size(path: str) -> tuple[tuple[int, int] | None, str | None]:
    """Size of an image, or why it cannot be read; people in one image follow each other, so it is kept."""
    try:
        return LoadImage(reduce=False)({'img_path': path})['ori_shape'], None
    except UserError as error:
        return None, _line(error)


def _check_label(kind: str, sample: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    files = sample.get('label_files', {})
    reference = files.get(kind)
    if reference is None and not (kind == 'mask' and ({'parts', 'instances'} & set(files))):
        return
    if reference is not None and not exists(reference):
        yield 'missing file', readable_name(reference), f'the {kind} label is not there'
        return
    try:
        out = LoadLabels((kind,))(dict(sample))
    except UserError as error:
        text = _line(error)
        if kind == 'mask' and reference is None:
            return  # the file that it is made from has been reported
        found = 'label outside the vocabulary' if 'is outside the' in text else 'unreadable label'
        yield 'shape mismatch' if '(H x W)' in text else found, readable_name(reference or str(files)), text
        return
    name = readable_name(reference or files.get('parts') or files['instances'])
    if kind == 'mask' and not out['mask'].any():
        yield 'empty mask', name, 'no pixel is a person'
    if kind == 'depth':
        yield from ((found, name, detail) for found, detail in check_depth(read_array(read_bytes(reference), name)))
    if kind == 'normals':
        yield from ((found, name, detail) for found, detail in check_normals(_raw_normals(reference, name)))


def check_depth(raw: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with depth as its file has it, ``(H, W)`` of units or metres."""
    if raw.dtype.kind == 'f':
        broken = ~np.isfinite(raw)
        if broken.any():
            yield 'NaN depth', f'{broken.mean():.2%} of the pixels are NaN or infinite; write 0 for unknown'
        if (raw[~broken] < 0).any():
            yield 'negative depth', f'{(raw[~broken] < 0).mean():.2%} of the pixels; write 0 for unknown'
    if not (raw > 0).any():
        yield 'empty depth', 'no pixel has a depth above 0'


def check_normals(normals: np.ndarray) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with ``(H, W, 3)`` normals that were not scaled to length 1 yet."""
    if not np.isfinite(normals).all():
        yield 'NaN normals', f'{(~np.isfinite(normals)).any(-1).mean():.2%} of the pixels; write (0, 0, 0) for unknown'
        return
    length = np.linalg.norm(normals, axis=-1)
    known = length > 1e-6
    if not known.any():
        yield 'empty normals', 'no pixel has a normal'
        return
    wrong = np.abs(length[known] - 1) > UNIT_TOLERANCE
    if wrong.mean() > 0.01:
        lengths = np.percentile(length[known], [5, 95])
        yield 'non-unit normals', f'{wrong.mean():.1%} of the normals; lengths {lengths[0]:.2f} to {lengths[1]:.2f}'
    away = (normals[..., 2][known] < -0.05).mean()
    if away > 0.5:
        yield 'normals point away', f"{away:.0%} have z below 0; set normal_axes='opencv' or turn z to the viewer"


def _raw_normals(reference: str, name: str) -> np.ndarray:
    raw = read_array(read_bytes(reference), name)[..., :3]
    if raw.dtype.kind == 'f':
        return raw
    known = raw.any(-1, keepdims=True)
    return np.where(known, raw[..., ::-1] * (2 / np.iinfo(raw.dtype).max) - 1, 0)


def check_keypoints(sample: dict[str, Any], size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the keypoints of a sample; ``size`` is the image's (H, W) where known."""
    vocabulary = load_vocabulary(sample['keypoint_vocabulary'])
    points, visible = sample['keypoints'], sample['keypoints_visible'] > 0
    if points.shape != (vocabulary.num_keypoints, 2):
        yield 'wrong keypoint count', f"{len(points)}, '{vocabulary.name}' has {vocabulary.num_keypoints}"
        return
    broken = visible & ~np.isfinite(points).all(-1)
    if broken.any():
        yield 'NaN keypoints', f'{broken.sum()} labelled points, first {vocabulary.names[np.flatnonzero(broken)[0]]}'
        visible = visible & ~broken
    if size is not None and visible.any():
        reach = 0.1 * np.array([size[1], size[0]])
        outside = visible & ((points < -reach) | (points > np.array([size[1], size[0]]) - 1 + reach)).any(-1)
        if outside.any():
            first = np.flatnonzero(outside)[0]
            yield 'keypoints off the image', (f'{outside.sum()} labelled points, first {vocabulary.names[first]} at '
                                              f'{points[first].round().tolist()}')  # fmt: skip
    # Hidden points of somebody seen from behind are labelled too; only what is seen tells the sides.
    reason = swapped_sides(points, visible & (sample['keypoints_visible'] > 1), vocabulary)
    if reason:
        yield 'left and right swapped?', reason


def swapped_sides(points: np.ndarray, visible: np.ndarray, vocabulary: KeypointVocabulary) -> str | None:
    """Why left and right seem exchanged, or None.

    A face that is seen shows its left eye on its own left: to the right of the line from nose to brow as the viewer
    sees it. And shoulders and hips of a body that is not twisted by more than a quarter turn have the same order.

    Args:
        points: ``(K, 2)``.
        visible: ``(K,)`` bool.
        vocabulary: With points named ``left_eye``, ``left_shoulder``, ... (without them nothing is suspected).
    """
    at = {name: points[i].astype(np.float64) for i, name in enumerate(vocabulary.names) if visible[i]}

    def have(*names: str) -> bool:
        return all(name in at for name in names)

    if have('nose', 'left_eye', 'right_eye'):
        across, up = at['left_eye'] - at['right_eye'], (at['left_eye'] + at['right_eye']) / 2 - at['nose']
        width, height = np.linalg.norm(across), np.linalg.norm(up)
        # A profile says nothing, nor does a head seen from above or below: there the nose may lie beyond the eyes.
        if width > 0.5 * height and height > 0.4 * width and _cross(up, across) < -0.5 * width * height:
            return 'the left eye lies where the right one of a face would'
    if have('left_shoulder', 'right_shoulder', 'left_hip', 'right_hip'):
        shoulders, hips = at['left_shoulder'] - at['right_shoulder'], at['left_hip'] - at['right_hip']
        up = (at['left_shoulder'] + at['right_shoulder'] - at['left_hip'] - at['right_hip']) / 2
        torso = np.linalg.norm(up)
        if torso > 0:
            sides = [_cross(up, v) / torso**2 for v in (shoulders, hips)]
            if sides[0] * sides[1] < 0 and min(abs(s) for s in sides) > 0.25:
                return 'shoulders and hips are in opposite order'
    return None


def _cross(a: np.ndarray, b: np.ndarray) -> float:
    """Positive when ``b`` points to the right of ``a`` as the viewer sees it (rows run down)."""
    return float(a[0] * b[1] - a[1] * b[0])


def _line(error: Exception) -> str:
    return ' '.join(str(error).split())
