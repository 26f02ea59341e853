# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One policy of precision, for training, validation and testing."""

from argparse import Namespace

import pytest
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.device import utils as device_utils
from torch.utils.data import DataLoader, TensorDataset

from sapiens.apis import Inferencer, load_model
from sapiens.engine import SapiensRunner, precision
from sapiens.engine.cli import prepare, set_precision
from sapiens.engine.loaders import complete_loader
from sapiens.engine.precision import choose_precision, complete_optimizer, precision_of
from sapiens.errors import UserError
from sapiens.structures import HumanDataSample

PROBE = precision.bf16_is_faster_here  # before a fixture of all tests takes its place


@pytest.fixture
def gpu(monkeypatch):
    """``gpu(has_bf16)``: what the policy asks torch about a GPU."""

    def pretend(has_bf16):
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: has_bf16)
        monkeypatch.setattr(precision, 'get_device', lambda: 'cuda')

    return pretend


@pytest.mark.parametrize(
    ('name', 'has_bf16', 'training', 'dtype', 'tf32'),
    [
        ('auto', True, True, torch.bfloat16, True),
        ('auto', True, False, torch.bfloat16, True),
        ('auto', False, True, torch.float32, True),
        ('auto', False, False, torch.float16, True),
        ('fp16', True, True, torch.float16, True),
        ('tf32', True, True, torch.float32, True),
        ('fp32', True, True, torch.float32, False),
        (torch.bfloat16, True, False, torch.bfloat16, True),
    ],
)
def test_on_a_gpu(gpu, name, has_bf16, training, dtype, tf32):
    gpu(has_bf16)
    chosen = choose_precision(name, training=training)
    assert (chosen.dtype, chosen.device, chosen.tf32) == (dtype, 'cuda', tf32)
    assert chosen.is_half == (dtype != torch.float32)


def test_on_a_cpu(monkeypatch):
    assert str(choose_precision('auto', 'cpu')) == 'float32 on cpu'
    assert str(choose_precision('fp16', 'cpu')) == 'bfloat16 (autocast) on cpu'
    for faster, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(precision, 'bf16_is_faster_here', lambda faster=faster: faster)
        assert choose_precision('probe', 'cpu').dtype == dtype
    with pytest.raises(UserError, match="'fp8' is none of auto, probe"):
        choose_precision('fp8')


@pytest.mark.parametrize('flags', [{}, {'architecture': 'x86_64'}, {'architecture': 'x86_64', 'avx512_bf16': True}])
def test_the_probe_believes_flags_and_measures_without(flags, monkeypatch):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: flags, raising=False)
    answer = PROBE.__wrapped__()
    assert isinstance(answer, bool)
    assert not flags or answer == flags.get('avx512_bf16', False)


@pytest.mark.parametrize('faster', [True, False])
def test_inference_takes_bf16_by_itself_where_it_is_faster(faster, monkeypatch):
    monkeypatch.setattr(precision, 'bf16_is_faster_here', lambda: faster)
    loaded = load_model('tiny')
    assert Inferencer(loaded, device='cpu').dtype == (torch.bfloat16 if faster else torch.float32)
    assert Inferencer(loaded, device='cpu', dtype='float32').dtype == torch.float32
    assert choose_precision('auto', 'cpu').dtype == torch.float32  # tests and training: the same numbers everywhere


def test_what_the_optimiser_becomes(gpu):
    gpu(True)
    own = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
    wrapper = complete_optimizer(own, choose_precision('auto'))
    assert wrapper['type'].endswith('MixedPrecisionOptimWrapper') and wrapper['dtype'] == 'bfloat16'
    assert wrapper['optimizer']['fused'] is True and 'fused' not in own['optimizer']
    exact = complete_optimizer(own, choose_precision('fp32'))
    assert exact['dtype'] == 'float32' and exact['optimizer']['fused'] is True
    for changes in (dict(fused=False), dict(foreach=True), dict(type='SGD')):
        kept = {**own['optimizer'], **changes}
        assert complete_optimizer({**own, 'optimizer': kept}, choose_precision('auto'))['optimizer'] == kept
    assert complete_optimizer(own, choose_precision('auto', 'cpu')) == own
    assert complete_optimizer({**own, 'type': 'Other'}, choose_precision('auto'))['type'] == 'Other'


