"""Memory that is foretold without running, against what the allocator gives out."""

import gc

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from sapiens.commands.estimate_memory import main
from sapiens.engine.config import load_config
from sapiens.engine.memory import estimate_memory
from sapiens.errors import UserError
from sapiens.models.complexity import example_batch
from sapiens.registry import MODELS, OPTIMIZERS

CONFIGS = {
    'pose': 'pose/sapiens_tiny_308kpt',
    'all tasks': 'multitask/sapiens_tiny_4tasks_128x96',
    'MAE': 'pretrain/sapiens_tiny_mae',
}


def config_of(name, **options):
    return load_config(f'configs/{CONFIGS[name]}.py', options)


def allocated(run):
    """Peak of what the CPU's allocator gave out and did not get back."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        run()
    now = peak = 0
    for event in sorted(prof.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == '[memory]':
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def measured(config, batch_size, training):
    torch.manual_seed(0)
    model = MODELS.build(config.model).train(training)
    data = example_batch(model, batch_size)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = OPTIMIZERS.build({**config.optim_wrapper.optimizer, 'params': trained})

    def step():
        if training:
            losses = model(**model.data_preprocessor(data, True), mode='loss')
            model.parse_losses(losses)[0].backward()
        else:
            with torch.no_grad():
                model(model.data_preprocessor({'inputs': data['inputs']})['inputs'])

    step()
    if training:
        optimizer.step()
    optimizer.zero_grad()
    kept = [*model.parameters(), *(v for s in optimizer.state.values() for v in s.values())]
    return allocated(step) + sum(t.untyped_storage().nbytes() for t in kept)


@pytest.mark.parametrize(
    ('name', 'training'),
    [
        ('pose', True),
        pytest.param('all tasks', True, marks=pytest.mark.slow),
        pytest.param('MAE', True, marks=pytest.mark.slow),
        ('MAE', False),
        pytest.param('pose', False, marks=pytest.mark.slow),
        pytest.param('all tasks', False, marks=pytest.mark.slow),
    ],
)
def test_estimates_are_what_the_allocator_gives(name, training):
    config, batch_size = config_of(name), 2
    estimate = estimate_memory(config, batch_size, training, 'fp32', device='cpu')
    assert estimate.peak == pytest.approx(measured(config, batch_size, training), rel=0.1)


@pytest.mark.slow
def test_checkpointing_freezing_and_sharding_count():
    config = config_of('pose')
    whole = estimate_memory(config, 2)
    config.model.backbone.with_cp = True
    again = estimate_memory(config, 2)
    config.model.backbone.with_cp = 2
    half = estimate_memory(config, 2)
    assert half.layers['backbone.layers.2'] == again.layers['backbone.layers.2']
    assert half.layers['backbone.layers.3'] == whole.layers['backbone.layers.3']
    assert again.peak < half.peak < whole.peak
    config.model.backbone.with_cp = True
    config.model.backbone.frozen_layers = 6
    frozen = estimate_memory(config, 2)
    assert again.layers['backbone.layers.3'] < 0.2 * whole.layers['backbone.layers.3']
    assert 'backbone.layers.3' not in frozen.layers and frozen.trainable < again.trainable == again.total
    shared = estimate_memory(config_of('pose'), 2, fsdp=4)
    for part in ('parameters', 'optimiser'):
        assert 4 * shared.parts[part] == pytest.approx(whole.parts[part])
    assert whole.parts['optimiser'] == 2 * whole.parts['parameters'] == 8 * whole.total


@pytest.mark.slow
def test_the_command_prints_a_row_for_each_way_to_train(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    command = ['', 'configs/pose/sapiens_tiny_17kpt.py', '--batch-size', '1', '--layers', '--shape', '64', '48']
    options = ['--cfg-options', 'model.backbone.img_size=(64,48)', '--gpu-memory', '1']
    monkeypatch.setattr('sys.argv', command + options)
    main()
    shown = capsys.readouterr().out
    for text in (
        'inference',
        'finetune, checkpointing',
        'finetune, every 2nd layer',
        'heads alone',
        'backbone.layers.0',
        'losses',
    ):
        assert text in shown


TINY = 'configs/seg/sapiens_tiny_28cls.py'


@pytest.mark.parametrize(
    'options',
    [
        [], ['x.py', '--grid'], ['x.py', '--fsdp', '0'], ['no_such.py'], ['configs/curation/humans.py'],
        [TINY, '--cfg-options', 'train_dataloader.batch_size=0'],
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(options, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['', *options])
    with pytest.raises((SystemExit, UserError)):
        main()
