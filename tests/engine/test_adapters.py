# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Published checkpoints: recognised, loaded whole, converted both ways bit for bit, and refused with the reason."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sapiens.engine import checkpoint
from sapiens.engine.adapters import to_ours, to_published
from sapiens.engine.checkpoint import CheckpointError, fit_state_dict, load_model_weights, read_checkpoint
from sapiens.engine.convert import build_on_meta, convert_checkpoint
from sapiens.engine.layouts import recognise, task_of_name
from sapiens.registry import MODELS
from sapiens.vocabularies import load_keypoints

ROOT = Path(__file__).parents[2]
LAYOUTS = json.loads((ROOT / 'tests/data/published_layouts.json').read_text())
TINY = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)


def published_state(name):
    """Zeros in the shapes of a published model; they share one number's memory."""
    layout, zero = LAYOUTS[name], torch.zeros(())
    blocks = {'backbone.layers': layout['layers'], 'neck.decoder_blocks': 8}
    state = {}
    for key, shape in layout['keys'].items():
        owner = key.partition('.*')[0]
        for i in range(blocks[owner] if '*' in key else 1):
            state[key.replace('*', str(i))] = zero.expand(shape)
    return state


def matching_config(name):
    size, kind = re.fullmatch(r'sapiens_([\d.]+b)_(\w+)', name).groups()
    if kind == 'pretrain':
        return f'configs/pretrain/sapiens_{size}_mae.py'
    if kind.startswith('pose'):
        return f'configs/pose/sapiens_{size}_{kind[4:]}kpt.py'
    if kind.startswith('seg'):
        return f'configs/seg/sapiens_{size}_{28 if kind.endswith("28") else 20}cls.py'
    task = kind.partition('_')[0]
    return f'configs/{task}/sapiens_{size}_{task}.py'


@pytest.mark.parametrize('name', [n for n in LAYOUTS if 'face19' not in n])
def test_every_published_layout_covers_the_model_of_its_config(name, monkeypatch):
    # Up to two billion zeros would be read one by one; test_files looks for NaN.
    monkeypatch.setattr(checkpoint, 'check_finite', lambda state, source: None)
    state = published_state(name)
    model = build_on_meta(ROOT / matching_config(name))
    fitted, report = fit_state_dict(model, state, source=f'{name}.pth')
    assert report.complete and not report.unexpected and not report.resized
    assert set(fitted) == set(model.state_dict())
    layout = recognise(state, f'{name}.pth')
    assert layout.arch == name.split('_')[1]
    if layout.heads:
        assert layout.patch_padding == LAYOUTS[name]['padding'][0][0] == model.backbone.patch_embed.padding
    assert sum(t.numel() for t in state.values()) == LAYOUTS[name]['parameters']


def test_layout_of_19_face_classes_needs_the_users_vocabulary(tmp_path):
    state = published_state('sapiens_1b_seg_face19')
    with pytest.raises(CheckpointError, match=r'seg head has 19 classes .* expects 28 \(parts28\)'):
        fit_state_dict(build_on_meta(ROOT / 'configs/seg/sapiens_1b_28cls.py'), state)
    vocabulary = tmp_path / 'face19.json'
    vocabulary.write_text(json.dumps({'classes': [{'name': f'class {i}'} for i in range(19)]}))
    config = tmp_path / 'face19.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/seg/sapiens_1b_28cls.py'\n"
        f"model = dict(heads=dict(seg=dict(vocabulary='{vocabulary}')))\n"
    )
    _, report = fit_state_dict(build_on_meta(config), state)
    assert report.complete and not report.unexpected


# ---------------------------------------------------------------- small models


def estimator(task='pose', padding=2, **head):
    kinds = dict(
        pose=dict(
            type='PoseHead',
            vocabulary='coco17',
            codec=dict(type='UDPHeatmap'),
            deconv_channels=(8, 8),
            conv_channels=(8,),
        ),  # fmt: skip
        seg=dict(type='PartHead', vocabulary='parts20', deconv_channels=(8,) * 3, conv_channels=(8,)),
        depth=dict(type='DepthHead', deconv_channels=(8,) * 4, conv_channels=(8,)),
        normal=dict(type='NormalHead', deconv_channels=(8,) * 3, conv_channels=(8,)),
    )
    backbone = dict(type='SapiensViT', arch=TINY, img_size=(64, 48), patch_padding=padding)
    model = MODELS.build(
        dict(type='sapiens.HumanEstimator', backbone=backbone | {'type': 'sapiens.SapiensViT'},
             heads={task: {**kinds[task], **head, 'type': 'sapiens.' + kinds[task]['type']}})
    )  # fmt: skip
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def published(model):
    return to_published({k: v.clone() for k, v in model.state_dict().items()})