def test_the_wrapper_of_a_config_counts_and_an_option_wins():
    config = Config(dict(optim_wrapper=dict(type='MixedPrecisionOptimWrapper', dtype='fp16'), precision='auto'))
    assert precision_of(config) == 'fp16'
    assert precision_of(dict(optim_wrapper=dict(type='AmpOptimWrapper', loss_scale='dynamic'))) == 'fp16'
    assert precision_of({}) == 'auto'
    set_precision(config, 'fp32')
    assert precision_of(config) == 'fp32' and config.optim_wrapper == dict(type='OptimWrapper')
    config.optim_wrapper.type = 'OptimWrapperOfMine'
    with pytest.raises(UserError, match=r'does not know how to change optim_wrapper.type=OptimWrapperOfMine'):
        set_precision(config, 'bf16')


@pytest.mark.parametrize('name', ['bf16', 'auto'])
@pytest.mark.usefixtures('on_cpu')
def test_validation_and_testing_run_in_the_precision_of_training(toy_config, tmp_path, name):
    """Validation was fp32 under --amp, and testing always."""
    seen = {}
    toy_config.precision = name
    toy_config.train_cfg.update(max_iters=1, val_interval=1)
    toy_config.work_dir = str(tmp_path)
    for phase in ('train', 'test'):
        toy_config.experiment_name = f'{name}_{phase}'
        runner = SapiensRunner.from_cfg(toy_config)
        layers = [runner.bare_model.backbone.layers[0].attn.qkv]
        layers += [head.final_layer for head in runner.bare_model.heads.values()]
        for layer in layers:
            layer.register_forward_hook(
                lambda module, args, output, phase=phase: seen.setdefault((phase, module.training), set()).add(
                    output.dtype
                )
            )
        getattr(runner, phase)()
        assert str(runner.precision).startswith('bfloat16 (autocast) on' if name == 'bf16' else 'float32 on')
    kinds = {torch.bfloat16, torch.float32} if name == 'bf16' else {torch.float32}
    assert seen == {('train', True): kinds, ('train', False): kinds, ('test', False): kinds}


def test_loaders(monkeypatch):
    """Case 24: no workers and the persistent ones of a base config."""
    cfg = dict(batch_size=2, num_workers=0, persistent_workers=True, prefetch_factor=4, sampler=None)
    monkeypatch.setattr(device_utils, 'DEVICE', 'cuda')
    assert complete_loader(cfg) == dict(batch_size=2, num_workers=0, sampler=None, pin_memory=True)
    assert complete_loader({**cfg, 'pin_memory': False})['pin_memory'] is False
    assert complete_loader({**cfg, 'num_workers': 2})['persistent_workers'] is True
    loader = DataLoader(TensorDataset(torch.zeros(2)))
    assert complete_loader(loader) is loader


@pytest.mark.parametrize('kind', ['cuda', 'mps'])
def test_device_cpu_is_the_cpu_where_there_is_more(monkeypatch, kind):
    monkeypatch.setattr(device_utils, 'DEVICE', kind)  # as mmengine finds it when it is imported
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    config = 'configs/depth/sapiens_tiny_depth.py'
    prepare(Namespace(device='cpu', local_rank=0, config=config, cfg_options={}, launcher='none', work_dir=None,
                      precision=None))  # fmt: skip
    assert get_device() == choose_precision().device == 'cpu'
    assert complete_loader(dict(batch_size=2))['pin_memory'] is False


def test_labels_are_pinned_with_the_images(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, 'pin_memory', lambda self: pinned.append(self.shape) or self)
    sample = HumanDataSample(metainfo=dict(img_path='a.jpg'))
    sample.gt_depth, sample.note = torch.ones(1, 4, 4), 'text'
    assert torch.utils.data._utils.pin_memory.pin_memory([sample])[0] is sample
    assert pinned == [(1, 4, 4)]


def test_training_without_workers(toy_config, train):
    for loader in (toy_config.train_dataloader, toy_config.val_dataloader):
        loader.update(num_workers=0, persistent_workers=True, prefetch_factor=2)
    toy_config.train_cfg.update(max_iters=1, val_interval=1)
    train(toy_config)
