# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Where the 308 keypoints are on the people made of ellipsoids."""

from __future__ import annotations

import numpy as np

from ..vocabularies import load_vocabulary
from .actor import CLOCK, KEYPOINTS
from .skeleton import Skeleton

HEAD = np.array([0.0, 1.60, 0.01])
RADII = np.array([0.078, 0.118, 0.098])
"""Centre and half axes of the head, metres for a body of the standard size."""


def on_face(x: np.ndarray, y: np.ndarray, lift: float = 0.0) -> np.ndarray:
    """Points on the front of the head ellipsoid at given x and y, unscaled metres."""
    u, v = x / RADII[0], (y - HEAD[1]) / RADII[1]
    z = HEAD[2] + RADII[2] * np.sqrt(np.clip(1 - u * u - v * v, 0.02, 1)) + lift
    return np.stack(np.broadcast_arrays(x, y, z), -1)


def _halving(prefix: str, suffix: str, start: float = 0.0, stop: float = 1.0) -> dict[str, float]:
    """Sub-points of a line by name -> position from image-left (0) to image-right (1)."""
    places = (0.25, 0.75, 0.125, 0.375, 0.625, 0.875)
    return {f'{prefix}midpoint_{i}{suffix}': start + (stop - start) * t for i, t in enumerate(places, 1)}


def face_points(gap: float) -> dict[str, np.ndarray]:
    """Face keypoints by name, unscaled metres. A person who faces us has the right side at image-left (x < 0)."""
    out: dict[str, np.ndarray] = {}

    def put(name: str, x: float, y: float, lift: float = 0.002) -> None:
        out[name] = on_face(np.array(x), np.array(y), lift)

    for name, y in (
        ('center_of_glabella', 1.636),
        ('center_of_nose_root', 1.62),
        ('midpoint_2_of_nose_bridge', 1.613),
        ('midpoint_1_of_nose_bridge', 1.606),
        ('midpoint_3_of_nose_bridge', 1.6),
        ('tip_of_nose_bridge', 1.594),
        ('center_of_labiomental_groove', 1.527),
        ('tip_of_chin', 1.505),
    ):
        put(name, 0, y)
    out['tip_of_nose'] = np.array([0, 1.583, 0.125])
    out['bottom_center_of_nose'] = np.array([0, 1.566, 0.115])
    for s, sign in (('l', 1), ('r', -1)):
        out[f'{s}_outer_corner_of_nose'] = np.array([sign * 0.014, 1.578, 0.108])
        for corner, x, y in (('inner', 0.004, 1.569), ('outer', 0.011, 1.571), ('upper', 0.0075, 1.574)):
            out[f'{corner}_corner_of_{s}_nostril'] = np.array([sign * x, y, 0.117])
        put(f'upper_startpoint_of_{s}_eyebrow', sign * 0.013, 1.639)
        put(f'lower_startpoint_of_{s}_eyebrow', sign * 0.013, 1.634)
        put(f'end_of_{s}_eyebrow', sign * 0.053, 1.636)
        for edge, y in (('upper', 1.642), ('lower', 1.636)):
            for number, t in ((1, 0.5), (2, 0.25), (3, 0.75)):
                x = 0.013 + 0.04 * t if sign > 0 else -0.053 + 0.04 * t
                put(f'{edge}_midpoint_{number}_of_{s}_eyebrow', x, y - 0.002 * abs(t - 0.5))
        for edge, line, height in (('upper', 'lash_line', 0.007), ('upper', 'eyelid_line', 0.006),
                                   ('upper', 'crease_line', 0.0105), ('lower', 'lash_line', -0.007),
                                   ('lower', 'eyelid_line', -0.006)):  # fmt: skip
            inner, outer = (0.0, 1.0) if sign > 0 else (1.0, 0.0)
            places = {f'{s}_inner_end_of_{edge}_{line}': inner, f'{s}_outer_end_of_{edge}_{line}': outer,
                      f'{s}_centerpoint_of_{edge}_{line}': 0.5, **_halving(f'{s}_', f'_of_{edge}_{line}')}  # fmt: skip
            for name, t in places.items():
                bow = np.sin(np.pi * t) if 'crease' not in line else 0.5 + 0.5 * np.sin(np.pi * t)
                out[name] = np.array(
                    [sign * 0.031 + (t - 0.5) * 0.027, 1.615 + height * bow, 0.094 + 0.006 * np.sin(np.pi * t)]
                )
        for thing, radius, z in (('iris', 0.0058, 0.0985), ('pupil', 0.0024, 0.101)):
            centre = np.array([sign * 0.031, 1.615, z])
            out[f'{s}_center_of_{thing}'] = centre + [0, 0, 0.0015]
            for eighth, name in enumerate(CLOCK):
                a = np.radians(45 * eighth)
                out[f'{s}_border_of_{thing}_{name}'] = centre + radius * np.array([np.cos(a), np.sin(a), 0])
    mouth = 1.545
    for s, x in (('l', 1), ('r', -1)):
        put(f'{s}_outer_corner_of_mouth', x * 0.028, mouth, 0.003)
        put(f'{s}_inner_corner_of_mouth', x * 0.023, mouth, 0.004)
    for edge, way in (('upper', 1), ('lower', -1)):
        for line, height, width in (('outer', 0.011 + gap * 0.7, 0.056), ('inner', 0.001 + gap * 0.7, 0.046)):
            centre = 'center_of_cupid_bow' if (edge, line) == ('upper', 'outer') else f'center_of_{edge}_{line}_lip'
            for name, t in {centre: 0.5, **_halving('', f'_of_{edge}_{line}_lip')}.items():
                put(name, (t - 0.5) * width, mouth + way * height * np.sin(np.pi * t) ** 0.7, 0.006)
    out.update(_ears())
    return out


