# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a sample may carry, and the one reader of COCO-style files."""

from .coco import CocoFile, CocoImage, CocoPerson, read_coco
from .coco_results import CocoBoxes, CocoResult, read_coco_boxes, read_coco_results
from .human_data_sample import HumanDataSample

__all__ = [
    'CocoBoxes',
    'CocoFile',
    'CocoImage',
    'CocoPerson',
    'CocoResult',
    'HumanDataSample',
    'read_coco',
    'read_coco_boxes',
    'read_coco_results',
]
