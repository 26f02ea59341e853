# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Operations of the four encoders against the paper's Table 2, and against counting by hand."""

import pytest
import torch

from sapiens.models import HumanEstimator
from sapiens.models.complexity import count_flops, count_parameters

TABLE_2 = {'0.3b': 1.242e12, '0.6b': 2.583e12, '1b': 4.647e12, '2b': 8.709e12}


def encoder(arch, size, **options):
    with torch.device('meta'):
        return HumanEstimator(dict(type='SapiensViT', arch=arch, img_size=size, **options), {})


@pytest.mark.parametrize('arch', TABLE_2)
def test_table_2(arch):
    flops, true = count_flops(encoder(arch, (1024, 1024), with_cls_token=True), (1024, 1024))['backbone']
    assert flops == pytest.approx(TABLE_2[arch], rel=1e-3)
    assert true > 2 * flops


@pytest.mark.parametrize(('arch', 'teraflop'), [('0.3b', 2.79), ('0.6b', 5.42), ('1b', 9.28), ('2b', 16.53)])
def test_true_operations_at_the_finetuning_size(arch, teraflop):
    _, true = count_flops(encoder(arch, (1024, 768)), (1024, 768))['backbone']
    assert true / 1e12 == pytest.approx(teraflop, rel=2e-3)


def test_by_hand():
    widths = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16)
    model = encoder(widths, (32, 32))
    tokens = 4
    patch, linear = tokens * 3 * 16 * 16 * 8, tokens * (8 * 24 + 8 * 8 + 2 * 8 * 16)
    attention = 2 * tokens * tokens * 8
    paper, true = count_flops(model, (32, 32))['whole']
    assert paper == patch + linear + 3 * 5 * tokens * 8
    assert true == 2 * (patch + linear + attention)
    assert count_parameters(model) == sum(p.numel() for p in model.parameters())
