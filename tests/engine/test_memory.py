"""Memory that is foretold without running, against what the allocator gives out."""

import gc

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from sapiens.engine.config import load_config
from sapiens.engine.memory import _batch, estimate_memory
from sapiens.registry import MODELS, OPTIMIZERS

MIB = 2**20
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
    data = _batch(model, batch_size, None)
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


@pytest.mark.parametrize('training', [True, False], ids=['training', 'inference'])
@pytest.mark.parametrize('name', CONFIGS)
def test_estimates_are_what_the_allocator_gives(name, training):
    config, batch_size = config_of(name), 2
    estimate = estimate_memory(config, batch_size, training, 'fp32', device='cpu')
    m = measured(config, batch_size, training); print(name, training, estimate.peak/MIB, m/MIB, estimate.peak/m)
