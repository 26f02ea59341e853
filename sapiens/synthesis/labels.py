# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Exact labels of a scene, and the checks that every sample passes before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from ..errors import UserError
from ..vocabularies import load_vocabulary
from .actor import CLOCK, KEYPOINTS, PARTS, Figure, keypoint_rules
from .camera import TO_LABEL_AXES, Camera
from .mesh import Scene
from .rasterizer import interpolate, rasterize


class InvalidSample(UserError):
    """A rendered sample contradicts itself or is useless; it is drawn again."""


@dataclass
class Labels:
    """Labels of one picture, as `sapiens.datasets.manifest` takes them.

    Attributes:
        parts: ``(H, W)`` uint8.
        instances: ``(H, W)`` uint8, 0 = nobody.
        depth: ``(H, W)`` float32 metres, 0 where there is no person.
        normals: ``(H, W, 3)`` float32 unit, x right, y up, z to the viewer; 0 where there is no person.
        persons: Bounding boxes and keypoints of the people who are seen.
        zones: ``(H, W)`` uint8, see `zones`.
    """

    parts: np.ndarray
    instances: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    persons: list[dict]
    zones: np.ndarray


def make_labels(scene: Scene, figures: list[Figure], camera: Camera, min_pixels: int = 40) -> Labels:
    """Rasterize the labels and test each keypoint for visibility.

    Args:
        scene: `mesh.join` of the figures (instances 1, 2, ...) and of things (instance 0).
        figures: The people in the order of their instance ids.
        camera: Where from.
        min_pixels: Someone with fewer visible pixels is not listed and becomes background.
    """
    points = camera.to_camera(scene.vertices)
    z, face_id, bary = rasterize(
        points, scene.faces, camera.intrinsics, camera.size, scene.uv, scene.material, scene.texels, scene.table
    )
    hit = face_id >= 0
    instances, parts, zones = (np.zeros(camera.size, np.uint8) for _ in range(3))
    instances[hit] = scene.instance[face_id[hit]]
    person = instances > 0
    parts[person] = scene.part[face_id[person]]
    zones[person] = scene.zone[face_id[person]]
    normals = interpolate(scene.normals @ camera.rotation.T.astype(np.float32), scene.faces, face_id, bary)
    normals *= TO_LABEL_AXES
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    rows, columns = np.mgrid[: camera.size[0], : camera.size[1]]
    k = camera.intrinsics
    view = np.stack([-(columns - k[0, 2]) / k[0, 0], (rows - k[1, 2]) / k[1, 1], np.ones(camera.size)], -1)
    back = (normals * view).sum(-1) < 0
    # Cloth and hair are seen from inside too; there the visible side is the other one.
    normals[back] *= np.where(_seen_from_inside(points, scene.faces[face_id[back]]), -1, 1)[:, None]
    persons, order = [], np.zeros(256, np.uint8)
    for number, figure in enumerate(figures, 1):
        mask = instances == number
        if mask.sum() < min_pixels:
            continue
        keypoints = visible_keypoints(figure, number, camera, z, instances, zones)
        ys, xs = np.nonzero(mask)
        box = [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]
        persons.append({'bbox': box, 'keypoints': keypoints, 'area': int(mask.sum()), 'pose': figure.pose.family,
                        'traits': figure.traits})  # fmt: skip
        order[number] = len(persons)
    instances = order[instances]
    person = instances > 0
    for field in (parts, zones):
        field[~person] = 0
    normals[~person] = 0
    depth = np.where(person, z, 0).astype(np.float32)
    return Labels(parts, instances, depth, normals.astype(np.float32), persons, zones)


