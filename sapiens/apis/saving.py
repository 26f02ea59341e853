# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Pictures and files of results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..datasets.label_files import encode_ids, encode_image, encode_normals, encode_npz
from ..errors import UserError
from ..structures.coco import CocoFile, read_coco
from ..structures.coco_results import describe_person
from ..structures.geometry import OUR_AXES
from ..utils.files import replace_when_done, write_atomic
from ..visualization import draw_boxes, draw_depth, draw_keypoints, draw_normals, draw_parts, side_by_side
from .background import WriteBehind
from .files import is_result
from .results import TASKS, DepthMap, ImageResult


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
    if task == 'pose' and (points := result.keypoints) is not None:
        picture = draw_keypoints(result.image, points.xy, points.scores, points.vocabulary, threshold)
        whole = np.array([0, 0, result.size[1] - 1, result.size[0] - 1])
        ids = [str(i) if result.tracked and i >= 0 else '' for i in points.instance_ids]
        told = [(box, i) for box, i in zip(points.boxes, ids, strict=True) if not np.allclose(box, whole, atol=1.5)]
        return draw_boxes(picture, np.array([box for box, _ in told]), [i for _, i in told]) if told else picture
    if task == 'seg' and result.parts is not None:
        return draw_parts(result.image, result.parts.ids, result.parts.vocabulary)
    if task == 'depth' and result.depth is not None:
        return draw_depth(result.depth.data, result.depth.valid)
    if task == 'normal' and result.normals is not None:
        ours = result.normals.to(OUR_AXES)
        return draw_normals(ours.data, ours.valid)
    raise UserError(f"{result.name}: has no result of task '{task}', but of {', '.join(present) or 'none'}")


def coco_results(result: ImageResult, image_ids: Mapping[str, Any] | CocoFile | None = None) -> list[dict[str, Any]]:
    """Persons in COCO's result format.

    Args:
        result: With keypoints.
        image_ids: The annotation file whose ids are wanted, or image name -> id; else ``image_id`` is the image's name.
    """
    name = result.path.name if result.path and result.time is None else result.name
    identifier: Any = result.name
    if isinstance(image_ids, CocoFile):
        identifier = image_ids.find_image(str(result.path or result.name))
    elif image_ids is not None:
        identifier = next((image_ids[key] for key in (name, result.name) if key in image_ids), None)
    if identifier is None:
        raise UserError(f'{result.path or result.name}: is none of the images that ids are known of; check their names')
    persons = []
    for person in result.keypoints or ():
        score = float(person.scores.mean()) * person.box_score
        points = np.round(np.nan_to_num(person.xy).astype(np.float64), 4)
        entry = describe_person(identifier, points, np.round(person.scores.astype(np.float64), 4), score, person.box)
        persons.append({**entry, 'file_name': name})
    return persons


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
                for name, (x, y), s in zip(
                    points.vocabulary.names, np.nan_to_num(points.xy), points.scores, strict=True
                )
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
        near, far = result.depth.range
        document['depth'] = {'meaning': 'affine-invariant, larger = farther', 'mask': result.depth.mask_source,
                             'nearest': near, 'farthest': far}  # fmt: skip
    if result.normals is not None:
        document['normals'] = {'axes': result.normals.axes, 'mask': result.normals.mask_source}
    if result.origins:
        document['weights'] = result.origins
    return document


