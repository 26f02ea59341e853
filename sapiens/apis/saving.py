# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Pictures and files of results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np

from ..errors import UserError
from ..utils.files import replace_when_done
from ..visualization import draw_boxes, draw_depth, draw_keypoints, draw_normals, draw_parts, side_by_side

if TYPE_CHECKING:
    from .results import ImageResult, KeypointSet

TASKS = ('pose', 'seg', 'depth', 'normal')


def present_tasks(result: ImageResult) -> list[str]:
    """Tasks that the result has something of, in a fixed order."""
    fields = (result.keypoints, result.parts, result.depth, result.normals)
    return [task for task, value in zip(TASKS, fields, strict=True) if value is not None]


def draw_result(result: ImageResult, task: str | None = None, threshold: float = 0.3) -> np.ndarray:
    """See `ImageResult.draw`.

    Raises:
        UserError: The task did not run.
    """
    present = present_tasks(result)
    if task is None:
        pictures = [draw_result(result, name, threshold) for name in present]
        return pictures[0] if len(pictures) == 1 else side_by_side([result.image, *pictures], ['image', *present])
    if task not in present:
        raise UserError(f"{result.name}: has no result of task '{task}', but of {', '.join(present) or 'none'}")
    if task == 'pose':
        points = result.keypoints
        picture = draw_keypoints(result.image, points.xy, points.scores, points.vocabulary, threshold)
        whole = np.array([0, 0, result.size[1] - 1, result.size[0] - 1])
        boxes = [box for box in points.boxes if not np.allclose(box, whole, atol=1.5)]
        return draw_boxes(picture, np.array(boxes)) if boxes else picture
    if task == 'seg':
        return draw_parts(result.image, result.parts.ids, result.parts.vocabulary)
    if task == 'depth':
        return draw_depth(result.depth.data, result.depth.valid)
    ours = result.normals.to('x-right y-up z-viewer')
    return draw_normals(ours.data, ours.valid)


def coco_results(keypoints: KeypointSet, image_id: int | str) -> list[dict[str, Any]]:
    """Persons in COCO's result format: ``image_id, category_id, keypoints (x, y, score, ...), score, bbox``."""
    entries = []
    for person in keypoints:
        flat = np.concatenate([np.nan_to_num(person.xy), person.scores[:, None]], 1)
        x1, y1, x2, y2 = (float(v) for v in person.box)
        entries.append(
            {
                'image_id': image_id,
                'category_id': 1,
                'keypoints': [round(float(v), 4) for v in flat.reshape(-1)],
                'score': float(person.scores.mean()) * person.box_score,
                'bbox': [x1, y1, x2 - x1, y2 - y1],
            }
        )
    return entries


def describe_result(result: ImageResult) -> dict[str, Any]:
    """Everything but the maps, as plain data."""
    document: dict[str, Any] = {
        'format': 'sapiens-image-result/1',
        'image': str(result.path) if result.path else result.name,
        'height': result.size[0],
        'width': result.size[1],
    }
    if result.time is not None:
        document.update(frame=result.index, time=result.time)
    persons = []
    for i in range(len(result.boxes)):
        person: dict[str, Any] = {
            'instance_id': int(result.instance_ids[i]),
            'bbox_xyxy': [round(float(v), 3) for v in result.boxes[i]],
            'bbox_score': float(result.box_scores[i]),
        }
        if result.keypoints is not None:
            points = result.keypoints[i]
            person['keypoints'] = {
                name: [round(float(x), 3), round(float(y), 3), round(float(s), 4)]
                for name, (x, y), s in zip(points.vocabulary.names, points.xy, points.scores, strict=True)
            }
        persons.append(person)
    document['persons'] = persons
    if result.keypoints is not None:
        document['keypoint_vocabulary'] = result.keypoints.vocabulary.name
    if result.parts is not None:
        vocabulary, counts = result.parts.vocabulary, np.bincount(result.parts.ids.ravel(), minlength=256)
        document['parts'] = {
            'vocabulary': vocabulary.name,
            'pixels': {name: int(n) for name, n in zip(vocabulary.names, counts, strict=False) if n},
        }
    if result.depth is not None:
        document['depth'] = {'meaning': 'affine-invariant, larger = farther', 'mask': result.depth.mask_source}
    if result.normals is not None:
        document['normals'] = {'axes': result.normals.axes, 'mask': result.normals.mask_source}
    return document


