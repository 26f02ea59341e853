# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""One size and task of `gpu.py`, in a process of its own: a line of JSON for each row, measured as it comes."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from torch import nn

from sapiens.engine.config import load_config
from sapiens.engine.memory import estimate_memory
from sapiens.engine.precision import MixedPrecisionOptimWrapper
from sapiens.engine.sharding import repeated_layers
from sapiens.models.complexity import count_flops, count_training_flops, example_batch
from sapiens.models.randomness import ChannelDropout
from sapiens.registry import MODELS

CONFIGS = {'pose': 'pose/sapiens_{}_308kpt', 'seg': 'seg/sapiens_{}_28cls', 'depth': 'depth/sapiens_{}_depth',
           'normal': 'normal/sapiens_{}_normal', 'mae': 'pretrain/sapiens_{}_mae'}  # fmt: skip
INFERENCE = ('eager', 'compiled', 'graph', 'compiled graph', 'fp8 compiled')
TRAINING = ('eager', 'compiled')
# Images of the first try; half as many where memory runs out.
BATCHES = {
    'inference': dict.fromkeys(('0.3b', '0.6b', '1b', '2b'), 32),
    'finetune': {'0.3b': 16, '0.6b': 16, '1b': 8, '2b': 4},
    'pretrain': {'0.3b': 64, '0.6b': 32, '1b': 32, '2b': 16},
}


class Clock:
    """Seconds of a function on a device."""

    about = 3.0
    """Seconds that one row is measured."""

    def __init__(self, device: str) -> None:
        self.device = device

    def wait(self) -> None:
        """Until the device has done all."""
        if self.device == 'cuda':
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], Any], warm_up: int = 3) -> float:
        """Median of calls for `about` so long, after some that do not count."""
        for _ in range(warm_up if self.device == 'cuda' else 1):
            run()
        self.wait()
        times: list[float] = []
        while sum(times) < self.about and len(times) < 200 or len(times) < 3:
            start = time.perf_counter()
            run()
            self.wait()
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]


def build(config: Any, device: str) -> nn.Module:
    """The model with random weights, on the device, and random numbers from their beginning."""
    torch.manual_seed(0)
    with torch.device(device):
        model = MODELS.build(config.model).to(device)
    for module in model.modules():
        if isinstance(module, ChannelDropout):
            module.p = 0.0  # a compiler draws other numbers, and results could not be compared
    return model


def compile_layers(model: nn.Module) -> None:
    """As ``compile=True`` of the runner: each transformer layer and each head."""
    torch._dynamo.config.recompile_limit = 200
    for unit in (*repeated_layers(model), *getattr(model, 'heads', {}).values()):
        unit.compile()