def same(a, b):
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


@pytest.mark.parametrize('nested', [True, False])
@pytest.mark.parametrize('prefix', ['', 'module.', 'model.', 'module._orig_mod.'])
def test_prefixes_and_nesting(tmp_path, nested, prefix):
    model, other = estimator(), estimator()
    torch.nn.init.zeros_(other.backbone.pos_embed)
    state = {prefix + k: v for k, v in published(model).items()}
    torch.save({'state_dict': state} if nested else state, tmp_path / 'a.pth')
    report = load_model_weights(other, tmp_path / 'a.pth')
    assert report.complete and same(model.state_dict(), other.state_dict())


@pytest.mark.parametrize('names', ['stripped', 'doubled', 'whole model under backbone.'])
def test_variants_of_the_encoder_prefix(names):
    model, other = estimator(), estimator()
    state = published(model)
    if names == 'stripped':
        state = {k.removeprefix('backbone.'): v for k, v in state.items()}
    elif names == 'doubled':
        state = {k.replace('backbone.', 'backbone.backbone.'): v for k, v in state.items()}
    else:
        state = {f'backbone.{k}' if not k.startswith('backbone.') else k: v for k, v in state.items()}
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    assert load_model_weights(other, state).complete
    assert same(model.state_dict(), other.state_dict())


def test_encoder_file_with_cls_row_and_square_grid_starts_finetuning():
    model = estimator()
    encoder = MODELS.build(dict(type='sapiens.SapiensViT', arch=TINY, img_size=(64, 64), with_cls_token=True))
    report = load_model_weights(model, encoder.state_dict(), allow_partial=True)
    assert report.resized == {'backbone.pos_embed': ((4, 4), (4, 3))}
    assert report.unexpected == ['backbone.cls_token'] and all(n.startswith('heads.pose') for n in report.missing)
    assert torch.equal(model.backbone.layers[1].ffn.layers[1].weight, encoder.layers[1].ffn.layers[1].weight)


def test_published_file_in_init_cfg(tmp_path):
    model, other = estimator('normal'), estimator('normal')
    torch.save({'state_dict': published(model)}, tmp_path / 'normal.pth')
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    other.init_cfg = dict(type='sapiens.Pretrained', checkpoint=str(tmp_path / 'normal.pth'))
    other.init_weights()
    assert same(model.state_dict(), other.state_dict())


def test_published_file_in_load_from(tmp_path):
    """Through the runner's own loading, as `load_from` and tools/test.py do."""
    from types import SimpleNamespace

    from sapiens.engine.runner import SapiensRunner

    model, other = estimator('depth', padding=0), estimator('depth', padding=0)
    torch.save({'state_dict': {f'module.{k}': v for k, v in published(model).items()}}, tmp_path / 'depth.pth')
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    runner = SapiensRunner.__new__(SapiensRunner)
    runner.model, runner.cfg, runner._train_loop, runner.optim_wrapper, runner._hooks = other, {}, None, None, []
    runner.logger, runner._resume = SimpleNamespace(info=lambda text: None), False
    runner.load_checkpoint(str(tmp_path / 'depth.pth'))
    assert same(model.state_dict(), other.state_dict())


@pytest.mark.parametrize('task', ['pose', 'seg', 'depth', 'normal'])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_both_directions_bit_for_bit(tmp_path, task, suffix):
    original = published(estimator(task, padding=0 if task == 'depth' else 2))
    name = next(iter(original))
    original[name] = original[name].bfloat16()
    torch.save({'state_dict': original, 'meta': {'epoch': 3}}, tmp_path / f'{task}.pth')
    convert_checkpoint(tmp_path / f'{task}.pth', tmp_path / f'ours{suffix}')
    ours, meta = read_checkpoint(tmp_path / f'ours{suffix}')
    assert f'heads.{task}.final_layer.bias' in ours and meta['epoch'] == 3
    assert meta['sapiens']['patch_padding'] == (0 if task == 'depth' else 2)
    convert_checkpoint(tmp_path / f'ours{suffix}', tmp_path / f'back{suffix}', to='reference')
    back, meta = read_checkpoint(tmp_path / f'back{suffix}')
    assert same(original, back)
    convert_checkpoint(tmp_path / f'back{suffix}', tmp_path / f'again{suffix}')
    assert same(ours, read_checkpoint(tmp_path / f'again{suffix}')[0])


