# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Predictions on disk, to be scored again without the model.

Keypoints are a COCO result file: a list of ``{image_id, category_id, keypoints, score, ...}`` with ``person_box``,
the box that each was found in.
Maps are a folder with ``results.json`` (format ``sapiens-results/1``) and one file per image: part ids as 8-bit PNG,
depth and normals as ``.npz`` with the one array ``data`` (float16 would lose digits: float32).
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import UserError
from ..registry import METRICS
from ..utils.files import write_atomic
from ..vocabularies import load_vocabulary
from .base import HumanMetric, sample_key, sample_name, to_numpy
from .persons import box_gives_area, person_score
from .report import EvaluationReport

FORMAT = 'sapiens-results/1'
FIELDS = {'seg': 'pred_part_map', 'depth': 'pred_depth', 'normal': 'pred_normals'}


@METRICS.register_module()
class SavePredictions(HumanMetric):
    """Write predictions while an evaluation runs; add it to a config's ``test_evaluator`` beside the metrics.

    Args:
        out: For ``'pose'`` a ``.json`` file, else a folder.
        task: ``'pose'``, ``'seg'``, ``'depth'`` or ``'normal'``.
        vocabulary: Vocabulary that the predictions follow; needed for keypoints, kept in the results of parts.
        score_mode, keypoint_threshold: How a person's score is made, as in `KeypointAP`.
        kwargs: See `HumanMetric`.
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
        self.vocabulary = None if vocabulary is None else load_vocabulary(vocabulary)

    def measure(self, sample: dict) -> dict:
        """Write one sample's map at once; keep its keypoints."""
        if self.task == 'pose':
            return {'result': self._person(sample)}
        name = FIELDS[self.task]
        if sample.get(name) is None:
            raise UserError(f"{sample_name(sample)}: the sample has no '{name}' to save")
        array = to_numpy(sample[name])
        stem = _file_stem(sample)
        self.out.mkdir(parents=True, exist_ok=True)
        if self.task == 'seg':
            file = f'{stem}.png'
            data = cv2.imencode('.png', array.reshape(array.shape[-2:]).astype(np.uint8))[1].tobytes()
            _write(self.out / file, lambda out: out.write(data))
        else:
            file = f'{stem}.npz'
            _write(self.out / file, lambda out: np.savez_compressed(out, data=array.astype(np.float32)))
        return {'result': {'id': _plain_id(sample.get('img_id')), 'image': sample.get('img_path'), 'file': file}}

    def _person(self, sample: dict) -> dict:
        points, scores = to_numpy(sample['pred_keypoints']), to_numpy(sample['pred_keypoint_scores']).reshape(-1)
        box_score = 1.0 if sample.get('bbox_score') is None else float(sample['bbox_score'])
        flat = np.concatenate([points.reshape(-1, 2), scores[:, None]], 1).astype(np.float64).reshape(-1)
        result = {
            'image_id': _plain_id(sample.get('img_id')),
            'category_id': 1,
            'keypoints': flat.tolist(),
            'score': person_score(scores.astype(np.float64), box_score, self.score_mode, self.keypoint_threshold),
        }
        if sample.get('bbox') is not None:
            x1, y1, x2, y2 = to_numpy(sample['bbox']).astype(np.float64).reshape(-1)[:4].tolist()
            result['person_box'] = [x1, y1, x2 - x1, y2 - y1]
            if box_gives_area(self.vocabulary):
                result['bbox'] = result['person_box']
        if sample.get('ann_id') is not None:
            result['ann_id'] = _plain_id(sample['ann_id'])
        return result

    def summarize(self, records: list[dict]) -> EvaluationReport:
        """Write the list of all results."""
        results = [record['result'] for record in records]
        if self.task == 'pose':
            path, document = self.out, results
        else:
            path = self.out / 'results.json'
            document = {
                'format': FORMAT,
                'task': self.task,
                'vocabulary': self.vocabulary and self.vocabulary.name,
                'items': results,
            }
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=None if self.task == 'pose' else 1)
        _write(path, lambda out: out.write(text.encode()))
        return EvaluationReport(type(self).__name__, self.task, {'count': float(len(results))}, {'file': str(path)}, [])


