# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Metrics by OpenMMLab's names, without its toolkits."""

import json

import pytest
from people import COCO, FIELDS, read_coco, samples_of, whole_body

from sapiens.errors import UserError
from sapiens.evaluation import KeypointAP, PartIoU
from sapiens.registry import METRICS


def evaluate(metric, samples):
    metric = METRICS.build(metric) if isinstance(metric, dict) else metric
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_names_and_prefixes(tmp_path):
    samples = samples_of(read_coco(), 0.05)
    ours = evaluate(KeypointAP(ann_file=COCO), samples)
    metric = METRICS.build(dict(type='CocoMetric', ann_file=str(COCO)))
    ported = evaluate(metric, samples)
    assert metric.report.metric == 'KeypointAP'  # so the published rows stand below it
    assert {name.replace('coco/', 'pose/'): value for name, value in ported.items()} == ours
    document = whole_body(read_coco())
    (tmp_path / 'gt.json').write_text(json.dumps(document))
    for annotation in document['annotations']:
        annotation['keypoints'] = [number for name in FIELDS for number in annotation[name]]
    samples = samples_of(document, vocabulary='wholebody133')
    found = evaluate(dict(type='CocoWholeBodyMetric', ann_file=str(tmp_path / 'gt.json')), samples)
    assert {'coco-wholebody/AP', 'coco-wholebody/face_AP'} <= set(found)
    maps = [{'img_id': 0, 'gt_part_map': [[0, 1, 7]], 'pred_part_map': [[0, 1, 3]]}]
    assert evaluate(dict(type='IoUMetric', ignore_index=7, vocabulary='parts20'), maps)['mIoU'] == 1
    ported = dict(type='IoUMetric', ignore_index=7, vocabulary='parts20', label_map=list(range(8)))
    assert evaluate(ported, maps)['mIoU'] == 1
    assert evaluate(PartIoU(vocabulary='parts20'), maps)['seg/aAcc'] == pytest.approx(2 / 3)
    assert evaluate(dict(type='PCKAccuracy', thr=0.5), samples_of(read_coco()))['PCK'] == 1


@pytest.mark.parametrize(
    ('metric', 'message'),
    [
        (dict(type='CocoMetric', nms_mode='soft_oks_nms'), "type='mmpose.CocoMetric' has the rest"),
        (dict(type='IoUMetric', iou_metrics=['mDice']), "type='mmseg.IoUMetric' has the rest"),
        (dict(type='PCKAccuracy', norm_item=['bbox', 'head']), "norm_item is 'bbox'"),
    ],
)
def test_what_is_not_taken_says_where_it_is(metric, message):
    with pytest.raises(UserError, match=message):
        METRICS.build(metric)
