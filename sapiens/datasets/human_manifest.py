# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Samples of the manifest format (see `manifest`), from folders or tar shards."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UserError
from ..registry import DATASETS
from ..vocabularies import convert_keypoints, load_vocabulary
from .base import HumanDataset
from .coco_keypoints import as_numbers
from .frame_cache import FrameCache
from .manifest import Manifest
from .storage import readable_name


@DATASETS.register_module()
class HumanManifestDataset(HumanDataset):
    """Images with any of: part labels, depth, normals, mask, persons with boxes and keypoints.

    Args:
        data_root: The manifest's folder.
        sample_per: ``'image'``, or ``'person'`` for one sample a person with box and keypoints; training leaves out
            persons without a labelled point.
        keypoint_vocabulary: Vocabulary of the samples; default is the manifest's. With another one, keypoints are
            converted by the vocabularies' maps (308 -> 133 -> 17).
        part_vocabulary: Vocabulary of the part ids; default is the manifest's. Another one needs a ``label_map``.
        cache: Folder, relative to ``data_root``, that keeps decoded frames (see `FrameCache`): for many epochs on small
            frames of one size.
        **kwargs: See `HumanDataset`.

    Raises:
        UserError: No manifest there, or a malformed one; another part vocabulary without ``label_map``.
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
        self.sample_per, self.cache_folder = sample_per, cache
        self.manifest = Manifest(data_root)
        self.file_vocabulary = self.manifest.header.get('keypoints')
        parts = self.manifest.header.get('parts')
        if part_vocabulary and parts not in (None, part_vocabulary) and kwargs.get('label_map') is None:
            raise UserError(f"{self.manifest.path}: its parts are '{parts}', not '{part_vocabulary}'; "
                            'give a label_map or take its vocabulary')  # fmt: skip
        super().__init__(
            data_root=data_root,
            keypoint_vocabulary=keypoint_vocabulary or self.file_vocabulary,
            part_vocabulary=part_vocabulary or parts,
            **kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry an image or a person: references only, records are parsed again when a sample is taken."""
        entries, sizes, kinds = [], set(), set()
        number = -1
        for number, entry in enumerate(self.manifest.entries(parse=self.sample_per == 'person')):
            base = {'img_path': entry['files']['image'], 'img_id': entry['id'], 'record': entry['record'],
                    'label_files': {k: v for k, v in entry['files'].items() if k != 'image'}}  # fmt: skip
            if self.cache_folder is not None:
                base['frame'] = number
                kinds.add(tuple(sorted(entry['files'])))
                sizes.add(tuple((entry['fields'] or {}).get(side) for side in ('height', 'width')))
            if self.sample_per == 'image':
                entries.append(base)
                continue
            persons = entry['fields'].get('persons') or []
            where = readable_name(entry['record'])
            if not isinstance(persons, list) or not all(isinstance(person, dict) for person in persons):
                raise UserError(f'{where}: "persons" must be a list of {{...}}; mend the line')
            for index, person in enumerate(persons):
                if self.test_mode or _is_labelled(person, f'{where}: person {index}'):
                    entries.append({**base, 'person': index, 'ann_id': f'{entry["id"]}/{index}'})
        if self.cache_folder is not None:
            if len(sizes) != 1 or len(kinds) != 1 or None in next(iter(sizes)):
                raise UserError(f'{self.manifest.path}: a cache needs frames of one size with the same labels (records '
                                'with "width" and "height"); leave cache out')  # fmt: skip
            folder = self.manifest.folder / self.cache_folder
            self.cache = FrameCache(folder, number + 1, next(iter(sizes)), next(iter(kinds)))
        return entries

    def parse_sample(self, info: dict[str, Any]) -> dict[str, Any]:
        """Add the units and, per person, box and keypoints."""
        name = readable_name(info['record'])
        if 'frame' in info:
            arrays = self.cache.read(info.pop('frame'), {'image': info['img_path'], **info['label_files']})
            info.update(img=arrays.pop('image'), label_arrays=arrays)
        record = self.manifest.read_record(info.pop('record'))
        info['depth_scale'] = self.manifest.header['depth_scale']
        info['normal_axes'] = self.manifest.header['normal_axes']
        if record.get('camera'):
            info['camera'] = record['camera']
        number = info.pop('person', None)
        if number is None:
            return info
        person = record['persons'][number]
        bbox = as_numbers(person.get('bbox'))
        if bbox is None or bbox.shape != (4,):
            raise UserError(f'{name}: person {number} needs a "bbox" of x, y, width, height')
        x, y, w, h = bbox
        info.update(bbox=np.array([x, y, x + w, y + h], np.float32), bbox_score=1.0)
        if self.keypoint_vocabulary is not None:
            info.update(self._keypoints(person, f'{name}: person {number}'))
        return info

    def _keypoints(self, person: dict[str, Any], where: str) -> dict[str, np.ndarray]:
        vocabulary = load_vocabulary(self.keypoint_vocabulary)
        source = load_vocabulary(self.file_vocabulary) if self.file_vocabulary else vocabulary
        values = person.get('keypoints')
        points = np.zeros((source.num_keypoints, 3)) if values is None else as_numbers(values)
        if points is None:
            raise UserError(f'{where} has keypoints that are no [x, y, v]; mend the line')
        points = points.astype(np.float32)
        if points.shape != (source.num_keypoints, 3):
            raise UserError(
                f"{where}: keypoints are {points.shape}, '{source.name}' asks for {(source.num_keypoints, 3)}"
            )
        points, visible = points[:, :2], points[:, 2]
        if source.name != vocabulary.name:
            points, visible = convert_keypoints(points, visible, source, vocabulary)
        return {'keypoints': np.nan_to_num(points), 'keypoints_visible': visible}


def _is_labelled(person: dict[str, Any], where: str) -> bool:
    """Whether a person has a labelled keypoint."""
    try:
        return any(point[2] > 0 for point in person.get('keypoints') or [])
    except (TypeError, IndexError):
        raise UserError(f'{where} has keypoints that are no [x, y, v]; mend the line') from None