def test_toolkit_layouts_carry_their_metadata(tmp_path):
    torch.save(estimator('pose').state_dict(), tmp_path / 'pose.pth')
    convert_checkpoint(tmp_path / 'pose.pth', tmp_path / 'mmpose.pth', to='mmpose', patch_padding=2)
    state, meta = read_checkpoint(tmp_path / 'mmpose.pth')
    assert 'head.final_layer.weight' in state and meta['dataset_meta']['flip_indices'][1] == 2
    torch.save(estimator('seg').state_dict(), tmp_path / 'seg.pth')
    convert_checkpoint(tmp_path / 'seg.pth', tmp_path / 'mmseg.pth', to='mmseg')
    state, meta = read_checkpoint(tmp_path / 'mmseg.pth')
    assert 'decode_head.conv_seg.weight' in state and meta['dataset_meta']['classes'][2] == 'Hair'
    with pytest.raises(CheckpointError, match='mmseg takes one dense head, this file has pose'):
        convert_checkpoint(tmp_path / 'pose.pth', tmp_path / 'x.pth', to='mmseg')
    with pytest.raises(CheckpointError, match='x.pth: the name of the output must end in .safetensors'):
        convert_checkpoint(tmp_path / 'pose.pth', tmp_path / 'x.pth', to='safetensors')


@pytest.mark.openmmlab
def test_mmpose_loads_what_was_converted_for_it(tmp_path):
    pytest.importorskip('mmpose')
    from mmengine.registry import DefaultScope
    from mmengine.runner import load_checkpoint
    from mmpose.registry import MODELS as MMPOSE_MODELS

    import sapiens.bridges  # noqa: F401

    model = estimator('pose')
    torch.save(model.state_dict(), tmp_path / 'ours.pth')
    convert_checkpoint(tmp_path / 'ours.pth', tmp_path / 'theirs.pth', to='mmpose', patch_padding=2)
    codec = dict(type='UDPHeatmap', input_size=(48, 64), heatmap_size=(12, 16), sigma=2)
    config = dict(
        type='TopdownPoseEstimator',
        backbone=dict(type='sapiens.SapiensViT', arch=TINY, img_size=(64, 48), patch_padding=2),
        head=dict(type='HeatmapHead', in_channels=32, out_channels=17, deconv_out_channels=(8, 8),
                  deconv_kernel_sizes=(4, 4), conv_out_channels=(8,), conv_kernel_sizes=(1,), decoder=codec),
    )  # fmt: skip
    with DefaultScope.overwrite_default_scope('mmpose'):
        theirs = MMPOSE_MODELS.build(config)
    load_checkpoint(theirs, str(tmp_path / 'theirs.pth'), map_location='cpu')
    assert same(theirs.backbone.state_dict(), model.backbone.state_dict())
    # Their head has the same convolutions under the same names (and norms with parameters, where ours have none).
    for name in ('deconv_layers.0.weight', 'deconv_layers.3.weight', 'conv_layers.0.weight', 'final_layer.bias'):
        assert torch.equal(theirs.head.state_dict()[name], model.heads.pose.state_dict()[name])


# ---------------------------------------------------------------- refusals


def test_part_head_of_29_classes_is_refused_with_the_reason():
    state = published(estimator('seg'))
    state['decode_head.conv_seg.weight'] = torch.zeros(29, 8, 1, 1)
    with pytest.raises(CheckpointError, match='29 classes.*eyeglasses are inserted at id 2'):
        load_model_weights(estimator('seg'), state)
    with pytest.raises(CheckpointError, match='29 classes'):
        recognise(state, 'sapiens_1b_seg.pth')


def test_seg_checkpoint_given_to_pose():
    with pytest.raises(CheckpointError, match=r"heads\.pose.*missing.*expected 'heads\.pose"):
        load_model_weights(estimator('pose'), published(estimator('seg')), source='seg.pth')


def test_other_vocabulary_names_expected_and_found():
    with pytest.raises(CheckpointError, match=r'has 17 keypoints \(coco17\), the config expects 133 \(wholebody133\)'):
        load_model_weights(estimator('pose', vocabulary='wholebody133'), published(estimator('pose')))
    # As many classes of another meaning: the file's own note tells.
    note = {'sapiens': {'vocabularies': {'parts': {'name': 'my20'}}}}
    with pytest.raises(CheckpointError, match=r'\(my20\), the config expects 20 \(parts20\)'):
        fit_state_dict(estimator('seg'), estimator('seg').state_dict(), note)


