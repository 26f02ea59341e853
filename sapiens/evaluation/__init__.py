# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Metrics for keypoints, body parts, depth and normals, and the tables made of them."""

from .analysis.pictures import write_confusion, write_worst
from .base import HumanMetric
from .depth import DepthMetric
from .keypoint_ap import KeypointAP
from .mae_loss import MAELoss
from .normal import NormalMetric
from .openmmlab_names import CocoMetric, CocoWholeBodyMetric, IoUMetric, PCKAccuracy
from .part_iou import PartIoU
from .pck import PCK
from .report import EvaluationReport, print_report, write_reports
from .saved import SavedMaps, SavePredictions
from .tables import Table
from .testing import evaluator_for_test, finish_test, protocol_of_run

__all__ = [
    'PCK',
    'CocoMetric',
    'CocoWholeBodyMetric',
    'DepthMetric',
    'EvaluationReport',
    'HumanMetric',
    'IoUMetric',
    'KeypointAP',
    'MAELoss',
    'NormalMetric',
    'PCKAccuracy',
    'PartIoU',
    'SavePredictions',
    'SavedMaps',
    'Table',
    'evaluator_for_test',
    'finish_test',
    'print_report',
    'protocol_of_run',
    'write_confusion',
    'write_reports',
    'write_worst',
]
