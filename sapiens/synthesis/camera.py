# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Pinhole cameras, and drawing one that frames a face, an upper body or whole people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TO_LABEL_AXES = np.array([1, -1, -1], np.float32)
"""Sign that turns camera axes (x right, y down, z forward) into label axes (x right, y up, z to the viewer)."""


@dataclass
class Camera:
    """A pinhole camera without distortion.

    Attributes:
        intrinsics: ``(3, 3)``; the centre of pixel (row, column) is the image point (column, row).
        rotation: ``(3, 3)`` world to camera (x right, y down, z forward).
        position: ``(3,)`` in the world, metres.
        size: ``(H, W)``.
    """

    intrinsics: np.ndarray
    rotation: np.ndarray
    position: np.ndarray
    size: tuple[int, int]

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points ``(..., 3)`` in camera axes, float64."""
        return (np.asarray(points, np.float64) - self.position) @ self.rotation.T

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Image points ``(..., 2)`` and depths ``(...)`` of world points ``(..., 3)``."""
        p = self.to_camera(points)
        z = np.where(np.abs(p[..., 2]) < 1e-9, 1e-9, p[..., 2])
        focal, centre = self.intrinsics[[0, 1], [0, 1]], self.intrinsics[:2, 2]
        return p[..., :2] / z[..., None] * focal + centre, p[..., 2]

    def supersampled(self, factor: int) -> Camera:
        """The same view with ``factor`` times as many pixels along each side."""
        k = self.intrinsics.copy()
        k[:2] *= factor
        k[:2, 2] += (factor - 1) / 2
        return Camera(k, self.rotation, self.position, (self.size[0] * factor, self.size[1] * factor))

    def rays(self) -> np.ndarray:
        """``(H, W, 3)`` unit world directions through the pixel centres."""
        rows, columns = np.mgrid[: self.size[0], : self.size[1]]
        k = self.intrinsics
        d = np.stack([(columns - k[0, 2]) / k[0, 0], (rows - k[1, 2]) / k[1, 1], np.ones(self.size)], -1)
        d /= np.linalg.norm(d, axis=-1, keepdims=True)
        return d @ self.rotation


def look_at(position: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """World-to-camera rotation of a camera that looks at ``target``; ``roll`` in radians about its axis."""
    forward = np.asarray(target, np.float64) - position
    forward /= np.linalg.norm(forward)
    up = np.array([0.0, 1, 0]) if abs(forward[1]) < 0.999 else np.array([0.0, 0, 1])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    c, s = np.cos(roll), np.sin(roll)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ rotation


def frame_points(
    points: np.ndarray,
    size: tuple[int, int],
    fill: float,
    azimuth: float,
    elevation: float,
    focal: float,
    roll: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    floor: float = 0.05,
) -> Camera:
    """A camera from which points fill a given part of the picture.

    Args:
        points: ``(N, 3)`` world points to be seen.
        size: ``(H, W)``.
        fill: Part of the picture's height or width, whichever binds, that the points take; above 1 crops.
        azimuth: Radians about the vertical; 0 looks at a person who faces +z from the front.
        elevation: Radians above the horizontal.
        focal: Focal length in units of the longer image side.
        roll: Radians.
        shift: Moves the points' centre away from the picture's, in parts of (W, H).
        floor: The camera stays at least this high above y = 0, metres.
    """
    height, width = size
    pixels = focal * max(size)
    k = np.array([[pixels, 0, (width - 1) / 2], [0, pixels, (height - 1) / 2], [0, 0, 1]], np.float64)
    middle = (points.min(0) + points.max(0)) / 2
    toward = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    distance = 1.0 + np.abs(points - middle).max() * 2
    camera = None
    for _ in range(12):
        position = middle + toward * distance
        position[1] = max(position[1], floor)
        camera = Camera(k, look_at(position, middle, roll), position, size)
        image, z = camera.project(points)
        if z.min() < 0.15:
            distance *= 1.5
            continue
        span = np.ptp(image, axis=0)
        factor = max(span[0] / (fill * width), span[1] / (fill * height))
        if abs(factor - 1) < 0.01:
            break
        distance = max(distance * factor, 0.25)
    image, _ = camera.project(points)
    centre = (image.min(0) + image.max(0)) / 2
    wanted = np.array([(0.5 + shift[0]) * width, (0.5 + shift[1]) * height])
    # Aim at the points' centre, then move the principal point a little instead of the camera.
    camera.intrinsics[:2, 2] += wanted - centre
    return camera
