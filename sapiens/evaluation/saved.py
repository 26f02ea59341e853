# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Predictions on disk, to be scored again without the model.

Keypoints are a COCO result file: a list of ``{image_id, category_id, keypoints, score, ...}`` with ``person_box``,
the box that each was found in.
Maps are a folder with ``results.json`` (format ``sapiens-results/1``) and one file per image: part ids as 8-bit PNG,
depth and normals as ``.npz`` with the one array ``data`` (float16 would lose digits: float32). What was predicted from
a person's crop has a file a person, and its entry the ``warp_mat`` and ``img_shape`` that say what the network saw.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..datasets.label_files import decode_ids, encode_ids, encode_npz, read_label, vectors_of
from ..errors import UserError
from ..registry import METRICS
from ..structures.coco_results import describe_person
from ..utils.file_names import safe_stem
from ..utils.files import write_atomic
from ..utils.json_files import as_numbers, read_file, read_json
from ..utils.on_device import to_numpy
from ..vocabularies import load_vocabulary
from .base import HumanMetric, box_of, image_of, sample_key, sample_name
from .persons import box_gives_area, person_score
from .report import EvaluationReport

FORMAT = 'sapiens-results/1'
# What of a sample says which pixels of its image the network saw.
CROP = ('ann_id', 'warp_mat', 'img_shape')
FIELDS = {'seg': 'pred_part_map', 'depth': 'pred_depth', 'normal': 'pred_normals'}


@METRICS.register_module()
class SavePredictions(HumanMetric):
    """Write predictions while an evaluation runs; add it to a config's ``test_evaluator`` beside the metrics.

    Args:
        out: For ``'pose'`` a ``.json`` file, else a folder.
        task: ``'pose'``, ``'seg'``, ``'depth'`` or ``'normal'``.
        vocabulary: Vocabulary that the predictions follow; needed for keypoints, kept in the results of parts.
        score_mode, keypoint_threshold: How a person's score is made, as in `KeypointAP`.
    """

    def __init__(
        self,
        out: str | Path,
        task: str,
        vocabulary: str | None = None,
        score_mode: str = 'bbox_keypoint',
        keypoint_threshold: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{'prefix': 'saved', **kwargs})
        if task != 'pose' and task not in FIELDS:
            raise UserError(f"SavePredictions: task '{task}' is none of 'pose', {', '.join(map(repr, FIELDS))}")
        self.out, self.task = Path(out), task
        self.score_mode, self.keypoint_threshold = score_mode, keypoint_threshold
        if task == 'pose' and (self.out.suffix != '.json' or vocabulary is None):
            raise UserError(f'{out}: keypoints are saved as a .json file, and SavePredictions needs their vocabulary')
        self.vocabulary: Any = None if vocabulary is None else load_vocabulary(vocabulary)

    def measure(self, sample: dict) -> dict:
        """Write one sample's map at once; keep its keypoints."""
        if self.task == 'pose':
            return {'result': self._person(sample)}
        name = FIELDS[self.task]
        if sample.get(name) is None:
            raise UserError(f"{sample_name(sample)}: the sample has no '{name}' to save")
        array, stem = to_numpy(sample[name]), _file_stem(sample)
        if self.task == 'seg':
            file, data = f'{stem}.png', encode_ids(array.reshape(array.shape[-2:]))
        else:
            file, data = f'{stem}.npz', encode_npz(array.astype(np.float32))
        write_atomic(self.out / file, data)
        result = {'id': image_of(sample), 'image': sample.get('img_path'), 'file': file}
        if sample.get('ann_id') is not None and sample.get('warp_mat') is not None:
            result.update({key: sample[key] for key in CROP if sample.get(key) is not None})
        return {'result': result}

    def _person(self, sample: dict) -> dict:
        points, scores = to_numpy(sample['pred_keypoints']), to_numpy(sample['pred_keypoint_scores']).reshape(-1)
        known = sample.get('bbox_score')
        score = person_score(scores.astype(np.float64), known, self.score_mode, self.keypoint_threshold)
        box = box_of(sample)
        result = describe_person(image_of(sample), points.reshape(-1, 2), scores, score, box)
        if box is not None:
            result['person_box'] = result['bbox'] if box_gives_area(self.vocabulary) else result.pop('bbox')
        if sample.get('ann_id') is not None:
            result['ann_id'] = sample['ann_id']
        return result

    def summarize(self, records: list[dict]) -> EvaluationReport:
        """Write the list of all results."""
        results = [record['result'] for record in records]
        path, document = self.out, cast(Any, results)
        if self.task != 'pose':
            path = self.out / 'results.json'
            document = {
                'format': FORMAT,
                'task': self.task,
                'vocabulary': self.vocabulary and self.vocabulary.name,
                'items': results,
            }
        write_atomic(
            path, json.dumps(document, indent=None if self.task == 'pose' else 1, default=methodcaller('tolist'))
        )
        return EvaluationReport(type(self).__name__, self.task, {'count': float(len(results))}, {'file': str(path)}, [])


