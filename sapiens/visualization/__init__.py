# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Drawing of every output. Images go in and come out as uint8 RGB ``(H, W, 3)``."""

from .keypoints import draw_boxes, draw_keypoints
from .layout import put_label, side_by_side
from .maps import INVALID_COLOR, draw_depth, draw_normals, draw_parts
from .visualizer import HumanVisualizer

__all__ = [
    'INVALID_COLOR',
    'HumanVisualizer',
    'draw_boxes',
    'draw_depth',
    'draw_keypoints',
    'draw_normals',
    'draw_parts',
    'put_label',
    'side_by_side',
]
