# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Parameter names, shapes and counts of the 42 published models, and the paper's Table 2 (on the meta device)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sapiens.models import HumanEstimator, MAEPretrainer
from sapiens.vocabularies import PartVocabulary

LAYOUTS = json.loads((Path(__file__).parents[1] / 'data' / 'published_layouts.json').read_text())
TABLE_2 = {'0.3b': 0.336e9, '0.6b': 0.664e9, '1b': 1.169e9, '2b': 2.163e9}
KEYPOINTS = dict(pose17='coco17', pose133='wholebody133', pose308='keypoints308')


def expand(layout):
    """Written with ``*`` for the layer numbers; the MAE decoder has eight blocks."""
    shapes = {}
    for name, shape in layout['keys'].items():
        count = layout['layers'] if name.startswith('backbone.layers.*') else 8
        for i in range(count if '*' in name else 1):
            shapes[name.replace('*', str(i))] = tuple(shape)
    return shapes


def build(name):
    _, arch, task = name.split('_')[:3]
    with torch.device('meta'):
        if task == 'pretrain':
            return MAEPretrainer(dict(type='SapiensViT', arch=arch, img_size=1024), dict(type='MAEDecoder'))
        if task in KEYPOINTS:
            heads = dict(pose=dict(type='PoseHead', vocabulary=KEYPOINTS[task], codec=dict(type='UDPHeatmap')))
        elif task == 'seg':
            classes = int(name[-2:])
            table = np.zeros((classes, 3), np.uint8)
            vocabulary = PartVocabulary(
                'parts', tuple(map(str, range(classes))), np.arange(classes), table, np.ones(classes, np.float32)
            )
            heads = dict(seg=dict(type='PartHead', vocabulary=vocabulary))
        else:
            heads = {task: dict(type=f'{task.capitalize()}Head')}
        return HumanEstimator(dict(type='SapiensViT', arch=arch), heads)


def published_name(name):
    for task in ('seg', 'depth', 'normal'):
        name = name.replace(f'heads.{task}.final_layer', 'decode_head.conv_seg').replace(
            f'heads.{task}.', 'decode_head.'
        )
    return name.replace('heads.pose.', 'head.')


@pytest.mark.parametrize('name', LAYOUTS)
def test_names_and_shapes(name):
    model = build(name)
    ours = {published_name(key): tuple(value.shape) for key, value in model.state_dict().items()}
    assert ours == expand(LAYOUTS[name])
    assert sum(p.numel() for p in model.parameters()) == LAYOUTS[name]['parameters']


@pytest.mark.parametrize('arch', TABLE_2)
def test_table_2(arch):
    """The paper's counts include the MAE decoder and are rounded to 0.001 billion: ours round to the same."""
    model = build(f'sapiens_{arch}_pretrain')
    count = sum(p.numel() for p in model.parameters())
    assert abs(count - TABLE_2[arch]) <= 0.5e6
