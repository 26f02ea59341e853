# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Pictures of the keypoints on the bare body, from several sides, to judge the hand-picked tables by eye."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..vocabularies import load_vocabulary
from .actor import KEYPOINTS
from .rasterizer import interpolate, rasterize, vertex_normals


@dataclass(frozen=True)
class View:
    """A parallel view: ``select`` chooses keypoints by index and name, ``span`` is the picture's width in metres."""

    name: str
    anchor: tuple[str, ...]
    azimuth: float
    elevation: float
    span: float
    words: tuple[str, ...]
    groups: tuple[str, ...]


_LIPS = ('lip', 'mouth', 'cupid', 'nostril', 'nose')
_FACE = ('eyebrow', 'chin', 'glabella', 'groove', *_LIPS)
_EYE = ('lash', 'eyelid_line', 'crease', 'iris', 'pupil')
_EAR = ('crus', 'antihelix', 'helix', 'tragus', 'concha', 'ear_lobe', 'midpoint_between')
VIEWS: tuple[View, ...] = (
    View('face', ('tip_of_nose',), 0, 0, 0.22, _FACE, ('face',)),
    View('l_eye', ('l_center_of_pupil',), 0, 0, 0.05, ('l_',), ('face',)),
    View('r_eye', ('r_center_of_pupil',), 0, 0, 0.05, ('r_',), ('face',)),
    View('l_ear', ('l_deepest_point_of_concha',), 75, 0, 0.085, _EAR, ('face',)),
    View('r_ear', ('r_deepest_point_of_concha',), -75, 0, 0.085, _EAR, ('face',)),
    View('lips', ('center_of_upper_inner_lip',), 0, -5, 0.07, _LIPS, ('face',)),
    View('lips_side', ('center_of_upper_inner_lip',), 55, 0, 0.08, _LIPS, ('face',)),
    View('left_hand', ('left_middle_finger_third_joint',), 75, 40, 0.22, ('left',), ('left_hand',)),
    View('right_hand', ('right_middle_finger_third_joint',), -75, 40, 0.22, ('right',), ('right_hand',)),
    View('left_foot', ('left_heel',), 40, 25, 0.4, ('left',), ('foot', 'body')),
    View('right_foot', ('right_heel',), -40, 25, 0.4, ('right',), ('foot', 'body')),
    View('body', ('left_hip', 'right_hip'), 0, 0, 1.9, ('',), ('body', 'foot', 'extra')),
    View('body_side', ('left_hip', 'right_hip'), 90, 0, 1.9, ('',), ('body', 'foot', 'extra')),
    View('body_back', ('left_hip', 'right_hip'), 180, 0, 1.9, ('',), ('body', 'foot', 'extra')),
)  # fmt: skip
"""What to look at; the sides of the eyes and ears are chosen by the names of the points."""


def draw_view(
    view: View, points: np.ndarray, faces: np.ndarray, keypoints: np.ndarray, resolution: int = 900
) -> np.ndarray:
    """Draw one view.

    Args:
        view: What to draw.
        points: ``(V, 3)`` metres at rest.
        faces: ``(F, 3)``.
        keypoints: ``(308, 3)``.
        resolution: Side of the picture.

    Returns:
        ``(resolution, resolution, 3)`` uint8 RGB.
    """
    vocabulary = load_vocabulary(KEYPOINTS)
    group = {int(i): g for g, members in vocabulary.groups.items() for i in members}
    index = {n: i for i, n in enumerate(vocabulary.names)}
    centre = keypoints[[index[a] for a in view.anchor]].mean(0)
    a, e = np.radians([view.azimuth, view.elevation])
    forward = -np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    right = np.cross(forward, [0, 1.0, 0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    distance, middle = 60.0, (resolution - 1) / 2
    focal = resolution / view.span * distance  # from so far away the projection is parallel
    k = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    local = (points - centre) @ rotation.T + [0, 0, distance]
    _, face_id, bary = rasterize(local, faces, k, (resolution, resolution))
    normals = interpolate(vertex_normals(points, faces), faces, face_id, bary)
    light = rotation.T @ np.array([-0.4, -0.6, -0.7])
    picture = np.repeat((np.clip(normals @ light, 0, 1) * 150 + 35 * (face_id >= 0))[..., None], 3, -1).astype(np.uint8)

    def write(text: str, x: int, y: int, size: float, color: tuple[int, int, int]) -> None:
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)

    for i, name in enumerate(vocabulary.names):
        if group[i] not in view.groups or not any(w in name for w in view.words):
            continue
        if view.name in ('l_eye', 'r_eye') and (not name.startswith(view.name[:2]) or not any(w in name for w in _EYE)):
            continue
        if view.name in ('l_ear', 'r_ear') and not name.startswith(view.name[:2]):
            continue
        x, y = ((keypoints[i] - centre) @ rotation.T)[:2] * resolution / view.span + middle
        if 0 <= x < resolution and 0 <= y < resolution:
            color = tuple(int(c) for c in vocabulary.colors[i])
            cv2.circle(picture, (int(x), int(y)), 4, (255, 70, 60), -1)
            cv2.circle(picture, (int(x), int(y)), 2, color, -1)
            write(str(i), int(x) + 5, int(y) - 4, 0.4, (110, 255, 110))
    write(view.name, 8, 20, 0.6, (255, 255, 255))
    return picture