def test_a_vocabulary_is_what_it_names_and_not_what_it_is_called():
    """Points that were reordered in a user's file, whose name stays, were scored and drawn in the wrong order."""
    names = load_keypoints('coco17').names
    state = estimator('pose').state_dict()

    def note(names, name='coco17'):
        document = {'name': name, 'kind': 'keypoints', 'keypoints': [{'name': n} for n in names]}
        return {'sapiens': {'vocabularies': {'keypoints': document}}}

    with pytest.raises(CheckpointError, match=r'the config expects 17 \(coco17\): number 0 is right_ankle there, nose'):
        fit_state_dict(estimator('pose'), state, note(names[::-1]))
    fit_state_dict(estimator('pose'), state, note(names[::-1]), skip='heads.pose.final_layer.')
    fit_state_dict(estimator('pose'), state, note([n.replace('_', ' ').title() for n in names], 'my_copy'))


def test_patch_padding_is_checked_where_it_is_known():
    with pytest.raises(CheckpointError, match='trained with patch_padding=2, the config has patch_padding=0'):
        load_model_weights(estimator('pose', padding=0), published(estimator('pose')))
    # An encoder alone starts a model of any padding, as the published models were made.
    bare = {k: v for k, v in published(estimator('pose')).items() if k.startswith('backbone.')}
    load_model_weights(estimator('pose', padding=0), bare, allow_partial=True)


def test_missing_encoder_parameter_stops_also_when_partial():
    state = published(estimator('pose'))
    del state['backbone.layers.1.attn.proj.bias']
    with pytest.raises(CheckpointError, match=r'1 of \d+ parameters of backbone are missing.*attn\.proj\.bias'):
        load_model_weights(estimator('pose'), state, allow_partial=True)


def test_ambiguous_dense_heads_are_not_guessed():
    state = published(estimator('normal'))
    assert recognise(state).heads == {'normal': 3}
    assert 'heads.seg.final_layer.weight' in to_ours(state, 'my_seg_3cls.pth')
    state['decode_head.conv_seg.weight'] = torch.zeros(1, 8, 1, 1)
    with pytest.raises(CheckpointError, match='cannot tell the task of a dense head with 1 output'):
        recognise(state, 'x.pth')


@pytest.mark.parametrize(
    ('name', 'task'),
    [
        ('sapiens_1b_goliath_best_goliath_AP_640.pth', None),
        ('sapiens_0.3b_coco_wholebody_best_coco_wholebody_AP_620.pth', 'pose'),
        ('sapiens_1b_render_people_epoch_88_depth.pth', 'depth'),
        ('sapiens_2b_normal_render_people_epoch_70.pth', 'normal'),
        ('my_28cls.safetensors', 'seg'),
    ],
)
def test_task_of_file_names(name, task):
    assert task_of_name(name) == task


# ---------------------------------------------------------------- tool


@pytest.fixture
def run_tool(capsys, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['convert_checkpoint.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / 'tools/convert_checkpoint.py'), run_name='__main__')
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, end.value.code or 0, out, err)

    return run


def test_tool_converts_says_what_it_is_and_fails_in_one_line(run_tool, tmp_path):
    model = MODELS.build({**load_tiny(), 'type': 'sapiens.HumanEstimator'})
    save_file(published(model), str(tmp_path / 'a.safetensors'))
    config, other = ROOT / 'configs/depth/sapiens_tiny_depth.py', ROOT / 'configs/seg/sapiens_tiny_28cls.py'
    done = run_tool(tmp_path / 'a.safetensors', tmp_path / 'b.pth', '--config', config)
    assert done.returncode == 0, done.stderr
    assert 'encoder tiny, depth (1), patch padding 0' in done.stdout and 'heads.depth' in done.stdout
    _, meta = read_checkpoint(tmp_path / 'b.pth')
    assert meta['sapiens']['patch_padding'] == 0 and meta['sapiens']['img_size'] in ([256, 192], (256, 192))
    wrong = run_tool(tmp_path / 'a.safetensors', tmp_path / 'c.pth', '--config', other)
    assert wrong.returncode == 1 and wrong.stderr.startswith('error: ') and wrong.stderr.count('\n') == 1
    assert not (tmp_path / 'c.pth').exists()
    again = run_tool(tmp_path / 'a.safetensors', tmp_path / 'b.pth')
    assert again.returncode == 1 and 'exists already' in again.stderr


def load_tiny():
    from sapiens.engine.config import load_config

    return load_config(ROOT / 'configs/depth/sapiens_tiny_depth.py').model.to_dict()
