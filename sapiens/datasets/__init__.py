# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Data sets, one class per format, and one family of transforms for all tasks."""

from . import transforms
from .base import ConcatDataset, HumanDataset
from .coco_keypoints import CocoKeypointDataset
from .folders import ImageFolderDataset, ImageLabelFolderDataset
from .human_manifest import HumanManifestDataset
from .litdata_images import LitdataImageDataset
from .manifest import Manifest
from .manifest_writer import ManifestWriter, pack_shards
from .shard_images import ShardImageDataset

__all__ = [
    'CocoKeypointDataset',
    'ConcatDataset',
    'HumanDataset',
    'HumanManifestDataset',
    'ImageFolderDataset',
    'ImageLabelFolderDataset',
    'Manifest',
    'ManifestWriter',
    'LitdataImageDataset',
    'ShardImageDataset',
    'pack_shards',
    'transforms',
]
