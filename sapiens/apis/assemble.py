# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Put the outputs of an image's crops together: persons into a set, maps into the image's frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..structures.geometry import align_scale_shift
from .batches import PendingImage
from .outlines import BOX_MARGIN, fit_outline, in_box, nearest_parts
from .predictor import Crop, own_maps
from .results import TASKS, DepthMap, ImageResult, KeypointSet, NormalMap, PartMap


def assemble(pending: PendingImage, origins: Mapping[str, dict[str, str]] | None = None) -> ImageResult:
    """Make the result of an image whose crops have all been run."""
    frame, persons = pending.frame, pending.persons
    result = ImageResult(frame.image, frame.name, frame.path, frame.index, frame.time)
    if persons is not None:
        result.boxes, result.box_scores = persons.boxes, persons.scores
        result.searched, result.tracked = True, persons.ids is not None
        ids = np.arange(len(persons.boxes)) if persons.ids is None else persons.ids
        result.instance_ids = ids.astype(np.int64)
    tasks = pending.vocabularies
    result.origins = {task: origin for task, origin in (origins or {}).items() if task in tasks}
    if 'pose' in tasks:
        result.keypoints = _keypoints(pending, result)
    size, owner = result.size, None
    if 'seg' in tasks:
        result.parts, owner = _parts(pending, size)
    people, source = pending.mask, 'given'
    if people is None:
        people, source = (result.parts.mask, 'parts') if result.parts is not None else (None, 'none')
    if 'depth' in tasks:
        data, valid = _values(pending, 'depth', size, owner)
        valid = valid if people is None else valid & people
        data = data[..., 0]
        data[~valid] = np.nan
        result.depth = DepthMap(data, valid, source)
    if 'normal' in tasks:
        data, valid = _values(pending, 'normal', size, owner)
        valid = (valid if people is None else valid & people) & (data != 0).any(-1)
        data[~valid] = 0
        result.normals = NormalMap(data, valid, source)
    for task in [name for name in tasks if name not in TASKS]:
        for crop in _paste_order(pending, task):
            rows, columns = _window(crop.region)
            for name, values in own_maps(crop.sample).items():
                whole = result.others.setdefault(name, np.zeros((*values.shape[:-2], *size), values.dtype))
                whole[..., rows, columns] = values
    return result


def _keypoints(pending: PendingImage, result: ImageResult) -> KeypointSet:
    vocabulary = pending.vocabularies['pose']
    crops = sorted(pending.outputs.get('pose', []), key=lambda crop: crop.person)
    found = [crop.sample for crop in crops]
    count = vocabulary.num_keypoints
    return KeypointSet(
        np.stack([s.pred_keypoints.numpy() for s in found]) if found else np.zeros((0, count, 2), np.float32),
        np.stack([s.pred_keypoint_scores.numpy() for s in found]) if found else np.zeros((0, count), np.float32),
        result.boxes,
        result.box_scores,
        result.instance_ids,
        vocabulary,
    )


def _paste_order(pending: PendingImage, task: str) -> list[Crop]:
    """Crops that were run on that task, the persons of low score first, so that better ones cover them."""
    crops = [crop for crop in pending.outputs.get(task, []) if not crop.empty]
    scores = () if pending.persons is None else pending.persons.scores
    return sorted(crops, key=lambda crop: float(scores[crop.person]) if crop.person >= 0 else -1)


def _window(region: tuple[int, int, int, int]) -> tuple[slice, slice]:
    return slice(region[1], region[3]), slice(region[0], region[2])


def _parts(pending: PendingImage, size: tuple[int, int]) -> tuple[PartMap, np.ndarray | None]:
    """Part map, and the person that each pixel belongs to (-1 = none) where parts were found person by person."""
    crops = _paste_order(pending, 'seg')
    ids = np.zeros(size, np.uint8)
    scored = bool(crops) and all('pred_part_scores' in crop.sample for crop in crops)
    best = np.zeros(size, np.float32)
    owner = np.full(size, -1, np.int32)
    for crop in crops:
        window = _window(crop.region)
        found = _own_parts(pending, crop)
        taken = found > 0
        if scored:
            score = crop.sample.pred_part_scores.numpy()
            # A person's pixel is the one's who is surer of it; background scores only where nobody is.
            taken &= (score > best[window]) | (ids[window] == 0)
            background = (found == 0) & (ids[window] == 0)
            best[window] = np.where(taken | background, score, best[window])
        ids[window][taken] = found[taken]
        owner[window][taken] = crop.person
    by_person = any(crop.person >= 0 for crop in crops)
    return PartMap(ids, pending.vocabularies['seg'], best if scored else None), owner if by_person else None


def _own_parts(pending: PendingImage, crop: Crop) -> np.ndarray:
    """Part map of a crop, without what it shows beside its person."""
    parts = crop.sample.pred_part_map.numpy()
    if crop.person < 0 or pending.persons is None:
        return parts
    inside = in_box(pending.persons.boxes[crop.person], crop.region, BOX_MARGIN)
    if 'pred_person' not in crop.sample:
        return np.where(inside, parts, 0)
    image = pending.frame.image[_window(crop.region)]
    return nearest_parts(parts, fit_outline(image, crop.sample.pred_person.numpy(), inside))


def _values(
    pending: PendingImage, task: str, size: tuple[int, int], owner: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Map ``(H, W, C)`` of depth or normals and where it was predicted."""
    field_name, channels = ('pred_depth', 1) if task == 'depth' else ('pred_normals', 3)
    data, valid = np.zeros((*size, channels), np.float32), np.zeros(size, bool)
    crops = _paste_order(pending, task)
    persons = [crop for crop in crops if crop.person >= 0]
    whole = next((c.sample.get(field_name).numpy().transpose(1, 2, 0) for c in crops if c.person < 0), None)
    if whole is not None and not persons:
        return whole, np.ones(size, bool)
    for crop in persons:
        window = _window(crop.region)
        values = crop.sample.get(field_name).numpy().transpose(1, 2, 0)
        if owner is not None:
            mine = owner[window] == crop.person
        elif len(persons) == 1 or pending.persons is None:
            mine = np.ones(values.shape[:2], bool)
        else:
            mine = in_box(pending.persons.boxes[crop.person], crop.region)
        if whole is not None and task == 'depth':
            values = _align(values, whole[window], mine)
        data[window][mine] = values[mine]
        valid[window] |= mine
    return data, valid


def _align(values: np.ndarray, reference: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """Bring a person's relative depth to the scale and shift of the whole image's, by least squares.

    A negative scale would turn the person inside out; then the mean alone is matched.
    """
    x, y = values[..., 0][mine], reference[..., 0][mine]
    if not len(x):
        return values
    scale, shift = align_scale_shift(x, y)
    if scale <= 0:
        scale, shift = 1.0, float(np.mean(y, dtype=np.float64) - np.mean(x, dtype=np.float64))
    return (values * scale + shift).astype(np.float32)
