# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One family of transforms for all tasks; each moves every field that a sample carries."""

from .background import RandomBackground
from .bridge import FromOpenMMLab, GenerateTarget, LoadAnnotations, LoadImageFromFile
from .camera import RandomCamera
from .clothes import RandomTexture
from .color import CoarseDropout, PhotometricDistortion, RandomBlur, RandomConvolution, RandomLight
from .crowd import ComposeCrowd
from .dense import Pad, RandomAffine, RandomCrop, RandomFlip, RandomResizedCrop, RandomRotate, Resize
from .loading import LoadImage, LoadLabels
from .pack import PackHumanInputs
from .pieces import RandomDecoy, RandomOccluder
from .topdown import PersonBox, RandomBox, RandomHalfBody, TopdownAffine

__all__ = [
    'CoarseDropout',
    'ComposeCrowd',
    'FromOpenMMLab',
    'GenerateTarget',
    'LoadAnnotations',
    'LoadImage',
    'LoadImageFromFile',
    'LoadLabels',
    'PackHumanInputs',
    'Pad',
    'PersonBox',
    'PhotometricDistortion',
    'RandomAffine',
    'RandomBackground',
    'RandomBlur',
    'RandomBox',
    'RandomCamera',
    'RandomConvolution',
    'RandomCrop',
    'RandomDecoy',
    'RandomFlip',
    'RandomHalfBody',
    'RandomLight',
    'RandomOccluder',
    'RandomResizedCrop',
    'RandomRotate',
    'RandomTexture',
    'Resize',
    'TopdownAffine',
]