def save_result(
    result: ImageResult, folder: str | Path, pictures: bool = True, arrays: bool = True, threshold: float = 0.3
) -> list[Path]:
    """Write one image's results.

    ``NAME.json`` (everything but maps), ``NAME_coco.json`` (persons in COCO's result format), ``NAME_seg.png`` (8-bit
    part ids), ``NAME_depth.png`` (16 bits: 1 = nearest valid, 65535 = farthest, 0 = invalid), ``NAME_normal.png``
    (16-bit RGB, value / 65535 * 2 - 1, (0, 0, 0) = invalid), ``NAME.npz`` (``part_ids``, ``depth``, ``depth_valid``,
    ``normals``, ``normals_valid`` at full precision), and a picture ``NAME_TASK.jpg`` per task.

    Args:
        result: Of `Inferencer`.
        folder: Made if it does not exist.
        pictures: Write pictures.
        arrays: Write PNG and npz.
        threshold: Keypoints with a lower score are not drawn.

    Returns:
        Paths of the files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []

    def write(suffix: str, fill: Callable[[BinaryIO], Any]) -> None:
        path = folder / f'{result.name}{suffix}'
        with replace_when_done(path) as temporary, open(temporary, 'wb') as out:
            fill(out)
        written.append(path)

    def image(suffix: str, picture: np.ndarray) -> None:
        data = picture[..., ::-1] if picture.ndim == 3 else picture
        encoded = cv2.imencode(suffix[-4:], np.ascontiguousarray(data))[1]
        write(suffix, lambda out: out.write(encoded.tobytes()))

    write('.json', lambda out: out.write(json.dumps(describe_result(result), indent=1).encode()))
    if result.keypoints is not None:
        entries = coco_results(result.keypoints, result.name)
        write('_coco.json', lambda out: out.write(json.dumps(entries).encode()))
    if arrays:
        maps = _maps(result)
        if maps:
            write('.npz', lambda out: np.savez_compressed(out, **maps))
        for suffix, picture in _png_maps(result).items():
            image(suffix, picture)
    if pictures:
        for task in present_tasks(result):
            image(f'_{task}.jpg', draw_result(result, task, threshold))
    return written


def _maps(result: ImageResult) -> dict[str, np.ndarray]:
    maps: dict[str, np.ndarray] = {}
    if result.parts is not None:
        maps['part_ids'] = result.parts.ids
        if result.parts.scores is not None:
            maps['part_scores'] = result.parts.scores
    if result.depth is not None:
        maps.update(depth=result.depth.data, depth_valid=result.depth.valid)
    if result.normals is not None:
        maps.update(normals=result.normals.data, normals_valid=result.normals.valid)
    return maps


def _png_maps(result: ImageResult) -> dict[str, np.ndarray]:
    images: dict[str, np.ndarray] = {}
    if result.parts is not None:
        images['_seg.png'] = result.parts.ids
    if result.depth is not None:
        valid, data = result.depth.valid, result.depth.data
        level = np.zeros(data.shape, np.uint16)
        if valid.any():
            near, far = data[valid].min(), data[valid].max()
            level[valid] = 1 + np.round((data[valid] - near) / max(far - near, 1e-12) * 65534)
        images['_depth.png'] = level
    if result.normals is not None:
        coded = np.round((result.normals.data + 1) / 2 * 65535).astype(np.uint16)
        coded[~result.normals.valid] = 0
        images['_normal.png'] = coded
    return images