class SavedMaps:
    """Saved maps of a folder, read one at a time.

    Args:
        path: Folder (or its ``results.json``) written by `SavePredictions`, or any folder of ``ID.png`` /
            ``ID.npz`` / ``ID.npy`` files.
        task: ``'seg'``, ``'depth'`` or ``'normal'``.

    Attributes:
        files: Image id (text) -> file.

    Raises:
        UserError: No such folder, results of another task, or no file.
    """

    def __init__(self, path: str | Path, task: str) -> None:
        path = Path(path)
        self.task = task
        self.folder = path if path.is_dir() else path.parent
        index = self.folder / 'results.json'
        self.vocabulary: str | None = None
        if index.is_file():
            document = _read_index(index)
            if document.get('task') != task:
                raise UserError(f"{index}: holds results of task '{document.get('task')}', not '{task}'")
            self.vocabulary = document.get('vocabulary')
            self.files = {str(item['id']): self.folder / item['file'] for item in document['items']}
        elif path.is_dir():
            kinds = ('.png',) if task == 'seg' else ('.npz', '.npy', '.png')
            self.files = {f.stem: f for f in sorted(path.iterdir()) if f.suffix.lower() in kinds}
        else:
            raise UserError(f'{path}: no such folder of results')
        if not self.files:
            raise UserError(f'{self.folder}: holds no result of task {task}')

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def read(self, identifier: str) -> np.ndarray:
        """``(H, W)`` uint8 ids, ``(1, H, W)`` or ``(3, H, W)`` float32.

        Raises:
            UserError: The file is missing or no map of this task.
        """
        path = self.files[identifier]
        if not path.is_file():
            raise UserError(f'{path}: the result file is missing')
        if path.suffix.lower() in ('.npz', '.npy'):
            array = _read_array(path)
        else:
            array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if array is None:
                raise UserError(f'{path}: not a readable image')
            array = self._from_image(array, path)
        if self.task == 'seg':
            return array.reshape(array.shape[-2:])
        wanted = 1 if self.task == 'depth' else 3
        array = array[None] if array.ndim == 2 else array
        if array.shape[0] != wanted and array.shape[-1] == wanted:
            array = np.moveaxis(array, -1, 0)
        if array.ndim != 3 or array.shape[0] != wanted:
            raise UserError(f'{path}: a {self.task} map has {wanted} channel(s), this has shape {array.shape}')
        return array.astype(np.float32)

    def _from_image(self, array: np.ndarray, path: Path) -> np.ndarray:
        if self.task == 'seg':
            if array.ndim == 3:
                raise UserError(f'{path}: holds colours, not part ids; save ids as a grey PNG')
            return array
        if self.task == 'depth':
            return array.astype(np.float32)
        if array.ndim != 3:
            raise UserError(f'{path}: normals need three channels')
        top = np.iinfo(array.dtype).max
        rgb = array[..., 2::-1].astype(np.float32)
        known = rgb.any(-1, keepdims=True)
        return np.where(known, rgb * (2 / top) - 1, 0)


def _file_stem(sample: dict) -> str:
    """A file name that no other sample of the set has."""
    name = sample.get('img_id')
    if name is None:
        name = Path(str(sample.get('img_path', 'image'))).stem
    stem = re.sub(r'[^\w.-]+', '_', str(name)).strip('.') or 'image'
    return stem if stem == str(name) else f'{stem}_{zlib.crc32(repr(sample_key(sample)).encode()):08x}'


def _plain_id(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _write(path: Path, write: Any) -> None:
    # By way of memory: an npz that cannot be written to its file leaves numpy's complaints on the screen.
    buffer = io.BytesIO()
    write(buffer)
    write_atomic(path, buffer.getvalue())


def _read_index(path: Path) -> dict:
    try:
        document = json.loads(path.read_text(encoding='utf-8'))
        if document.get('format') != FORMAT:
            raise UserError(f"{path}: format is {document.get('format')!r}, this program reads '{FORMAT}'")
        for item in document['items']:
            _ = item['id'], item['file']
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{path}: not a list of results ({error!r})') from None
    return document


def _read_array(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if len(loaded.files) != 1:
                raise UserError(f'{path}: a result holds one array, this has {loaded.files}')
            return loaded[loaded.files[0]]
    except UserError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f'{path}: not a readable array ({error})') from None
