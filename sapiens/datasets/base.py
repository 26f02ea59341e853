# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What every data set of the toolkit shares: vocabularies, the pipeline, messages; and several as one."""

from __future__ import annotations

import copy
import gc
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dataset import ConcatDataset as _ConcatDataset
from mmengine.logging import print_log

from ..errors import UserError
from ..registry import DATASETS, TRANSFORMS
from ..utils.file_names import find_file
from ..vocabularies import KeypointVocabulary, PartVocabulary, load_keypoints, load_parts, load_vocabulary
from ..vocabularies.names import without_twin
from .image_files import list_images
from .storage import readable_name
from .transforms.base import check_argument, settle
from .transforms.loading import check_kinds

BAD_SAMPLE = (UserError, OSError)
"""What a sample raises when it, and not the program, is wrong; readers of files turn all else into it. Data sets raise,
training (`engine.loaders.SeededDataset`) skips and notes it."""


class TooManyBadSamplesError(UserError):
    """More samples than allowed cannot be read; the message names the files."""


@DATASETS.register_module()
class HumanDataset(BaseDataset):
    """Base of all data sets: images with any labels, as mmengine's loaders, samplers and wrappers expect them.

    A subclass reads one *format*: it implements ``load_data_list`` (small picklable dicts with at least ``img_path``)
    and, where reading can wait, `parse_sample`. A sample that cannot be read is an error; training replaces it by
    another one and counts it (`sapiens.engine.loaders.SeededDataset`), in testing a score without it would be wrong.

    Args:
        ann_file: Annotation file, relative to ``data_root``.
        data_root: Folder that all paths are relative to.
        data_prefix: Folders inside ``data_root`` by use, e.g. ``dict(img='val2017/')``.
        pipeline: Transforms (configs or callables).
        input_size: ``(H, W)`` of the network's input, for every transform that is not told another.
        labels: Dense labels that `LoadLabels` reads, of ``'parts'``, ``'depth'``, ``'normals'``, ``'mask'``;
            None = all, ``()`` = the data have none.
        keypoint_vocabulary: Name or file of the vocabulary of the keypoints.
        part_vocabulary: Name or file of the vocabulary of the part ids.
        label_map: Part ids of the files -> ids of ``part_vocabulary``, a dict or a list; ids that it does not name
            stay. Map to 255 to ignore.
        background: Folder of human-free photos for `RandomBackground`.
        test_mode: Whether every sample must come out, unchanged in order.
        **kwargs: mmengine's: ``indices``, ``serialize_data``, ``lazy_init``, ``metainfo``, ``filter_cfg``.

    Attributes:
        notes: What was dropped from the file or assumed about it, one line each; logged when it is read.

    Raises:
        UserError: Paths that do not exist, annotations that are malformed, unknown vocabularies, or no sample at all.
    """

    def __init__(
        self,
        ann_file: str = '',
        data_root: str = '',
        data_prefix: dict[str, str] | None = None,
        pipeline: Sequence[Any] = (),
        input_size: Sequence[int] | None = None,
        labels: Sequence[str] | None = None,
        keypoint_vocabulary: str | KeypointVocabulary | None = None,
        part_vocabulary: str | PartVocabulary | None = None,
        label_map: Mapping[int, int] | Sequence[int] | None = None,
        background: str | None = None,
        test_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        for argument, value, wanted in (
            ('ann_file', ann_file, 'str | None'),
            ('data_root', data_root, 'str | None'),
            ('data_prefix', data_prefix, 'dict | None'),
            ('pipeline', pipeline, 'Sequence[Any]'),
            ('input_size', input_size, 'Sequence[int] | None'),
            ('labels', labels, 'str | Sequence[str] | None'),
        ):
            check_argument(type(self).__name__, argument, value, wanted)
        self.input_size = None if input_size is None else tuple(input_size)
        self.keypoint_vocabulary = keypoint_vocabulary
        self.part_vocabulary = part_vocabulary
        self.label_map = None if label_map is None else lookup_table(label_map)
        self.background = background
        if background is not None:
            list_images(background)
        self.notes: list[str] = []
        # An unknown name is no fault of a sample.
        for load, vocabulary in ((load_keypoints, keypoint_vocabulary), (load_parts, part_vocabulary)):
            if vocabulary is not None:
                try:
                    load(vocabulary)
                except UserError as error:
                    raise UserError(f'{ann_file or data_root or type(self).__name__}: {error}') from None
        # Built by our registry, so that names resolve with or without a Runner's default scope.
        built = [TRANSFORMS.build(t) if isinstance(t, dict) else copy.deepcopy(t) for t in pipeline]
        self.labels = None if labels is None else check_kinds(labels)
        settle(built, input_size=self.input_size, labels=self.labels, background=background, draw=self._draw)
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=data_prefix or {},
            pipeline=built,
            test_mode=test_mode,
            **kwargs,
        )

    @property
    def metainfo(self) -> dict[str, Any]:
        """Meta information: ours and, under their usual keys, what metrics of the OpenMMLab toolkits ask for."""
        meta = {'dataset_name': type(self).__name__, **super().metainfo}
        if self.keypoint_vocabulary is not None:
            points = load_keypoints(self.keypoint_vocabulary)
            meta.update(keypoint_vocabulary=self.keypoint_vocabulary, num_keypoints=points.num_keypoints,
                        sigmas=points.sigmas, flip_indices=points.swap.tolist())  # fmt: skip
        if self.part_vocabulary is not None:
            parts = load_parts(self.part_vocabulary)
            meta.update(part_vocabulary=self.part_vocabulary, classes=list(parts.names), palette=parts.colors.tolist())
        return meta

    def parse_sample(self, info: dict[str, Any]) -> dict[str, Any]:
        """Turn an entry of ``load_data_list`` into a sample; runs in the worker, each time a sample is taken."""
        return info

    def filter_data(self) -> list[dict[str, Any]]:
        """The entries to use, by ``filter_cfg``.

        Raises:
            UserError: Nothing is left.
        """
        kept = super().filter_data()
        if not kept:
            raise UserError(
                f'{self.describe()}: the data set is empty; check the file, its filters and, for keypoints, that the '
                'persons have boxes and labelled points'
            )
        return kept

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The sample as it enters the pipeline."""
        return self.prepare_info(super().get_data_info(int(idx)))

    def _draw(self) -> dict[str, Any]:
        """Another random sample, for transforms that mix."""
        return self.prepare_info(super().get_data_info(np.random.randint(len(self))))

    def prepare_info(self, info: dict[str, Any]) -> dict[str, Any]:
        """Parse an entry and add what its labels mean."""
        sample = self.parse_sample(info)
        if self.keypoint_vocabulary is not None:
            sample.setdefault('keypoint_vocabulary', self.keypoint_vocabulary)
        if self.part_vocabulary is not None:
            sample.setdefault('part_vocabulary', self.part_vocabulary)
        if self.label_map is not None:
            sample['label_map'] = self.label_map
        return sample

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """Take a sample through the pipeline.

        One that the transforms drop is replaced by the next in training.

        Raises:
            UserError: It cannot be read, or is dropped in testing.
            IndexError: There is no such sample, which ends a loop over the data set.
        """
        self.full_init()
        idx = range(len(self))[int(idx)]
        for step in range(1 if self.test_mode else len(self)):
            if (sample := self.prepare_data((idx + step) % len(self))) is not None:
                return sample
        raise UserError(
            f'{self._path(idx)}: the transforms of the pipeline drop this sample, and in training all others'
        )

    def describe(self) -> str:
        """Class and place, for messages."""
        return f'{type(self).__name__} ({self.ann_file or self.data_root})'

    def _path(self, position: int) -> str:
        return readable_name(str(BaseDataset.get_data_info(self, position).get('img_path', f'sample {position}')))

    def _resolve(self, prefix: str, name: str) -> str:
        """Path of a file named in an annotation, below one of the prefixes."""
        return find_file(self.data_prefix.get(prefix, self.data_root) or '', name)

    def _select(self, found: Iterable[dict[str, Any] | str], what: str, assumed: Iterable[str]) -> list[dict[str, Any]]:
        """The entries of a file without those that are dropped, which are the reason for that, in words.

        How many were, and what was ``assumed`` while they were read, is logged and kept in `notes`.
        """
        entries, dropped = [], Counter[str]()
        for entry in found:
            if isinstance(entry, str):
                dropped[entry] += 1
            else:
                entries.append(entry)
        reasons = ', '.join(f'{count} {reason}' for reason, count in dropped.items())
        total = len(entries) + dropped.total()
        self.notes = [f'{len(entries)} of {total} {what} used: {reasons}'] if dropped else []
        self.notes += assumed
        for note in self.notes:
            print_log(f'{self.describe()}: {note}', logger='current')
        return entries

    def _flip_notes(self) -> Iterator[str]:
        """What images that are mirrored at random would teach wrongly: a left point or part that nobody is right of."""
        flips = (part for part in self.pipeline.transforms if type(part).__name__ == 'RandomFlip')
        if not any(getattr(part, 'prob', 0) for part in flips):
            return
        names = (self.keypoint_vocabulary, self.part_vocabulary)
        for vocabulary in [load_vocabulary(name) for name in names if name is not None]:
            if alone := without_twin(vocabulary):
                some = ', '.join(alone[:3]) + (', ...' if len(alone) > 3 else '')
                yield (f"RandomFlip mirrors images, but in vocabulary '{vocabulary.name}' {some} keep their names "
                       'then; if they have a side, give each a "swap" there')  # fmt: skip

    def full_init(self) -> None:
        """Read the annotations, once; what transforms have to say about a data set without backgrounds is logged."""
        if not self._fully_initialized:
            transforms = [] if self.background is not None else self.pipeline.transforms
            for note in filter(None, (*(getattr(part, 'note', '') for part in transforms), *self._flip_notes())):
                print_log(f'{self.describe()}: {note}', logger='current')
        collecting = gc.isenabled()
        gc.disable()  # what is read has no cycles: to look for them in millions of lists takes a third of the time
        try:
            super().full_init()
        finally:
            if collecting:
                gc.enable()


@DATASETS.register_module()
class ConcatDataset(_ConcatDataset):
    """mmengine's, of data sets that may have different labels: each names its own (``labels``), heads skip the rest.

    What they must have in common is checked where model and data meet (`sapiens.engine.complete.check_agreement`), so
    their ``metainfo`` is that of all, where they differ that of the first.

    Args:
        datasets: Configs or data sets.
        lazy_init: Read no annotations yet.
        **theirs: mmengine's ``ignore_keys``, which is not needed.
    """

    def __init__(self, datasets: Sequence[Any], lazy_init: bool = False, **theirs: Any) -> None:
        self.datasets = [DATASETS.build(part) if isinstance(part, dict) else part for part in datasets]
        self._metainfo = {key: value for part in self.datasets[::-1] for key, value in part.metainfo.items()}
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()


def leaves_of(dataset: Any) -> Iterator[Any]:
    """The data sets that really read, inside concatenations, repetitions and other wrappers."""
    own = getattr(dataset, '__dict__', {})  # not what a wrapper passes on of the inner one
    wrapped = own.get('datasets') or [own.get('dataset')]
    if wrapped[0] is None:
        yield dataset
        return
    for part in wrapped:
        yield from leaves_of(part)


def paths_of(dataset: Any) -> set[str]:
    """Files of the images of our data sets, inside of wrappers too; links as what they lead to."""
    found: set[str] = set()
    for leaf in leaves_of(dataset):
        if isinstance(leaf, HumanDataset):
            leaf.full_init()
            found |= {BaseDataset.get_data_info(leaf, i).get('img_path', '') for i in range(len(leaf))} - {''}
    return {os.path.realpath(path) for path in found}


def lookup_table(
    label_map: Mapping[int, int] | Sequence[int], classes: int = 255, name: str = 'label_map'
) -> np.ndarray:
    """A map of part ids as a ``(256,)`` uint8 table; ids that the map does not name stay.

    Args:
        label_map: Old ids to new ones, or the new ones in the order of the old ones.
        classes: What new ids must be below, if they are not 255.

    Raises:
        UserError: No map, or an old or a new id that is none.
    """
    if not isinstance(label_map, (Mapping, list, tuple, np.ndarray)):
        raise UserError(f'{name} is {label_map!r}; give a dict of old ids to new ones, or a list of new ones')
    table = np.arange(256, dtype=np.uint8)
    for old, new in label_map.items() if isinstance(label_map, Mapping) else enumerate(label_map):
        try:
            source, target = int(old), int(new)
            whole = (source, target) == (float(old), float(new))
        except (TypeError, ValueError, OverflowError):
            source, target, whole = -1, -1, False
        if not (whole and 0 <= source <= 255 and (0 <= target < classes or target == 255)):
            raise UserError(
                f'{name} sends id {old} to {new}; ids are numbers from 0 to 255, new ones below {classes} or 255'
            )
        table[source] = target
    return table
