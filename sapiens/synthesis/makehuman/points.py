# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Where the 308 keypoints are on the MakeHuman body: a data file of vertices, bone ends and circles on the eyes.

Each entry of ``data/keypoints_makehuman.json`` is one of ``{"vertices": [...], "weights": [...]}``,
``{"bone": NAME, "end": "head" | "tail"}`` and
``{"eye": "L" | "R", "ring": "centre" | "iris" | "pupil", "clock": degrees}`` (0 = the person's left, 90 = up).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...vocabularies import load_vocabulary
from ..actor import KEYPOINTS
from ..skeleton import Skeleton
from .body import BaseBody
from .dressing import IRIS, PUPIL, ring_on_eye
from .skinning import strongest

TABLE = Path(__file__).parents[1] / 'data' / 'keypoints_makehuman.json'


def load_table(path: Path = TABLE) -> dict[str, dict]:
    """The table by keypoint name, checked to be complete.

    Raises:
        UserError: A keypoint is missing.
    """
    table = json.loads(path.read_text())['points']
    missing = [n for n in load_vocabulary(KEYPOINTS).names if n not in table]
    if missing:
        raise UserError(f'{path}: {len(missing)} keypoints are missing, first {missing[0]}')
    return table


class KeypointPlacer:
    """Puts the keypoints on a shaped body."""

    def __init__(self, body: BaseBody, table: dict[str, dict]) -> None:
        self.names = load_vocabulary(KEYPOINTS).names
        self.entries = [table[n] for n in self.names]
        index = {n: i for i, n in enumerate(body.bone_names)}
        dense = np.zeros((len(self.names), len(index)), np.float32)
        for i, entry in enumerate(self.entries):
            if 'vertices' in entry:
                for vertex, weight in zip(entry['vertices'], entry['weights'], strict=True):
                    np.add.at(dense[i], body.skin_bones[vertex], body.skin_weights[vertex] * weight)
            else:
                dense[i, index[entry['bone'] if 'bone' in entry else f'eye.{entry["eye"]}']] = 1
        self.bones, self.weights = strongest(dense)

    def place(self, points: np.ndarray, skeleton: Skeleton, eyes: dict[str, tuple[np.ndarray, float]]) -> np.ndarray:
        """Rest positions ``(308, 3)``, metres.

        Args:
            points: ``(V, 3)`` body vertices in metres, expression included.
            skeleton: The body's bones.
            eyes: Side -> centre and radius of the eyeball.
        """
        out = np.empty((len(self.names), 3))
        for i, entry in enumerate(self.entries):
            if 'vertices' in entry:
                out[i] = np.asarray(entry['weights']) @ points[entry['vertices']]
            elif 'bone' in entry:
                ends = skeleton.tails if entry['end'] == 'tail' else skeleton.heads
                out[i] = ends[skeleton.index[entry['bone']]]
            else:
                part = {'centre': 0.0, 'iris': IRIS, 'pupil': PUPIL}[entry['ring']]
                out[i] = ring_on_eye(*eyes[entry['eye']], part, np.array([entry.get('clock', 0)]))[0]
        return out