def _seen_from_inside(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (points[faces[:, i]] for i in range(3))
    return (np.cross(b - a, c - a) * a).sum(-1) > 0


def visible_keypoints(
    figure: Figure, number: int, camera: Camera, z: np.ndarray, instances: np.ndarray, zones: np.ndarray
) -> np.ndarray:
    """``(308, 3)`` x, y and 2 = visible, 1 = hidden, 0 = outside of the picture (then x = y = 0).

    A keypoint is visible where the surface seen at its pixel (on the outline: next to it) is this person's, belongs
    to a zone that shows the keypoint, and is not farther in front of it than the keypoint lies under the skin.
    """
    shown, tolerance = keypoint_rules()
    tolerance = tolerance * figure.height / 1.7
    image, depth = camera.project(figure.keypoints)
    height, width = camera.size
    # A point belongs to the picture when its nearest pixel does.
    inside = (depth > 0) & (image > -0.5).all(-1) & (image < [width - 0.5, height - 0.5]).all(-1)
    seen = np.zeros(len(image), bool)
    x, y = np.rint(np.where(inside[:, None], image, 0)).astype(int).T
    slope = depth / camera.intrinsics[0, 0]  # how much a slanting surface may gain within a pixel, metres
    own = instances[y, x] == number
    for dy, dx in ((0, 0), *((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b)):
        r, c = np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)
        near = z[r, c] > depth - tolerance - slope
        found = (instances[r, c] == number) & shown[np.arange(len(x)), zones[r, c]] & near
        # Neighbours speak only for points whose own pixel falls off the person's outline.
        seen |= found if (dy, dx) == (0, 0) else found & ~own
    for ring, eye in _eyes():
        # At a grazing view the tolerances would show the iris of an eye that looks away: its ring is seen from behind.
        x0, y0 = image[ring].T
        if (x0 * np.roll(y0, -1) - y0 * np.roll(x0, -1)).sum() >= 0:
            seen[eye] = False
    visibility = np.where(inside, np.where(seen, 2, 1), 0)
    xy = np.clip(image, 0, [width - 1, height - 1])
    return np.concatenate([np.where(inside[:, None], xy, 0), visibility[:, None]], -1).astype(np.float32)


@lru_cache(maxsize=1)
def _eyes() -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each eye the border of the iris, anticlockwise from 3 o'clock, and all points of iris and pupil."""
    names = load_vocabulary(KEYPOINTS).names
    out = []
    for side in 'lr':
        ring = np.array([names.index(f'{side}_border_of_iris_{place}') for place in CLOCK])
        points = [
            i for i, n in enumerate(names) if n.startswith(f'{side}_') and n.split('_of_')[-1][:4] in ('iris', 'pupi')
        ]
        out.append((ring, np.array(points)))
    return out


def check(labels: Labels, camera: Camera, image: np.ndarray) -> None:
    """Test that a sample keeps all its promises.

    Raises:
        InvalidSample: The first promise that is broken.
    """
    person = labels.instances > 0
    if not labels.persons or person.mean() < 0.01:
        raise InvalidSample('nobody to be seen')
    if image.shape != (*camera.size, 3) or image.dtype != np.uint8:
        raise InvalidSample(f'image is {image.shape} {image.dtype}')
    if image.std() < 4 or image[person].std() < 2:
        raise InvalidSample('picture without contrast')
    if not np.isfinite(labels.depth).all() or (labels.depth[person] < 0.1).any() or (labels.depth > 60).any():
        raise InvalidSample('depth out of range')
    if (labels.depth[~person] != 0).any() or (labels.normals[~person] != 0).any():
        raise InvalidSample('labels outside of people')
    length = np.linalg.norm(labels.normals[person], axis=-1)
    if (np.abs(length - 1) > 1e-3).any():
        raise InvalidSample('a normal is not a unit vector')
    if (labels.normals[person][:, 2] < 0).mean() > 0.1:
        raise InvalidSample('normals look away from the viewer')
    if ((labels.parts > 0) != person).any() or labels.parts.max() >= load_vocabulary(PARTS).num_classes:
        raise InvalidSample('parts and people disagree')
    for number, someone in enumerate(labels.persons, 1):
        _check_person(someone, labels.instances == number)
    if max(int((np.asarray(p['keypoints'])[:, 2] == 2).sum()) for p in labels.persons) < 4:
        raise InvalidSample('almost no keypoint is visible')


def _check_person(someone: dict, mask: np.ndarray) -> None:
    """Test that box and keypoints of somebody agree with the mask ``(H, W)``."""
    keypoints = np.asarray(someone['keypoints'])
    xy, v = keypoints[:, :2], keypoints[:, 2]
    if not np.isfinite(keypoints).all() or not np.isin(v, (0, 1, 2)).all():
        raise InvalidSample('a keypoint is not finite')
    height, width = mask.shape
    inside = ((xy >= 0) & (xy <= [width - 1, height - 1])).all(1)
    if (~inside & (v > 0)).any():
        raise InvalidSample('a labelled keypoint is outside of the picture')
    x, y, w, h = someone['bbox']
    if not mask[y : y + h, x : x + w].any() or mask.sum() != someone['area']:
        raise InvalidSample('a box misses its person')
    # Visible points lie on their person, give or take a pixel.
    near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    column, row = np.rint(xy[v == 2]).astype(int).T
    if not near[row, column].all():
        raise InvalidSample('a visible keypoint is not on its person')
