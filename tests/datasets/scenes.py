# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Made scenes whose every label is known in closed form."""

import cv2
import numpy as np


def sphere(size=(120, 90), center=(40.0, 62.0), radius=25.0, matrix=None):
    """A sphere in front of nothing: image, parts, mask, depth, normals; optionally as seen through an affine map.

    With ``matrix`` (a similarity) the scene is rendered analytically in the new frame of ``size``.
    """
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    turn = np.eye(2)
    if matrix is not None:
        inverse = np.linalg.inv(matrix)
        x, y = (inverse[i, 0] * x + inverse[i, 1] * y + inverse[i, 2] for i in (0, 1))
        left, _, right = np.linalg.svd(matrix[:2, :2])
        turn = left @ right
    dx, dy = (x - center[0]) / radius, (y - center[1]) / radius
    inside = dx**2 + dy**2 < 1
    z = np.sqrt(np.maximum(1 - dx**2 - dy**2, 0))
    rows_down = np.stack([dx, dy], -1) @ turn.T
    normals = np.where(inside[..., None], np.stack([rows_down[..., 0], -rows_down[..., 1], z], -1), 0)
    mask = inside.astype(np.uint8)
    return dict(
        img=np.repeat(mask[..., None] * np.uint8(200), 3, -1),
        part_map=mask * np.uint8(5),
        mask=mask,
        depth=np.where(inside, 3 - 0.2 * z, 0).astype(np.float32),
        normals=normals.astype(np.float32),
    )


def sample(**scene):
    """A sample dict as it leaves `LoadImage` and `LoadLabels`."""
    height, width = scene['img'].shape[:2]
    return dict(
        img_path='made.png',
        ori_shape=(height, width),
        img_shape=(height, width),
        warp_mat=np.eye(3),
        flipped=False,
        keypoint_vocabulary='coco17',
        part_vocabulary='parts28',
        **scene,
    )


def photos(folder, count, size=(40, 30)):
    """Plain grey pictures ``000.png``, ... of level 0, 1, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        cv2.imwrite(str(folder / f'{i:03d}.png'), np.full((*size, 3), i, np.uint8))
    return folder