class SavedMaps:
    """Saved maps of a folder, read one at a time.

    Args:
        path: Folder (or its ``results.json``) written by `SavePredictions`, or any folder of ``ID.png`` /
            ``ID.npz`` / ``ID.npy`` files.
        task: ``'seg'``, ``'depth'`` or ``'normal'``.

    Attributes:
        files: Image id (text) -> its file, or one a person, each with what the network saw (`CROP`).

    Raises:
        UserError: No such folder, results of another task, or no file.
    """

    def __init__(self, path: str | Path, task: str) -> None:
        path = Path(path)
        self.task = task
        self.folder = path.parent if path.name == 'results.json' else path
        index = self.folder / 'results.json'
        self.vocabulary: str | None = None
        if index.is_file():
            document = _read_index(index)
            if document.get('task') != task:
                raise UserError(f"{index}: holds results of task '{document.get('task')}', not '{task}'")
            self.vocabulary = document.get('vocabulary')
            self.files: dict[str, list[tuple[Path, dict]]] = {}
            for item in document['items']:
                crop = {key: item[key] for key in CROP if item.get(key) is not None}
                self.files.setdefault(str(item['id']), []).append((self.folder / item['file'], crop))
        elif path.is_dir():
            kinds = ('.png',) if task == 'seg' else ('.npz', '.npy', '.png')
            self.files = {f.stem: [(f, {})] for f in sorted(path.iterdir()) if f.suffix.lower() in kinds}
        else:
            raise UserError(f'{path}: no such folder of results')
        if not self.files:
            raise UserError(f'{self.folder}: holds no result of task {task}')

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def read(self, identifier: str) -> Iterator[tuple[np.ndarray, dict]]:
        """The maps of an image: ``(H, W)`` uint8 ids, ``(1, H, W)`` or ``(3, H, W)`` float32; and what each shows.

        Raises:
            UserError: The file is missing or no map of this task.
        """
        for path, crop in self.files[identifier]:
            yield self._read(path), crop

    def _read(self, path: Path) -> np.ndarray:
        data, name = read_file(path, 'result file'), str(path)
        if self.task == 'seg':
            return decode_ids(data, name)
        if self.task == 'depth':
            return read_label('depth', data, name).astype(np.float32)[None]
        return np.moveaxis(vectors_of(read_label('normals', data, name)), -1, 0)


def _file_stem(sample: dict) -> str:
    """A file name that no other sample of the set has."""
    known = sample.get('img_id') is not None
    name = sample['img_id'] if known else Path(str(sample.get('img_path', 'image'))).stem
    stem = safe_stem(str(name))
    if known and stem == str(name) and sample.get('ann_id') is None:
        return stem
    return f'{stem}_{zlib.crc32(repr((name, sample.get("ann_id"), sample_key(sample))).encode()):08x}'


def _read_index(path: Path) -> dict:
    """The list of a folder's results, checked: what is read later can rely on it."""
    document = read_json(path, 'list of results')
    if not isinstance(document, dict) or document.get('format') != FORMAT:
        found = document.get('format') if isinstance(document, dict) else type(document).__name__
        raise UserError(f"{path}: format is {found!r}, this program reads '{FORMAT}'")
    items = document.get('items')
    for number, item in enumerate(items if isinstance(items, list) else [None]):
        if not isinstance(item, dict) or not isinstance(item.get('file'), str) or not _is_id(item.get('id')):
            raise UserError(f'{path}: "items" {number} is no {{"id", "file"}}; mend or write the results again')
        for key, shape in (('warp_mat', (2, 3)), ('img_shape', (2,))):
            numbers = None if item.get(key) is None else as_numbers(item[key], *shape)
            if item.get(key) is not None and (numbers is None or not np.isfinite(numbers).all()):
                raise UserError(f'{path}: "items" {number} has a {key} that is no array of shape {shape}')
        if item.get('ann_id') is not None and not _is_id(item['ann_id']):
            raise UserError(f'{path}: "items" {number} has an ann_id that is neither number nor text')
    return document


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)