_EAR_NAMES = (
    'top_end_of_inferior_crus', 'top_end_of_superior_crus', 'start_of_antihelix', 'end_of_antihelix',
    'midpoint_1_of_antihelix', 'midpoint_1_of_inferior_crus', 'midpoint_2_of_antihelix', 'midpoint_3_of_antihelix',
    'point_1_of_inner_helix', 'point_2_of_inner_helix', 'point_3_of_inner_helix', 'point_4_of_inner_helix',
    'point_5_of_inner_helix', 'point_6_of_inner_helix', 'point_7_of_inner_helix', 'highest_point_of_antitragus',
    'bottom_point_of_tragus', 'protruding_point_of_tragus', 'top_point_of_tragus', 'start_point_of_crus_of_helix',
    'deepest_point_of_concha', 'tip_of_ear_lobe', 'midpoint_between_22_15', 'bottom_connecting_point_of_ear_lobe',
    'top_connecting_point_of_helix', 'point_8_of_inner_helix',
)  # fmt: skip
_EAR_PLACES = (
    (0.35, 0.45), (0.1, 0.62), (-0.05, 0.3), (-0.05, -0.42), (-0.2, 0.0), (0.15, 0.38), (-0.16, 0.16), (-0.15, -0.2),
    (0.5, 0.72), (0.2, 0.9), (-0.2, 0.88), (-0.5, 0.66), (-0.68, 0.3), (-0.62, -0.1), (-0.42, -0.5), (0.05, -0.5),
    (0.38, -0.42), (0.35, -0.2), (0.45, 0.02), (0.4, 0.2), (0.1, -0.08), (0.05, -0.95), (-0.22, -0.75), (0.45, -0.72),
    (0.7, 0.5), (0.62, 0.6),
)  # fmt: skip


def _ears() -> dict[str, np.ndarray]:
    """Ear points by name, each placed by (towards the face, up) in parts of the ear's half axes."""
    swap = load_vocabulary(KEYPOINTS)
    out = {}
    for name, (front, up) in zip(_EAR_NAMES, _EAR_PLACES, strict=True):
        depth = 0.01 * np.sqrt(max(1 - front**2 - up**2, 0.05))
        point = np.array([0.083 + depth, 1.6 + 0.03 * up, -0.005 + 0.018 * front])
        out[f'l_{name}'] = point
        # The right ear's points are the mirror images by the swap table, whatever their names say.
        twin = swap.names[swap.swap[swap.names.index(f'l_{name}')]]
        out[twin] = point * [-1, 1, 1]
    return out


def place_keypoints(skeleton: Skeleton, scale: float, face: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rest positions and bones of all 308 keypoints."""
    places: dict[str, tuple[np.ndarray, str]] = {name: (p * scale, 'head') for name, p in face.items()}
    places['nose'] = places['tip_of_nose']
    places['neck'] = skeleton.head('neck01'), 'neck01'
    fingers = ('thumb', 'forefinger', 'middle_finger', 'ring_finger', 'pinky_finger')
    for s, word in (('L', 'left'), ('R', 'right')):
        head = skeleton.head
        places[f'{word}_eye'] = places[f'{word[0]}_center_of_pupil']
        places[f'{word}_ear'] = places[f'{word[0]}_top_point_of_tragus']
        for point, bone in (('shoulder', 'upperarm01'), ('elbow', 'lowerarm01'), ('wrist', 'wrist'),
                            ('hip', 'upperleg01'), ('knee', 'lowerleg01'), ('ankle', 'foot')):  # fmt: skip
            places[f'{word}_{point}'] = head(f'{bone}.{s}'), f'{bone}.{s}'
        ankle = head(f'foot.{s}') * [1, 0, 1]
        sign = 1 if s == 'L' else -1
        for point, offset in (('big_toe', (-0.02 * sign, 0.03, 0.15)), ('small_toe', (0.03 * sign, 0.03, 0.12)),
                              ('heel', (0, 0.03, -0.035))):  # fmt: skip
            places[f'{word}_{point}'] = ankle + np.array(offset) * scale, f'foot.{s}'
        elbow, shoulder = head(f'lowerarm01.{s}'), head(f'upperarm01.{s}')
        places[f'{word}_olecranon'] = elbow + np.array([0, -0.01, -0.034]) * scale, f'lowerarm01.{s}'
        places[f'{word}_cubital_fossa'] = elbow + np.array([0, 0.0, 0.036]) * scale, f'lowerarm01.{s}'
        places[f'{word}_acromion'] = shoulder + np.array([0, 0.05, 0]) * scale, f'clavicle.{s}'
        for finger, name in enumerate(fingers, 1):
            for joint in range(1, 4):
                # Number 4 is the tip, "third joint" the base.
                label = {1: f'{name}_third_joint', 2: f'{name}2', 3: f'{name}3'}[joint]
                bone = f'finger{finger}-{joint}.{s}'
                places[f'{word}_{label}'] = skeleton.head(bone), bone
            bone = f'finger{finger}-3.{s}'
            places[f'{word}_{name}4'] = skeleton.tails[skeleton.index[bone]], bone
    names = load_vocabulary(KEYPOINTS).names
    points = np.array([places[n][0] for n in names])
    return points, np.array([skeleton.index[places[n][1]] for n in names], np.int16)
