# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Tiny models with random weights, written once for a session as users have them: a config and a checkpoint."""

import pytest
import torch
from mmengine.config import Config

from sapiens.registry import MODELS

HEADS = dict(
    pose=dict(
        type='PoseHead',
        vocabulary='wholebody133',
        codec=dict(type='UDPHeatmap'),
        deconv_channels=(16, 16),
        conv_channels=(16,),
    ),
    seg=dict(type='PartHead', vocabulary='parts28', deconv_channels=(16,), conv_channels=(16,)),
    depth=dict(type='DepthHead', deconv_channels=(8,), conv_channels=(8,)),
    normal=dict(type='NormalHead', deconv_channels=(8,), conv_channels=(8,)),
)
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


@pytest.fixture(scope='session')
def make_model(tmp_path_factory):
    """``make(*tasks) -> (config file, checkpoint)``; the same model for the same tasks."""
    folder, made = tmp_path_factory.mktemp('models'), {}

    def make(*tasks):
        if tasks not in made:
            stem = '_'.join(tasks)
            model = dict(
                type='HumanEstimator',
                backbone=dict(type='SapiensViT', arch=ARCH, img_size=(64, 48), patch_padding=2),
                heads={task: HEADS[task] for task in tasks},
                test_cfg=dict(flip_test='pose' in tasks),
            )
            config = Config(dict(default_scope='sapiens', model=model))
            config.dump(str(folder / f'{stem}.py'))
            torch.manual_seed(len(stem))
            network = MODELS.build({**model, 'type': 'sapiens.HumanEstimator', '_scope_': 'sapiens'})
            for name, parameter in network.named_parameters():
                if 'weight' in name and parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
            torch.save({'state_dict': network.state_dict()}, folder / f'{stem}.pth')
            made[tasks] = (folder / f'{stem}.py', folder / f'{stem}.pth')
        return made[tasks]

    return make
