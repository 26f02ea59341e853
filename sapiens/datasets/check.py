# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read every sample of a data set and say what is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from ..structures.geometry import OUR_AXES, box_iou
from ..utils.workers import start_worker
from ..vocabularies import KeypointVocabulary, load_keypoints
from .base import HumanDataset, leaves_of
from .check_maps import check_depth, check_normals, check_people_depth, farther_at_rim
from .image_files import pictures_in
from .label_files import read_label, vectors_of
from .storage import exists, read_bytes, readable_name
from .transforms.loading import KINDS, LoadImage, LoadLabels, check_size

SMALL_BOX = 3.0
"""A box with a side of fewer pixels shows nobody."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with one sample.

    Attributes:
        kind: What is wrong, in a few words that repeat.
    """

    index: int
    kind: str
    file: str
    detail: str


def check_dataset(dataset: Any, workers: int = 0) -> Iterator[list[Problem]]:
    """Check every sample.

    Args:
        dataset: Ours, a wrapper around ours, or any other; of the latter only the pipeline is run. Samples are counted
            over the data sets inside of wrappers, see `leaves_of`.

    Yields:
        The problems of each sample, in order; last those of the data set as a whole, with the index -1.
    """
    paths: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    options: Any = dict(collate_fn=tuple, worker_init_fn=partial(start_worker, None))
    for problems, path, facts in DataLoader(_Checked(dataset), batch_size=None, num_workers=workers, **options):
        if path:
            paths.setdefault(os.path.splitext(path)[0], set()).add(path)
        counts.update(facts)
        yield problems
    last = [Problem(-1, 'twins of a file', group[0], f'also there: {", ".join(group[1:])}; which one was labelled?')
            for group in map(sorted, paths.values()) if len(group) > 1]  # fmt: skip
    if counts['corners'] > 0.8 * counts['persons']:
        last.append(Problem(-1, 'boxes are corners?', '', f'{counts["corners"]} of {counts["persons"]} boxes fit their '
                    'keypoints better as x1, y1, x2, y2 than as x, y, width, height'))  # fmt: skip
    if counts['turned rims'] > 0.8 * counts['rims']:
        last.append(Problem(-1, 'inverse depth?', '', f'in {counts["turned rims"]} of {counts["rims"]} images people '
                    'are nearer at their outline than inside; save metres from the camera, no disparity'))  # fmt: skip
    for part in (leaf for leaf in leaves_of(dataset) if isinstance(leaf, HumanDataset)):
        for kind, words in (('unusable boxes', ' box'), ('labelled twice', 'same keypoints')):
            last += [Problem(-1, kind, part.ann_file or part.data_root, note)
                     for note in part.notes if words in note and 'area' not in note]  # fmt: skip
    if last:
        yield last


class _Checked(Dataset):
    """Problems in the place of samples, of all data sets inside of wrappers; one that is repeated is read once."""

    def __init__(self, dataset: Any) -> None:
        self.leaves = list(leaves_of(dataset))
        self.ends = np.cumsum([len(leaf) for leaf in self.leaves])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> tuple[list[Problem], str, dict[str, int]]:
        part = int(np.searchsorted(self.ends, index, side='right'))
        dataset, position = self.leaves[part], index - int(self.ends[part] - len(self.leaves[part]))
        if isinstance(dataset, HumanDataset):
            facts: dict[str, Any] = {}
            problems = [Problem(index, *found) for found in check_sample(dataset, position, facts)]
            return problems, facts.pop('path', ''), facts
        try:
            dataset[position]
        except (UserError, OSError, ValueError, KeyError, AssertionError) as error:
            return [Problem(index, 'fails in the pipeline', f'sample {position}', _line(error))], '', {}
        return [], '', {}