def save_result(
    result: ImageResult,
    folder: str | Path,
    pictures: bool = True,
    arrays: bool | None = None,
    threshold: float = 0.3,
    image_ids: Any = None,
) -> list[Path]:
    """Write one image's results.

    ``NAME.json`` (everything but maps), ``NAME_coco.json`` (persons in COCO's result format), ``NAME_seg.png`` (8-bit
    part ids), ``NAME_depth.png`` (16 bits: 1 = nearest valid, 65535 = farthest, 0 = invalid), ``NAME_normal.png``
    (16-bit RGB, value / 65535 * 2 - 1, (0, 0, 0) = invalid), a picture ``NAME_TASK.jpg`` per task, and with ``arrays``
    ``NAME.npz`` (``part_ids``, ``depth``, ``depth_valid``, ``normals``, ``normals_valid`` at full precision). Maps of
    heads of your own go into ``NAME.npz`` where the others are written as PNG.

    Args:
        folder: Made if it does not exist.
        arrays: True writes npz and PNG maps, None the PNG maps alone, False neither.
        threshold: Keypoints with a lower score are not drawn.
        image_ids: See `coco_results`; also the path of a COCO annotation file.

    Returns:
        Paths of the files.

    Raises:
        UserError: One of them is there, and none of an earlier result: a photo, say, or a label of the image.
    """
    files: dict[str, Callable[[], bytes | str]] = {'.json': lambda: json.dumps(describe_result(result), indent=1)}
    if result.keypoints is not None:
        files['_coco.json'] = lambda: json.dumps(coco_results(result, _read_ids(image_ids)))
    maps = {**(_maps(result) if arrays else {}), **({} if arrays is False else result.others)}
    if maps:
        files['.npz'] = lambda: encode_npz(**maps)
    if arrays is not False:
        if (parts := result.parts) is not None:
            files['_seg.png'] = lambda: encode_ids(parts.ids)
        if (depth := result.depth) is not None:
            files['_depth.png'] = lambda: _encode_depth(depth)
        if (normals := result.normals) is not None:
            files['_normal.png'] = lambda: encode_normals(normals.data, 16)
    for task in present_tasks(result) if pictures else ():
        files[f'_{task}.jpg'] = partial(_picture, result, task, threshold)
    paths = [Path(folder) / f'{result.name}{suffix}' for suffix in files]
    taken = next((path for path in paths if path.exists()), None)
    if taken is not None and not is_result(paths[0]):
        raise UserError(f'{taken}: is there already, and no result of an earlier run; give another folder for results')
    for path, make in zip(paths, files.values(), strict=True):
        write_atomic(path, make())
    return paths


def save_all(
    results: Iterable[ImageResult], folder: str | Path, workers: int = 2, image_ids: Any = None, **options: Any
) -> Iterator[tuple[ImageResult, list[Path]]]:
    """Save results in threads while the next ones are predicted; several images also get one ``results_coco.json``.

    Nothing runs until it is looped over: ``for result, files in save_all(model('photos/'), 'out')``.

    Args:
        results: Of `Inferencer`; a long source may be given, few results are held.
        image_ids: See `coco_results`; also the path of a COCO annotation file.
        **options: Of `save_result`.

    Yields:
        Each result with its files, in their order, when they are written.
    """
    ids = _read_ids(image_ids)

    def save(result: ImageResult) -> tuple[ImageResult, list[Path]]:
        return result, save_result(result, folder, image_ids=ids, **options)

    with ExitStack() as stack:
        behind = stack.enter_context(WriteBehind(workers))
        append, held = None, []  # a single image has a file of its own
        for number, result in enumerate(results):
            if result.keypoints is not None:
                held += coco_results(result, ids)
                if number and append is None:
                    append = stack.enter_context(_growing_list(Path(folder) / 'results_coco.json'))
                while append is not None and held:
                    append(held.pop(0))
            yield from behind.submit(save, result)
        yield from behind.finish()


@contextmanager
def _growing_list(path: Path) -> Iterator[Callable[[Any], None]]:
    """A JSON list, written entry by entry; the file appears when it is complete."""
    with replace_when_done(path) as temporary, open(temporary, 'w', encoding='utf-8') as out:
        separator = '[\n'

        def append(entry: Any) -> None:
            nonlocal separator
            out.write(separator + json.dumps(entry))
            separator = ',\n'

        yield append
        out.write('[]\n' if separator[0] == '[' else '\n]\n')


def _picture(result: ImageResult, task: str, threshold: float) -> bytes:
    return encode_image(draw_result(result, task, threshold))


def _read_ids(image_ids: Any) -> Any:
    return read_coco(image_ids) if isinstance(image_ids, (str, Path)) else image_ids


def _encode_depth(depth: DepthMap) -> bytes:
    """Depth as a 16-bit PNG: 1 = the nearest valid, 65535 = the farthest, 0 = invalid."""
    level = np.zeros(depth.data.shape, np.uint16)
    near, far = depth.range
    if near is not None and far is not None:
        for start in range(0, len(level), 256):  # a stripe at a time: photos may have 100 megapixels
            rows = slice(start, start + 256)
            part = 1 + np.round((depth.data[rows] - near) / np.float32(max(far - near, 1e-12)) * 65534)
            level[rows] = np.where(depth.valid[rows], part, 0)
    return cv2.imencode('.png', level)[1].tobytes()


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
