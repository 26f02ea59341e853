# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""People made of spheres, whose every label is known in closed form, as a manifest folder."""

import numpy as np

from sapiens.datasets import ManifestWriter
from sapiens.vocabularies import load_vocabulary

PARTS = load_vocabulary('parts28').names
BALLS = (  # part, centre and radius in units of the figure's height, colour
    ('Hair', (0.0, 0.07), 0.075, (60, 40, 20)),
    ('Face_Neck', (0.0, 0.12), 0.07, (220, 170, 140)),
    ('Upper_Clothing', (0.0, 0.33), 0.14, (180, 30, 40)),
    ('Right_Hand', (-0.2, 0.42), 0.05, (210, 160, 130)),
    ('Left_Hand', (0.2, 0.42), 0.05, (230, 180, 150)),
    ('Lower_Clothing', (0.0, 0.58), 0.13, (30, 60, 170)),
    ('Right_Shoe', (-0.08, 0.8), 0.08, (20, 20, 20)),
    ('Left_Shoe', (0.08, 0.8), 0.08, (240, 240, 240)),
)


def make_person(rng, size):
    """Draw one figure: dict of image, parts, depth, normals and the person's record."""
    height, width = size
    scale = height * rng.uniform(0.75, 0.95)
    origin = np.array([width * rng.uniform(0.4, 0.6), height * rng.uniform(0.05, 0.15)])
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    image = np.empty((height, width, 3))
    image[:] = rng.uniform(60, 200, 3)
    depth, parts, normals = np.full(size, np.inf), np.zeros(size, np.uint8), np.zeros((*size, 3))
    centres = []
    for part, centre, radius, colour in BALLS:
        x, y = origin + scale * (np.array(centre) + rng.uniform(-0.03, 0.03, 2))
        r = scale * radius
        centres.append((x, y, r))
        dx, dy = (columns - x) / r, (rows - y) / r
        z = np.sqrt(np.maximum(1 - dx**2 - dy**2, 0))
        distance = 3 - 2 * radius * z
        front = (dx**2 + dy**2 < 1) & (distance < depth)
        depth[front], parts[front] = distance[front], PARTS.index(part)
        normals[front] = np.stack([dx, -dy, z], -1)[front]
        image[front] = (np.array(colour) * (0.35 + 0.65 * z[..., None]))[front]
    # 308 points on the outlines and centres of the balls.
    count = load_vocabulary('keypoints308').num_keypoints
    ball = np.arange(count) % len(BALLS)
    angle = 2 * np.pi * np.arange(count) / count
    x, y, r = np.array(centres)[ball].T
    points = np.stack([x + 0.6 * r * np.cos(angle), y + 0.6 * r * np.sin(angle), np.full(count, 2.0)], 1)
    points[~((points[:, 0] < width) & (points[:, 1] < height) & (points[:, :2] > 0).all(1)), 2] = 0
    mask = np.isfinite(depth)
    left, top = np.argwhere(mask).min(0)[::-1]
    right, bottom = np.argwhere(mask).max(0)[::-1] + 1
    person = dict(bbox=[int(left), int(top), int(right - left), int(bottom - top)], keypoints=points)
    return dict(
        image=image.round().clip(0, 255).astype(np.uint8),
        parts=parts,
        depth=np.where(mask, depth, 0).astype(np.float32),
        normals=normals.astype(np.float32),
        mask=mask.astype(np.uint8),
        instances=mask.astype(np.uint8),
        persons=[person],
    )


def write_people(folder, count=8, size=(128, 96), seed=0):
    """Write ``count`` figures into a manifest folder and return it."""
    rng = np.random.default_rng(seed)
    with ManifestWriter(folder, keypoints='keypoints308', parts='parts28') as writer:
        for i in range(count):
            writer.write(f'{i:06d}', **make_person(rng, size))
    return folder