def graphed(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """A CUDA graph of a function that always reads and writes the same memory."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()

    def replay() -> torch.Tensor:
        graph.replay()
        return output

    return replay


def infer(config: Any, variant: str, batch_size: int, device: str) -> Iterator[dict[str, Any]]:
    """Time the network alone, and for eager code the whole way to results on the host."""
    if 'graph' in variant and device != 'cuda':
        raise Skipped('CUDA graphs need a CUDA GPU')
    if 'fp8' in variant and (device != 'cuda' or torch.cuda.get_device_capability() < (8, 9)):
        raise Skipped('FP8 needs a GPU of compute capability 8.9 or more')
    model = build(config, device).eval()
    dtype = torch.bfloat16 if device == 'cuda' else torch.float32
    model.set_precision(dtype)
    height, width = model.backbone.img_size
    with torch.inference_mode():
        inputs = torch.randn(batch_size, 3, height, width, device=device).to(dtype)
        (expected,) = model.outputs(inputs[:1]).values()
        expected = expected.clone()
        if 'fp8' in variant:
            quantise_fp8(model)
        if 'compiled' in variant:
            compile_layers(model)

        def run() -> torch.Tensor:
            return next(iter(model.outputs(inputs).values()))

        # Warm first: graphs cannot hold the compiler's work.
        found = run()[:1]
        call = graphed(run) if 'graph' in variant else run
        found = call()[:1]
        difference = float((found - expected).norm() / expected.norm())
        clock = Clock(device)
        if device == 'cuda':
            torch.cuda.reset_peak_memory_stats()
        yield dict(seconds=clock.seconds(call), difference=difference)
        if variant == 'eager':
            model.test_cfg['flip_test'] = False  # one look, as above
            yield dict(variant='eager, to results', seconds=clock.seconds(lambda: model.predict(inputs), 1))


def quantise_fp8(model: nn.Module) -> None:
    """Weights and activations of the transformer layers in FP8."""
    try:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, quantize_
    except ImportError:
        raise Skipped('FP8 needs torchao (pip install torchao)') from None
    quantize_(model.backbone.layers, Float8DynamicActivationFloat8WeightConfig())


def train(config: Any, variant: str, batch_size: int, device: str) -> Iterator[dict[str, Any]]:
    """Time a whole step: forward, backward, clipping, optimiser."""
    with torch.device(device):
        data = example_batch(build(config, 'meta'), batch_size)

    def trainer(compiled: bool) -> Callable[[], Any]:
        model = build(config, device).train()
        if compiled:
            compile_layers(model)
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=device == 'cuda')
        dtype = 'bf16' if device == 'cuda' else 'fp32'
        wrapper = MixedPrecisionOptimWrapper(dtype, optimizer=optimizer, clip_grad=dict(max_norm=1.0))
        return lambda: model.train_step(data, wrapper)

    step = trainer(compiled=False)
    expected = [float(step()['loss']) for _ in range(2)]
    found = expected
    if variant == 'compiled':
        del step
        gc.collect()
        step = trainer(compiled=True)
        found = [float(step()['loss']) for _ in range(2)]
    difference = max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(found, expected, strict=True))
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    yield dict(seconds=Clock(device).seconds(step, 2), difference=difference)


class Skipped(Exception):
    """A variant that this machine has not."""


def work(job: dict[str, Any]) -> None:
    """Measure the variants of a job, one line of JSON for each row."""
    device, mode = job['device'], job['mode']
    Clock.about = job['seconds']
    if device == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.set_autocast_dtype('cuda', torch.bfloat16)
    config = load_config(str(ROOT / 'configs' / (CONFIGS[job['task']].format(job['size']) + '.py')))
    shape = config.model.backbone.get('img_size', (1024, 768))
    model = build(config, 'meta')
    if mode == 'inference':
        flops = count_flops(model, model.backbone.img_size)['whole'][1]
    else:
        flops = count_training_flops(model)
    del model
    measure = infer if mode == 'inference' else train
    start = BATCHES[mode].get(job['size'], 2)
    for variant in INFERENCE if mode == 'inference' else TRAINING:
        batch_size = job['batch_size'] or start
        while True:
            full = False
            row = dict(mode=mode, size=job['size'], task=job['task'], variant=variant, batch=batch_size)
            try:
                for found in measure(config, variant, batch_size, device):
                    rate = batch_size / found['seconds']
                    row = {**row, **found, 'images_per_s': rate, 'tflops': flops * rate / 1e12}
                    if device == 'cuda':
                        row['peak_gib'] = torch.cuda.max_memory_allocated() / 2**30
                        row['reserved_gib'] = torch.cuda.max_memory_reserved() / 2**30
                    say(row)
            except Skipped as reason:
                say({**row, 'note': f'skipped: {reason}'})
            except torch.cuda.OutOfMemoryError:
                full = True  # what the exception holds is free only behind this block
            except Exception as error:  # whatever a compiler or library raises costs this row alone
                say({**row, 'note': f'{type(error).__name__}: {str(error).strip().splitlines()[0][:150]}'})
            free()
            if not full:
                break
            if batch_size == 1:
                say({**row, 'note': 'out of memory at batch 1'})
                break
            batch_size //= 2
    # Last, since it needs no GPU and rows above are worth more.
    dtype = 'bf16' if device == 'cuda' else 'fp32'
    batch_size = job['batch_size'] or start
    estimate = estimate_memory(config, batch_size, mode != 'inference', dtype, device=device)
    say(dict(job='estimate', mode=mode, size=job['size'], task=job['task'], batch=batch_size, gib=estimate.peak / 2**30,
             shape=list(shape) if not isinstance(shape, int) else [shape, shape]))  # fmt: skip


def free() -> None:
    """Give back what the last row held."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def say(row: dict[str, Any]) -> None:
    """To the process that collects rows."""
    print('ROW ' + json.dumps(row), flush=True)


if __name__ == '__main__':
    work(json.loads(sys.argv[1]))
