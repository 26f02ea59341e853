# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Tiny models with random weights, but clear keypoints, written once a session as users have them: a config, a file."""

import pytest
import torch
from mmengine.config import Config

from sapiens.models import DepthHead, PoseHead
from sapiens.models.heads.frames import map_to_original
from sapiens.registry import MODELS


@MODELS.register_module()
class ClearPoseHead(PoseHead):
    """A pose head whose maps are clear peaks, as a trained one's are, whatever its weights.

    On the maps of random weights the order of sums, which changes with batch size and CPU, decides which of many equal
    peaks is the highest. Here each keypoint has a place of its own, mirrored for its partner, and the image moves it by
    up to a pixel of the heatmap.
    """

    def forward(self, features):
        """``(B, K, h, w)`` Gaussians of height 0.9 to 1."""
        maps = super().forward(features)
        height, width = maps.shape[-2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
        generator = torch.Generator().manual_seed(0)
        place = 0.2 + 0.6 * torch.rand(maps.shape[1], 2, generator=generator)
        mirrored = torch.stack([1 - place[:, 0], place[:, 1]], -1)[self.swap]
        place = (place + mirrored) / 2 * torch.tensor([width - 1.0, height - 1.0])
        weight = maps.float().flatten(2).softmax(-1)
        mean = torch.stack([(weight * grid.flatten()).sum(-1) for grid in (x, y)], -1)
        center = place + (mean - mean.mean(1, keepdim=True)).tanh()
        score = 0.9 + 0.1 * maps.float().amax((2, 3)).sigmoid()
        distance = (x - center[..., 0, None, None]) ** 2 + (y - center[..., 1, None, None]) ** 2
        return score[..., None, None] * torch.exp(-distance / (2 * 1.5**2))


@MODELS.register_module()
class MatteHead(DepthHead):
    """A task of somebody's own: a map that no part of the toolkit knows."""

    def fields(self, values, *frame):
        """``pred_matte`` (1, H, W), and a number of the image."""
        return {'pred_matte': map_to_original(values.sigmoid(), *frame), 'pred_age': values.mean()}


HEADS = dict(
    pose=dict(
        type='ClearPoseHead',
        vocabulary='wholebody133',
        codec=dict(type='UDPHeatmap'),
        deconv_channels=(16, 16),
        conv_channels=(16,),
    ),
    seg=dict(type='PartHead', vocabulary='parts28', deconv_channels=(16,), conv_channels=(16,)),
    depth=dict(type='DepthHead', deconv_channels=(8,), conv_channels=(8,)),
    normal=dict(type='NormalHead', deconv_channels=(8,), conv_channels=(8,)),
    matte=dict(type='MatteHead', deconv_channels=(8,), conv_channels=(8,)),
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
