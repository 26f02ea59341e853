# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Speed and memory of all sizes and tasks on the GPU that there is, the most telling rows first.

Inference (bf16): eager, compiled, as a CUDA graph, compiled in a CUDA graph, FP8 blocks. Training (bf16, fused AdamW,
the whole step): finetuning and pretraining, eager and compiled. Each row says images a second, MFU (two operations per
multiply-add, forward and backward, without what checkpointing repeats, over the dense peak), the peak of the memory
allocated, and what `sapiens estimate-memory` foretells for it.

A size and task is a process of its own: one that runs out of memory tries half the batch, one that crashes or hangs
costs its row and no other. Tables are rewritten after each row: what is there when time is up counts.

Usage: python benchmarks/gpu.py --minutes 25
       python benchmarks/gpu.py --device cpu --sizes tiny --minutes 5      (the same code, without a GPU)
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shlex
import subprocess
import sys
import threading
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
from sapiens.engine.peaks import peak_flops
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
JOB_LIMIT = 420.0


def plan(sizes: list[str], tasks: list[str]) -> list[dict[str, str]]:
    """Jobs (mode, size, task), those first that say most."""
    first = [('inference', '1b', 'pose'), ('finetune', '1b', 'pose'), ('pretrain', '1b', 'mae'),
             ('finetune', '0.3b', 'pose'), ('pretrain', '0.3b', 'mae'), ('finetune', '2b', 'pose'),
             ('inference', '0.3b', 'pose'), ('inference', '2b', 'pose')]  # fmt: skip
    rest = [('inference', size, task) for task in ('seg', 'pose', 'depth', 'normal') for size in sizes]
    rest += [('pretrain', size, 'mae') for size in sizes]
    rest += [('finetune', size, task) for task in ('pose', 'seg', 'depth', 'normal') for size in sizes]
    jobs = [job for job in dict.fromkeys([*first, *rest]) if job[1] in sizes and job[2] in tasks]
    return [dict(zip(('mode', 'size', 'task'), job, strict=True)) for job in jobs]


# ------------------------------------------------------------------------------------------------ one job


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


# ------------------------------------------------------------------------------------------------ all jobs


def run_job(job: dict[str, Any], seconds: float, add: Callable[[dict], None]) -> None:
    """A job in a process of its own, which ends with it or when time is up."""
    command = [sys.executable, __file__, '--job', json.dumps(job)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr.readlines()[-20:]), daemon=True)
    reader.start()
    begin = time.monotonic()
    for line in process.stdout:
        if line.startswith('ROW '):
            add(json.loads(line[4:]))
    process.wait()
    timer.cancel()
    reader.join(5)
    if process.returncode:
        late = time.monotonic() - begin >= seconds - 1
        last = next((line.strip() for line in reversed(errors) if line.strip()), f'exit code {process.returncode}')
        note = 'time was up' if late else f'ended: {last[:150]}'
        add({**{k: job[k] for k in ('mode', 'size', 'task')}, 'note': note})


