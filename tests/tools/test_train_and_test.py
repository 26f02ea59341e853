# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The training and test scripts: what a user types, and what a user mistypes."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
TOY = ROOT / 'tests' / 'engine' / 'toy_config.py'
sys.path.insert(0, str(TOY.parent))

from sapiens.errors import UserError, run_cli  # noqa: E402


def script(name):
    spec = importlib.util.spec_from_file_location(f'tools_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def call(monkeypatch, tmp_path, forget_runs):
    """Call the main function of a script in this process."""

    def call_it(name, *args):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, args)])
        monkeypatch.chdir(tmp_path)
        forget_runs()
        return script(name).main()

    return call_it


def variant(tmp_path, text):
    file = tmp_path / 'variant.py'
    file.write_text(f'_base_ = [{str(TOY)!r}]\n{text}\n')
    return file


# ---------------------------------------------------------------- what works


def test_train_then_test_then_analyze(call, tmp_path, capsys):
    config = variant(tmp_path, 'train_cfg = dict(max_iters=4, val_interval=4)')
    work_dir = tmp_path / 'work'
    call('train', config, '--work-dir', work_dir, '--amp', '--seed', 7)
    last = work_dir / 'iter_4.pth'
    content = torch.load(last, weights_only=True)
    assert content['meta']['seed'] == 7 and 'loss_scaler' in content['optimizer']

    call('test', config, last, '--work-dir', work_dir, '--out', 'result', '--show-dir', 'pictures')
    text = (tmp_path / 'result' / 'metrics.json').read_text()
    metrics = json.loads(text)
    assert 0 < metrics['score'] < 1 and metrics['undefined'] is None and 'NaN' not in text
    arrays = sorted((tmp_path / 'result' / 'predictions').glob('*.npz'))
    pictures = sorted((tmp_path / 'pictures').glob('*.png'))
    assert len(arrays) == len(pictures) == 6
    with np.load(arrays[0], allow_pickle=False) as data:
        assert data['pred_keypoints'].shape == (17, 2) and data['pred_part_map'].shape == (64, 48)
        assert data['pred_normals'].shape == (3, 64, 48)
    assert cv2.imread(str(pictures[0])).shape[1] >= 4 * 48

    capsys.readouterr()
    call('analyze_logs', work_dir, '--out', 'curves.png')
    assert 'work' in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / 'curves.png')) is not None


def test_resume_starts_when_there_is_nothing_to_resume(call, tmp_path):
    config = variant(tmp_path, 'train_cfg = dict(max_iters=2)\ndefault_hooks = dict(checkpoint=dict(interval=1))')
    call('train', config, '--work-dir', 'work', '--resume')
    call('train', config, '--work-dir', 'work', '--resume', '--cfg-options', 'train_cfg.max_iters=3')
    meta = torch.load(tmp_path / 'work' / 'iter_3.pth', weights_only=True)['meta']
    assert meta['iter'] == 3
    # The two runs share the rule to keep the last two.
    assert sorted(p.name for p in (tmp_path / 'work').glob('iter_*')) == ['iter_2.pth', 'iter_3.pth']


