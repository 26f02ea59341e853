# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Samples of the manifest format (see `manifest`), from folders or tar shards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import UserError
from ..registry import DATASETS
from ..structures.coco_entries import Notes, as_corners, clean_keypoints, read_box, read_keypoints, usable_box
from ..utils.json_files import as_numbers
from ..vocabularies import VocabularyError, convert_keypoints, keypoint_map, load_keypoints, load_vocabulary
from .base import HumanDataset
from .frame_cache import read_frame
from .manifest import Manifest
from .storage import readable_name


@DATASETS.register_module()
class HumanManifestDataset(HumanDataset):
    """Images with any of: part labels, depth, normals, mask, persons with boxes and keypoints.

    Args:
        sample_per: ``'image'``, or ``'person'`` for one sample a person with box and keypoints; training leaves out
            persons without a labelled point, unless ``labels`` names what else there is to learn.
        keypoint_vocabulary: Vocabulary of the samples; default is the manifest's. With another one, keypoints are
            converted by the vocabularies' maps (308 -> 133 -> 17; backwards too, the other points are unlabelled).
        part_vocabulary: Vocabulary of the part ids; default is the manifest's. Another one needs a ``label_map``.
        cache: Folder, relative to ``data_root``, that keeps decoded frames (see `read_frame`): for many epochs on small
            frames.
        **kwargs: See `HumanDataset`.

    Raises:
        UserError: No manifest there, or a malformed one; another part vocabulary without ``label_map``; points that no
            map brings into ``keypoint_vocabulary``.
    """

    def __init__(
        self,
        data_root: str,
        sample_per: str = 'image',
        keypoint_vocabulary: str | None = None,
        part_vocabulary: str | None = None,
        cache: str | None = None,
        **kwargs: Any,
    ) -> None:
        if sample_per not in ('image', 'person'):
            raise UserError(f"HumanManifestDataset: sample_per '{sample_per}' is neither 'image' nor 'person'")
        self.sample_per, self.cache = sample_per, cache
        self.manifest = Manifest(data_root)
        self.file_vocabulary = self.manifest.header.get('keypoints') or None
        parts = self.manifest.header.get('parts') or None
        for vocabulary in (self.file_vocabulary, None if part_vocabulary else parts):
            try:
                load_vocabulary(vocabulary or 'coco17')
            except VocabularyError as error:
                raise UserError(f'{self.manifest.path}: {error}') from None
        if part_vocabulary and parts not in (None, part_vocabulary) and kwargs.get('label_map') is None:
            raise UserError(f"{self.manifest.path}: its parts are '{parts}', not '{part_vocabulary}'; "
                            'give a label_map or take its vocabulary')  # fmt: skip
        if keypoint_vocabulary and self.file_vocabulary:
            keypoint_map(self.file_vocabulary, keypoint_vocabulary, inverse=True)
        super().__init__(
            data_root=data_root,
            keypoint_vocabulary=keypoint_vocabulary or self.file_vocabulary,
            part_vocabulary=part_vocabulary or parts,
            **kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry an image or a person: references only, records are parsed again when a sample is taken."""
        notes = Notes()
        return self._select(self._entries(notes), 'persons', notes)

    def _entries(self, notes: Notes) -> Iterator[dict[str, Any] | str]:
        for entry in self.manifest.entries(parse=self.sample_per == 'person'):
            base = {'img_path': entry['files']['image'], 'img_id': entry['id'], 'record': entry['record'],
                    'label_files': {k: v for k, v in entry['files'].items() if k != 'image'}}  # fmt: skip
            if self.sample_per == 'image':
                yield base
                continue
            name = readable_name(entry['record'])
            for index in range(len(entry['fields']['persons'])):
                problem = self._why_not(entry['fields'], index, name, notes)
                yield problem or {**base, 'person': index, 'ann_id': f'{entry["id"]}/{index}'}

    def parse_sample(self, info: dict[str, Any]) -> dict[str, Any]:
        """Add the units and, per person, box and keypoints."""
        name = readable_name(info['record'])
        if self.cache is not None:
            arrays = read_frame(self.manifest.folder / self.cache, {'image': info['img_path'], **info['label_files']})
            info.update(img=arrays.pop('image'), label_arrays=arrays)
        record = self.manifest.read_record(info.pop('record'))
        info['depth_scale'] = self.manifest.header['depth_scale']
        info['normal_axes'] = self.manifest.header['normal_axes']
        if record.get('camera'):
            info['camera'] = record['camera']
        size = _size(record)
        if size is not None:
            info['file_size'] = size
        number = info.pop('person', None)
        if number is not None:
            box, points, _ = self._person(record, number, name, Notes())
            info.update(bbox=as_corners(np.asarray(box), size), file_bbox=np.asarray(box, np.float32), bbox_score=1.0)
            if self.keypoint_vocabulary is not None:
                info.update(keypoints=points[:, :2].copy(), keypoints_visible=points[:, 2].copy())
        return info

    def _why_not(self, record: dict[str, Any], number: int, name: str, notes: Notes) -> str:
        try:
            box, points, problem = self._person(record, number, name, notes)
        except UserError:
            return ''  # one malformed person of many is a bad sample, said when it is taken
        points_alone = self.keypoint_vocabulary is not None and not self.labels
        if not self.test_mode and points_alone and not (points[:, 2] > 0).any():
            return 'without labelled keypoints'
        return f'with {problem} and without keypoints' if box is None else ''

    def _person(
        self, record: dict[str, Any], number: int, name: str, notes: Notes
    ) -> tuple[np.ndarray | None, np.ndarray, str]:
        """Box x, y, width, height (or None), ``(K, 3)`` keypoints, and what is wrong with the file's box."""
        person, where = record['persons'][number], f'{name}: person {number}'
        points = np.zeros((0, 3), np.float32)
        if self.keypoint_vocabulary is not None:
            vocabulary = load_keypoints(self.keypoint_vocabulary)
            source = load_keypoints(self.file_vocabulary) if self.file_vocabulary else vocabulary
            found = read_keypoints(person, source.num_keypoints, where)
            found = np.zeros((source.num_keypoints, 3)) if found is None else found
            points = clean_keypoints(found, {}, notes, where)
            if source.name != vocabulary.name:
                moved, visible = convert_keypoints(points[:, :2], points[:, 2], source, vocabulary, inverse=True)
                points = np.concatenate([np.nan_to_num(moved), visible[:, None]], 1)
        box, problem = usable_box(read_box(person.get('bbox'), where), points, _size(record), notes, where)
        return box, points, problem


def _size(record: dict[str, Any]) -> tuple[int, int] | None:
    """``(H, W)`` of the image where the record says so."""
    size = as_numbers([record.get('height'), record.get('width')], 2)
    return (int(size[0]), int(size[1])) if size is not None and (size > 0).all() and (size < 1e6).all() else None
