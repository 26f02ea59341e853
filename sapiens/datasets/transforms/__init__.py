# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One family of transforms for all tasks; each moves every field that a sample carries."""

from .background import RandomBackground, RandomTexture
from .bridge import FromOpenMMLab, GenerateTarget, LoadAnnotations, LoadImageFromFile
from .camera import RandomCamera
from .color import CoarseDropout, PhotometricDistortion, RandomBlur
from .crowd import ComposeCrowd
from .dense import Pad, RandomAffine, RandomCrop, RandomFlip, RandomResizedCrop, RandomRotate, Resize
from .loading import LoadImage, LoadLabels
from .pack import PackHumanInputs
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
    'RandomCrop',
    'RandomFlip',
    'RandomHalfBody',
    'RandomResizedCrop',
    'RandomRotate',
    'RandomTexture',
    'Resize',
    'TopdownAffine',
]