def test_load_from_takes_the_encoder_and_says_so(call, tmp_path, capsys):
    config = variant(tmp_path, 'train_cfg = dict(max_iters=1, val_interval=4)')
    call('train', config, '--work-dir', 'first')
    # The encoder alone, in a file without the prefix, as published ones are.
    state = torch.load(tmp_path / 'first' / 'iter_1.pth', weights_only=True)['state_dict']
    encoder = {k[len('backbone.') :]: v for k, v in state.items() if k.startswith('backbone.')}
    torch.save(encoder, tmp_path / 'encoder.pth')
    still = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.0']
    call('train', config, '--work-dir', 'second', *still, f'load_from={tmp_path / "encoder.pth"}')
    after = torch.load(tmp_path / 'second' / 'iter_1.pth', weights_only=True)['state_dict']
    assert all(torch.equal(after[f'backbone.{k}'], v) for k, v in encoder.items())
    log = next((tmp_path / 'second').glob('*/*.log')).read_text()
    assert f'backbone: {len(encoder)} loaded' in log and 'heads.pose: 6 missing' in log

    # The same through init_cfg of the backbone.
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'encoder.pth'))
    config = variant(tmp_path, f'train_cfg = dict(max_iters=1)\nmodel = dict(backbone=dict(init_cfg={init!r}))')
    call('train', config, '--work-dir', 'third', *still)
    after = torch.load(tmp_path / 'third' / 'iter_1.pth', weights_only=True)['state_dict']
    assert all(torch.equal(after[f'backbone.{k}'], v) for k, v in encoder.items())

    # Testing needs every parameter.
    with pytest.raises(UserError, match='parameters of heads.normal are missing'):
        call('test', config, tmp_path / 'encoder.pth', '--work-dir', 'fourth')


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("model = dict(backbone=dict(type='SapiensVit'))", "'SapiensVit' is not a registered .*mean 'SapiensViT'"),
        ('model = dict(backbone=dict(with_pc=True))', "SapiensViT has no argument 'with_pc'; did you mean 'with_cp'"),
        ("custom_hooks = [dict(type='NanGuardHook')]", "did you mean 'NaNGuardHook'"),
        ("train_dataloader = dict(dataset=dict(type='ToyHuman'))", "did you mean 'ToyHumans'"),
        ('x = (', r'variant.py:2: .*never closed'),
        ('x = undefined', "variant.py: .*name 'undefined' is not defined"),
        ("model = dict(heads=dict(pose=dict(vocabulary='coco18')))", "'coco18': did you mean 'coco17'"),
        ("load_from = 'nothing.pth'", 'nothing.pth: no such checkpoint'),
        ('train_dataloader = dict(dataset=dict(size=0))', 'the training data set is empty'),
    ],
)
def test_a_wrong_config_is_one_line(call, tmp_path, capsys, text, message):
    config = variant(tmp_path, text)
    with pytest.raises(SystemExit) as end:
        run_cli(lambda: call('train', config, '--work-dir', 'work'))
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert end.value.code == 1 and len(errors) == 1 and re.search(message, errors[0])


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['configs/pose/sapiens_1b_308kp.py'], "did you mean 'configs/pose/sapiens_1b_308kpt.py'"),
        ([TOY, '--cfg-options', 'trian_cfg.max_iters=2'], "'trian_cfg' is no key of .*did you mean 'train_cfg'"),
        ([TOY, '--resume', 'gone.pth'], '--resume gone.pth: no such checkpoint'),
        ([TOY, '--launcher', 'pytorch'], 'start with tools/dist_train.sh'),
        ([TOY, '--launcher', 'slurm'], 'start with tools/slurm_train.sh'),
        ([TOY, '--fsdp'], '--fsdp shares a model between processes'),
        ([TOY, '--fsdp', '--amp', 'fp16'], '--fsdp works with --amp bf16, not with fp16'),
        ([TOY, '--global-batch', '0'], '--global-batch 0 cannot be divided by 1 processes'),
    ],
)
def test_a_wrong_option_is_one_line(call, args, message, monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=message):
        call('train', *args, '--work-dir', 'work')


def test_compiling_without_a_compiler(call, monkeypatch):
    monkeypatch.setattr('shutil.which', lambda name: None)
    with pytest.raises(UserError, match='--compile needs a C'):
        call('train', TOY, '--compile', '--work-dir', 'work')


def test_compiling_keeps_the_names_of_parameters(call, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self: compiled.append(type(self).__name__))
    monkeypatch.setenv('CXX', sys.executable)
    call('train', variant(tmp_path, 'train_cfg = dict(max_iters=1)'), '--compile', '--work-dir', 'work')
    assert sorted(compiled) == ['NormalHead', 'PartHead', 'PoseHead', 'TransformerLayer', 'TransformerLayer']


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_where_none_is(call):
    with pytest.raises(UserError, match='PyTorch sees no GPU here'):
        call('train', TOY, '--device', 'cuda')


@pytest.mark.parametrize('kind', ['missing', 'text'])
def test_testing_a_checkpoint_that_is_none(call, tmp_path, kind):
    file = tmp_path / 'weights.pth'
    if kind == 'text':
        file.write_text('hello')
    with pytest.raises(UserError, match='weights.pth: '):
        call('test', TOY, file, '--work-dir', 'work')


def test_resuming_another_model_is_refused(call, tmp_path):
    config = variant(tmp_path, 'train_cfg = dict(max_iters=1, val_interval=4)')
    call('train', config, '--work-dir', 'work')
    other = variant(tmp_path, "model = dict(heads=dict(pose=dict(vocabulary='wholebody133')))")
    with pytest.raises(UserError, match=r'has 17 keypoints .coco17., the config expects 133'):
        call('train', other, '--work-dir', 'work', '--resume')
    frozen = variant(tmp_path, 'model = dict(backbone=dict(frozen_layers=1))')
    with pytest.raises(UserError, match='the optimiser now has other parameters'):
        call('train', frozen, '--work-dir', 'work', '--resume')
    weights = tmp_path / 'weights.pth'
    torch.save(torch.load(tmp_path / 'work' / 'iter_1.pth', weights_only=True)['state_dict'], weights)
    with pytest.raises(UserError, match='weights but no training state'):
        call('train', config, '--work-dir', 'work', '--resume', weights)


def test_logs_that_are_none(call, tmp_path):
    with pytest.raises(UserError, match='no log in it'):
        call('analyze_logs', tmp_path)


def test_the_shell_sees_one_line_and_exit_code_1(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / 'tools' / 'train.py', 'no/such/config.py'], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.startswith('error: no/such/config.py: no such config') and done.stderr.count('\n') == 1
    assert not list(tmp_path.iterdir())
