# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Figures do not depend on the precision that the network ran in: metrics compute in float32 and finer."""

import numpy as np
import pytest
import torch
from people import COCO, read_coco, samples_of
from test_distributed import dense_samples

from sapiens.evaluation import PCK, DepthMetric, KeypointAP, NormalMetric, PartIoU

METRICS = {
    'parts': (lambda: PartIoU(vocabulary='parts20', boundary=True), dense_samples),
    'depth': (DepthMetric, dense_samples),
    'normals': (NormalMetric, dense_samples),
    'AP': (lambda: KeypointAP(ann_file=COCO), lambda count: samples_of(read_coco(), 0.05)),
    'AP of samples': (KeypointAP, lambda count: samples_of(read_coco(), 0.05)),
    'PCK': (PCK, lambda count: samples_of(read_coco(), 0.05)),
}


@pytest.mark.parametrize('name', METRICS)
def test_autocast_changes_nothing(name):
    make, samples = METRICS[name]
    samples, found = samples(4), []
    for enabled in (False, True):
        metric = make()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            metric.process(None, samples)
            found.append(metric.evaluate(len(samples)))
    assert found[0] == found[1]


def test_small_errors_are_seen_and_half_maps_are_read():
    """An error of 0.01 degrees is below what bfloat16 can tell; predictions in half precision are widened first."""
    normals = torch.zeros(3, 8, 8)
    normals[2] = 1
    turned = normals.clone()
    turned[0] = float(np.tan(np.radians(0.01)))
    metric = NormalMetric()
    with torch.autocast('cpu', torch.bfloat16):
        metric.process(None, [{'gt_normals': normals, 'pred_normals': turned}])
        assert metric.evaluate(1)['normal/mean'] == pytest.approx(0.01, rel=1e-4)
        for dtype in (torch.bfloat16, torch.float16):
            metric.process(None, [{'gt_normals': normals, 'pred_normals': normals.to(dtype)}])
            assert metric.evaluate(1)['normal/mean'] == 0