def check_sample(
    dataset: HumanDataset, index: int, facts: dict[str, Any] | None = None
) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, file, detail) for everything that is wrong with a sample.

    Args:
        facts: Gets what matters for the data set as a whole (see `check_dataset`).
    """
    facts = {} if facts is None else facts
    dataset.full_init()
    try:
        sample = dataset.get_data_info(index)
    except UserError as error:
        yield 'malformed annotation', dataset.ann_file or dataset.data_root, _line(error)
        return
    path = str(sample['img_path'])
    size, problem = _image_size(path, os.path.getmtime(path) if os.path.exists(path) else 0)
    if size is None:
        yield 'missing file' if not exists(path) else 'unreadable image', readable_name(path), problem
    else:
        sample.update(ori_shape=size, img_shape=size, warp_mat=np.eye(3))
        facts['path'] = path
        if problem:
            yield 'several pictures', readable_name(path), problem
        if sample.get('file_size') is not None:
            try:
                check_size(tuple(sample['file_size']), size, read_bytes(path), readable_name(path))
            except UserError as told:
                yield 'size differs', readable_name(path), _line(told)
        for kind in KINDS:
            yield from _check_label(kind, sample, facts)
    name = f'{readable_name(path)}, person {sample.get("ann_id", index)}'
    found = [*(check_box(sample, size) if 'bbox' in sample else ())]
    if 'keypoints' in sample:
        found += check_keypoints(sample, size)
        if 'bbox' in sample and not any(kind in ('tiny box', 'wrong keypoint count') for kind, _ in found):
            found += check_points_in_box(sample, size, facts)
    yield from ((kind, name, detail) for kind, detail in found)


@lru_cache(maxsize=8)
def _image_size(path: str, changed: float) -> tuple[tuple[int, int] | None, str]:
    """Size of an image, and what is wrong with it; people in one image follow each other, so it is kept."""
    try:
        data = read_bytes(path)
        size = LoadImage(reduce=False)({'img_path': path, 'img_bytes': data})['ori_shape']
        count = pictures_in(data)
        return size, f'{count} pages or pictures, of which the first is read' if count > 1 else ''
    except UserError as error:
        return None, _line(error)


def _check_label(kind: str, sample: dict[str, Any], facts: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
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
        parts = LoadLabels(('parts',))(dict(sample))['part_map'] if reference is None and 'parts' in files else None
        ignored = parts is not None and (parts == 255).any() and set(np.unique(parts)) <= {0, 255}
        hint = ': every labelled pixel is 255, which is ignored; label_map={255: 1} makes it class 1' if ignored else ''
        yield 'empty mask', name, f'no pixel is a person{hint}'
    problems: Iterator[tuple[str, str]] = iter(())
    if kind == 'depth':
        raw = read_label('depth', read_bytes(reference), name)
        problems = check_depth(raw, sample.get('depth_scale', 0.001))
        if {'mask', 'parts', 'instances'} & set(files):
            with suppress(UserError):  # of the mask, which is reported as such
                mask = LoadLabels(('mask',))(dict(sample))['mask']
                problems = chain(problems, check_people_depth(raw, mask))
                farther = farther_at_rim(out['depth'], mask)
                facts.update({'rims': 1, 'turned rims': int(farther < 0.35)} if farther is not None else {})
    if kind == 'normals':
        normals = vectors_of(read_label('normals', read_bytes(reference), name))
        problems = check_normals(normals, sample.get('normal_axes', OUR_AXES))
    yield from ((found, name, detail) for found, detail in problems)


def check_box(sample: dict[str, Any], size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a person's box as its file has it; ``size`` is the image's (H, W) where known."""
    x, y, w, h = _file_box(sample)
    if min(w, h) < SMALL_BOX:
        hint = ', as if given as shares of the image' if max(x, y, w, h) <= 1.5 else ''
        yield 'tiny box', f'{w:.3g} x {h:.3g} pixels{hint}'
    elif size is not None:
        beyond = max(-x / w, -y / h, (x + w - size[1]) / w, (y + h - size[0]) / h)
        if beyond > 0.1:
            fits = x < w <= size[1] and y < h <= size[0]
            hint = '; x1, y1, x2, y2 instead of x, y, width, height?' if fits else ''
            yield 'box beyond the image', f'by {beyond:.0%} of its side{hint}'


def check_points_in_box(
    sample: dict[str, Any], size: tuple[int, int] | None, facts: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield why labelled points do not lie in their person's box; ``facts`` gets whether corners would fit better."""
    x, y, w, h = _file_box(sample)
    points = sample['keypoints'][sample['keypoints_visible'] > 0]
    if len(points) < 3 or not np.isfinite(points).all():
        return

    def inside(moved: np.ndarray) -> float:
        return float(((moved >= [x - 2, y - 2]) & (moved <= [x + w + 2, y + h + 2])).all(-1).mean())

    def fit(moved: np.ndarray, corners: Sequence[float] = (x, y, x + w, y + h)) -> float:
        return float(box_iou(np.array([*moved.min(0), *moved.max(0)]), np.array(corners)))

    if np.abs(points).max() <= 1.5:
        guesses = {
            'normalised keypoints?': ('as shares of the image', points * (size or (h, w))[::-1]),
            'keypoints relative to the box?': ('as shares of the box', points * [w, h] + [x, y]),
        }
    else:
        guesses = {
            'keypoints relative to the box?': ('from its upper left corner', points + [x, y]),
            'x and y exchanged?': ('with x and y exchanged', points[:, ::-1]),
        }
    kind, (how, moved) = max(guesses.items(), key=lambda guess: fit(guess[1][1]))
    better = max(fit(points) + 0.15, fit(points, (x, y, w, h)))
    if len(points) >= 8:
        facts['persons'] = 1
        facts['corners'] = int(fit(points, (x, y, w, h)) > max(fit(points) + 0.1, fit(moved)))
    text = f'{round((1 - inside(points)) * len(points))} of {len(points)} labelled points lie outside'
    if inside(points) < 0.85 and inside(moved) > 0.95 and fit(moved) > better:
        yield kind, f'{text}; {how} they would lie inside'
    elif inside(points) < 0.6:
        yield 'keypoints outside the box', text


def _file_box(sample: dict[str, Any]) -> np.ndarray:
    """x, y, width, height, before it was cut to the image where that is known."""
    if 'file_bbox' in sample:
        return np.asarray(sample['file_bbox'], np.float64)
    x1, y1, x2, y2 = np.asarray(sample['bbox'], np.float64)
    return np.array([x1, y1, x2 - x1, y2 - y1])


def check_keypoints(sample: dict[str, Any], size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the keypoints of a sample; ``size`` is the image's (H, W) where known."""
    vocabulary = load_keypoints(sample['keypoint_vocabulary'])
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
