# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One family of transforms for all tasks; each moves every field that a sample carries."""

from .background import RandomBackground, RandomTexture
from .bridge import FromOpenMMLab
from .camera import RandomCamera
from .color import CoarseDropout, PhotometricDistortion, RandomBlur
from .crowd import ComposeCrowd
from .dense import Pad, RandomAffine, RandomCrop, RandomFlip, RandomResizedCrop, RandomRotate, Resize
from .loading import LoadImage, LoadLabels
from .pack import PackHumanInputs
from .topdown import PersonBox, RandomBBoxTransform, RandomBox, RandomHalfBody, RandomWindow, TopdownAffine

__all__ = [
    'CoarseDropout',
    'ComposeCrowd',
    'FromOpenMMLab',
    'LoadImage',
    'LoadLabels',
    'PackHumanInputs',
    'Pad',
    'PersonBox',
    'PhotometricDistortion',
    'RandomAffine',
    'RandomBBoxTransform',
    'RandomBackground',
    'RandomBlur',
    'RandomBox',
    'RandomCamera',
    'RandomCrop',
    'RandomFlip',
    'RandomHalfBody',
    'RandomResizedCrop',
    'RandomRotate',
    'RandomTexture',
    'RandomWindow',
    'Resize',
    'TopdownAffine',
]
