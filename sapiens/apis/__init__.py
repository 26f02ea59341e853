# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Use the models: `Inferencer`, detectors, sources, results."""

from . import library_detectors as library_detectors
from . import tiny_detector as tiny_detector
from .detectors import Detections, build_detector
from .inferencer import Inferencer, Results
from .loading import LoadedModel, load_model
from .predictor import Predictor
from .results import (
    DepthMap,
    Features,
    ImageResult,
    KeypointSet,
    NormalMap,
    PartMap,
    PersonKeypoints,
    depth_to_normals,
)
from .saving import save_all
from .sources import Failure, Frame, open_frames

__all__ = [
    'DepthMap',
    'Detections',
    'Failure',
    'Features',
    'Frame',
    'ImageResult',
    'Inferencer',
    'KeypointSet',
    'LoadedModel',
    'NormalMap',
    'PartMap',
    'PersonKeypoints',
    'Predictor',
    'Results',
    'save_all',
    'build_detector',
    'depth_to_normals',
    'load_model',
    'open_frames',
]
