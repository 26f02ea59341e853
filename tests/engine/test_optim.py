# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Layer-wise decay of learning rates, and mixed precision."""

import copy
import json
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from sapiens.engine import LayerDecayOptimWrapperConstructor, MixedPrecisionOptimWrapper
from sapiens.errors import UserError
from sapiens.models import HumanEstimator, MAEPretrainer, SapiensViT
from sapiens.openmmlab import prepare_toolkit
from sapiens.registry import MODELS

# Published numbers: parameter -> [lr scale, lr, weight decay].
PUBLISHED = json.loads((Path(__file__).parents[1] / 'data' / 'param_groups.json').read_text())
TINY = dict(embed_dims=64, num_layers=2, num_heads=4, feedforward_channels=256)


def optim_cfg(lr=5e-4, weight_decay=0.1, rate=0.85, **kwargs):
    return dict(
        constructor='sapiens.LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=rate),
        optimizer=dict(type='AdamW', lr=lr, weight_decay=weight_decay),
        **kwargs,
    )


def settings(wrapper):
    """Parameter name -> (lr scale, lr, weight decay) in the optimiser."""
    return {
        name: (group['lr_scale'], group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for name in group['param_names']
    }


def our_name(name):
    name = name.replace('decode_head.conv_seg.', 'heads.seg.final_layer.').replace('decode_head.', 'heads.seg.')
    return 'heads.pose.' + name[len('head.') :] if name.startswith('head.') else name


def estimator(case):
    backbone = dict(type='SapiensViT', arch='0.3b' if '0.3b' in case else TINY, img_size=(128, 96))
    head = dict(deconv_channels=(8, 8), conv_channels=(8, 8), vocabulary='coco17')
    if case.startswith('seg'):
        head = dict(deconv_channels=(8, 8, 8), conv_channels=(8, 8, 8), vocabulary='parts20')
        return HumanEstimator(backbone, dict(seg=dict(type='PartHead', **head)))
    return HumanEstimator(backbone, dict(pose=dict(type='PoseHead', codec=dict(type='UDPHeatmap'), **head)))


@pytest.mark.parametrize('case', ['pose', 'seg', 'pose308_0.3b'])
def test_published_groups_are_met(case):
    with torch.device('meta'):
        model = estimator(case)
    want = {our_name(name): values for name, values in PUBLISHED[case].items()}
    lr = 5e-5 if '0.3b' in case else 5e-4
    got = settings(build_optim_wrapper(model, optim_cfg(lr)))
    assert set(got) == set(want)
    for name, values in want.items():
        assert got[name] == pytest.approx(values, rel=1e-9), name


def test_published_mae_decay_is_met():
    with torch.device('meta'):
        model = MAEPretrainer(
            dict(type='SapiensViT', arch='0.3b', img_size=(256, 256)), dict(type='MAEDecoder', num_heads=16)
        )
    got = settings(build_optim_wrapper(model, optim_cfg(2.4e-3, 0.05, rate=1.0)))
    frozen = {'backbone.pos_embed', 'neck.decoder_pos_embed'}
    want = PUBLISHED['mae_0.3b']
    assert set(got) == set(want) - frozen
    for name, (scale, lr, weight_decay) in got.items():
        assert (scale, lr, weight_decay) == (1.0, pytest.approx(want[name][1]), want[name][2]), name


@pytest.mark.parametrize('wrap', ['bare encoder', 'encoder elsewhere', 'wrapped'])
def test_the_encoder_is_found_wherever_it_is(wrap):
    encoder = SapiensViT(TINY, (64, 48))
    model, prefix = {
        'bare encoder': lambda: (encoder, ''),
        'encoder elsewhere': lambda: (nn.ModuleDict({'teacher': encoder, 'x': nn.Linear(2, 2)}), 'teacher.'),
        'wrapped': lambda: (nn.Sequential(encoder), '0.'),
    }[wrap]()
    got = settings(build_optim_wrapper(model, optim_cfg()))
    scales = [got[f'{prefix}{name}'][0] for name in ('pos_embed', 'layers.0.attn.qkv.weight', 'layers.1.ln1.bias')]
    assert scales == pytest.approx([0.85**3, 0.85**2, 0.85])
    assert got[f'{prefix}ln1.weight'][0] == 1.0
    if 'elsewhere' in wrap:
        assert got['x.weight'] == (1.0, 5e-4, 0.1) and got['x.bias'] == (1.0, 5e-4, 0.0)


def test_frozen_parameters_are_left_out():
    model = SapiensViT(TINY, (64, 48), frozen_layers=1)
    got = settings(build_optim_wrapper(model, optim_cfg()))
    assert not any(name.startswith(('layers.0.', 'patch_embed', 'pos_embed')) for name in got)
    assert 'layers.1.ln1.weight' in got


@pytest.mark.parametrize(
    ('paramwise', 'message'),
    [
        (dict(layer_decay_rat=0.8), "unknown key 'layer_decay_rat'"),
        (dict(norm_decay_mult=0.5), "unknown key 'norm_decay_mult'.*constructor='DefaultOptimWrapperConstructor'"),
        (dict(custom_keys={'head': 10}), r"custom_keys\['head'\] is 10; give dict\(lr_mult"),
        (dict(layer_decay_rate=1.5), 'layer_decay_rate is 1.5; give a number above 0 and at most 1'),
        (dict(layer_decay_rate=0.85, num_layers=24), "num_layers is 24, but '' has 2 layers"),
    ],
)
def test_wrong_settings_are_refused(paramwise, message):
    cfg = dict(optimizer=dict(type='AdamW', lr=1e-3))
    with pytest.raises(UserError, match=message):
        LayerDecayOptimWrapperConstructor(cfg, paramwise)(SapiensViT(TINY, (64, 48)))


def test_custom_keys_are_those_of_mmengine():
    """As in the configs that people port: the longest part of a name that fits decides."""
    model = estimator('pose')
    keys = {'head': dict(lr_mult=10.0), 'heads.pose.final': dict(lr_mult=2.0, decay_mult=0.5), 'ln': {}}
    keys |= {'pos_embed': dict(decay_mult=0.0), 'bias': dict(decay_multi=0.0), 'projection': dict(decay_mult=3.0)}
    config = optim_cfg(rate=1.0)
    config['paramwise_cfg'].update(custom_keys=keys, norm_decay_mult=0.0, bypass_duplicate=True)
    ours = settings(build_optim_wrapper(model, config))
    theirs = copy.deepcopy(config)
    del theirs['constructor'], theirs['paramwise_cfg']['layer_decay_rate']
    theirs['paramwise_cfg'].update(bias_decay_mult=0.0, flat_decay_mult=0.0)
    keys['bias'] = dict(decay_mult=0.0)
    groups = {id(p): g for g in build_optim_wrapper(model, theirs).optimizer.param_groups for p in g['params']}
    for name, parameter in model.named_parameters():
        group = groups[id(parameter)]
        if parameter.ndim > 1:
            assert ours[name][1:] == (pytest.approx(group['lr']), pytest.approx(group['weight_decay'])), name
    assert len({lr for _, lr, _ in ours.values()}) == 3 and ours['heads.pose.final_layer.bias'][2] == 0


def test_the_config_stays_as_it_is_and_serves_again():
    model, config = SapiensViT(TINY, (64, 48)), dict(optimizer=dict(type='AdamW', lr=1e-3, betas=[0.9, 0.99]))
    before = copy.deepcopy(config)
    constructor = LayerDecayOptimWrapperConstructor(config, dict(layer_decay_rate=0.85))
    assert settings(constructor(model)) == settings(constructor(model))
    assert config == before


def test_a_model_without_encoder_is_refused_unless_nothing_decays():
    with pytest.raises(UserError, match='has none'):
        build_optim_wrapper(nn.Linear(2, 2), optim_cfg())
    assert settings(build_optim_wrapper(nn.Linear(2, 2), optim_cfg(rate=1.0)))['weight'] == (1.0, 5e-4, 0.1)


@pytest.mark.openmmlab
@pytest.mark.parametrize('toolkit', ['mmpose', 'mmseg', 'mmpretrain'])
def test_from_a_config_of_another_toolkit(toolkit):
    pytest.importorskip(toolkit)
    from mmengine.registry import DefaultScope, init_default_scope

    init_default_scope('sapiens')
    backbone = dict(type='sapiens.SapiensViT', arch=TINY, img_size=(64, 48))
    config = {
        'mmpose': dict(
            type='mmpose.TopdownPoseEstimator',
            backbone=backbone,
            head=dict(
                type='mmpose.HeatmapHead',
                in_channels=64,
                out_channels=5,
                deconv_out_channels=(8,),
                deconv_kernel_sizes=(4,),
                loss=dict(type='mmpose.KeypointMSELoss'),
                decoder=dict(type='mmpose.UDPHeatmap', input_size=(48, 64), heatmap_size=(6, 8), sigma=2),
            ),
        ),
        'mmseg': dict(
            type='mmseg.EncoderDecoder',
            backbone=backbone,
            decode_head=dict(
                type='mmseg.FCNHead', in_channels=64, channels=8, num_classes=3, in_index=0, norm_cfg=dict(type='BN')
            ),
        ),
        'mmpretrain': dict(
            type='mmpretrain.ImageClassifier',
            backbone={**backbone, 'with_cls_token': True, 'out_type': 'cls_token'},
            head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=64),
        ),
    }[toolkit]
    prepare_toolkit(toolkit)
    with DefaultScope.overwrite_default_scope(toolkit):
        model = MODELS.build(config)
        got = settings(build_optim_wrapper(model, optim_cfg()))
    assert got['backbone.pos_embed'][::2] == (pytest.approx(0.85**3), 0.0)
    assert got['backbone.layers.1.attn.qkv.weight'][::2] == (pytest.approx(0.85), 0.1)
    assert {v[0] for k, v in got.items() if not k.startswith('backbone.')} == {1.0}


# ---------------------------------------------------------------- mixed precision


def amp(dtype, model, **kwargs):
    return MixedPrecisionOptimWrapper(dtype=dtype, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **kwargs)


@pytest.mark.parametrize('dtype', ['bf16', 'fp16'])
@pytest.mark.usefixtures('on_cpu')
def test_autocast_on_a_cpu_is_bf16_and_keeps_weights_in_fp32(dtype):
    model = nn.Linear(4, 4)
    wrapper = amp(dtype, model, clip_grad=dict(max_norm=1.0))
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        out = model(torch.ones(2, 4))
    assert out.dtype == torch.bfloat16
    wrapper.update_params(out.float().square().sum())
    assert model.weight.dtype == torch.float32 and not torch.equal(before, model.weight)


def test_mixed_precision_state_survives():
    model = nn.Linear(4, 4)
    state = amp('bf16', model).state_dict()
    assert 'loss_scaler' in state
    amp('bf16', model).load_state_dict(state)
    plain = {key: value for key, value in state.items() if key != 'loss_scaler'}
    amp('bf16', model).load_state_dict(plain)


def test_unknown_precision():
    with pytest.raises(UserError, match="'bf16' or 'fp16', not 'fp8'"):
        amp('fp8', nn.Linear(2, 2))
