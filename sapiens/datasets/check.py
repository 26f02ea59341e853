# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read every sample of a data set and say what is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from ..errors import UserError
from ..structures.geometry import OUR_AXES
from ..utils.workers import start_worker
from .base import HumanDataset, leaves_of
from .check_maps import check_depth, check_normals, check_people_depth, farther_at_rim
from .check_persons import check_person
from .image_files import pictures_in
from .label_files import read_label, vectors_of
from .storage import exists, read_bytes, readable_name
from .transforms.loading import KINDS, LoadImage, LoadLabels, check_size


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
    checked: Dataset = ConcatDataset(map(_Checked, leaves_of(dataset)))
    for index, (found, facts) in enumerate(DataLoader(checked, batch_size=None, num_workers=workers, **options)):
        if path := facts.pop('path', ''):
            paths.setdefault(os.path.splitext(path)[0], set()).add(path)
        counts.update(facts)
        yield [Problem(index, *problem) for problem in found]
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
    """What is wrong with the samples of a data set, in their place, and the facts of `check_sample`."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[list[tuple[str, str, str]], dict[str, Any]]:
        facts: dict[str, Any] = {}
        if isinstance(self.dataset, HumanDataset):
            return list(check_sample(self.dataset, index, facts)), facts
        try:
            self.dataset[index]
        except (UserError, OSError, ValueError, KeyError, AssertionError) as error:
            return [('fails in the pipeline', f'sample {index}', _line(error))], facts
        return [], facts


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
    yield from ((kind, name, detail) for kind, detail in check_person(sample, size, facts))


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


def _line(error: Exception) -> str:
    return ' '.join(str(error).split())
