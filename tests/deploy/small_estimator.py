# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A small estimator of all tasks, with random weights."""

import torch

from sapiens.models import HumanEstimator

BACKBONE = dict(
    type='SapiensViT',
    arch=dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=64),
    img_size=(64, 48),
    patch_padding=2,
)
HEADS = dict(
    pose=dict(
        type='PoseHead', vocabulary='coco17', codec=dict(type='UDPHeatmap', sigma=2),
        deconv_channels=(16, 16), conv_channels=(16,),
    ),
    seg=dict(
        type='PartHead', vocabulary='parts28', deconv_channels=(16,), conv_channels=(16,),
        person_first=True, least_region=0.5, with_person=True,
    ),
    depth=dict(type='DepthHead', deconv_channels=(8,), conv_channels=(8,)),
    normal=dict(type='NormalHead', deconv_channels=(8,), conv_channels=(8,)),
)  # fmt: skip


def estimator(keypoints='coco17'):
    torch.manual_seed(0)
    model = HumanEstimator(BACKBONE, {**HEADS, 'pose': {**HEADS['pose'], 'vocabulary': keypoints}})
    for head in model.heads.values():
        torch.nn.init.normal_(head.final_layer.weight, std=0.3)
    return model.requires_grad_(False).eval()