def machine(device: str) -> dict[str, str]:
    """What the numbers belong to."""
    facts = {'device': platform.processor() or platform.machine(), 'torch': torch.__version__}
    if device == 'cuda':
        facts['device'] = torch.cuda.get_device_name()
        facts['memory'] = f'{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB'
        facts['CUDA'] = str(torch.version.cuda)
    commit = subprocess.run(['git', '-C', str(ROOT), 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True)
    facts['commit'] = commit.stdout.strip() or 'unknown'
    facts['date'] = time.strftime('%Y-%m-%d')
    facts['command'] = shlex.join(['python', 'benchmarks/gpu.py', *sys.argv[1:]])
    return facts


def table(facts: dict[str, str], rows: list[dict[str, Any]], peak: float | None) -> str:
    """All rows as Markdown."""
    estimates = {(r['mode'], r['size'], r['task'], r['batch']): r['gib'] for r in rows if r.get('job') == 'estimate'}
    over = f'{peak / 1e12:.4g} TFLOPS (dense bf16)' if peak else 'an unknown peak: left out'
    about = ', '.join(f'{key} {value}' for key, value in facts.items() if key != 'command')
    lines = [f'# Speed and memory on {facts["device"]}', '', about, '', f'`{facts["command"]}`', '']
    lines += [f'MFU over {over}.', '']
    for mode in ('inference', 'finetune', 'pretrain'):
        chosen = [r for r in rows if r['mode'] == mode and r.get('job') != 'estimate']
        if not chosen:
            continue
        names = ['size', 'task', 'way', 'batch', 'images/s', 'TFLOPS', 'MFU', 'peak GiB', 'foretold GiB', 'off eager']
        lines += [f'## {mode.capitalize()}', '', f'| {" | ".join(names)} |', '|---' * 3 + '|---:' * 7 + '|']
        for row in chosen:
            if 'note' in row:
                lines.append(f'| {row["size"]} | {row["task"]} | {row.get("variant", "")} | {row.get("batch", "")} | '
                             f'{row["note"]} | | | | | |')  # fmt: skip
                continue
            mfu = f'{100 * row["tflops"] * 1e12 / peak:.1f} %' if peak else '-'
            memory = f'{row["peak_gib"]:.1f}' if 'peak_gib' in row else '-'
            key = mode, row['size'], row['task'], row['batch']
            foretold = f'{estimates[key]:.1f}' if key in estimates else '-'
            lines.append(f'| {row["size"]} | {row["task"]} | {row["variant"]} | {row["batch"]} | '
                         f'{row["images_per_s"]:.2f} | {row["tflops"]:.1f} | {mfu} | {memory} | {foretold} | '
                         f'{row["difference"]:.1e} |')  # fmt: skip
        lines.append('')
    return '\n'.join(lines)


def main() -> None:
    """Run jobs until time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=25.0, help='begin nothing that would end later; 25')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--sizes', nargs='+', choices=('tiny', '0.3b', '0.6b', '1b', '2b'), help='default: 0.3b to 2b')
    parser.add_argument('--tasks', nargs='+', choices=tuple(CONFIGS), default=list(CONFIGS))
    parser.add_argument('--batch-size', type=int, help='default: by size and mode, up to 64')
    parser.add_argument('--seconds', type=float, default=Clock.about, help='that one row is measured; 3')
    parser.add_argument('--out', type=Path, default=Path('outputs/gpu'), help='folder of results.md and results.json')
    parser.add_argument('--job', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        work(json.loads(args.job))
        return
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('there is no CUDA GPU here: give --device cpu --sizes tiny')
    sizes = args.sizes or (['0.3b', '0.6b', '1b', '2b'] if args.device == 'cuda' else ['tiny'])
    end = time.monotonic() + 60 * args.minutes
    facts = machine(args.device)
    peak = peak_flops(facts['device']) if args.device == 'cuda' else None
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        for name, text in (('results.json', json.dumps(dict(machine=facts, peak_flops=peak, rows=rows), indent=1)),
                           ('results.md', table(facts, rows, peak))):  # fmt: skip
            part = args.out / (name + '.part')
            part.write_text(text)
            os.replace(part, args.out / name)
        if 'note' in row:
            print(f'{row["size"]:>5} {row["task"]:<7} {row["mode"]:<10} {row.get("variant", ""):<18} {row["note"]}')
        elif row.get('job') != 'estimate':
            print(f'{row["size"]:>5} {row["task"]:<7} {row["mode"]:<10} {row["variant"]:<18} batch {row["batch"]:>3}: '
                  f'{row["images_per_s"]:8.2f} images/s')  # fmt: skip

    jobs = plan(sizes, args.tasks)
    for number, job in enumerate(jobs):
        left = end - time.monotonic()
        if left < 30:
            print(f'time is up: {len(jobs) - number} of {len(jobs)} jobs were not begun')
            break
        print(f'[{number + 1}/{len(jobs)}, {left / 60:.1f} min left]', flush=True)
        limit = JOB_LIMIT if args.device == 'cuda' else 600.0
        options = dict(device=args.device, batch_size=args.batch_size, seconds=args.seconds)
        run_job({**job, **options}, min(left, limit), add)
    print(f'{args.out / "results.md"} and results.json')


if __name__ == '__main__':
    main()
