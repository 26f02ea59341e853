# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One family of transforms for all tasks; each moves every field that a sample carries."""

from .background import RandomBackground
from .bridge import FromOpenMMLab
from .camera import RandomCamera
from .color import CoarseDropout, PhotometricDistortion, RandomBlur
from .crowd import ComposeCrowd
from .dense import Pad, RandomAffine, RandomCrop, RandomResizedCrop, RandomRotate, Resize
from .flip import RandomFlip
from .loading import LoadImage, LoadLabels
from .pack import PackHumanInputs
from .texture import RandomTexture
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
