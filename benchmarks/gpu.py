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
import json
import platform
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from sapiens.engine.peaks import peak_flops
from sapiens.utils.files import write_atomic

SIZES, TASKS = ('0.3b', '0.6b', '1b', '2b'), ('pose', 'seg', 'depth', 'normal', 'mae')
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


def run_job(job: dict[str, Any], seconds: float, add: Callable[[dict], None]) -> None:
    """A job in a process of its own, which ends with it or when time is up."""
    command = [sys.executable, str(Path(__file__).with_name('gpu_job.py')), json.dumps(job)]
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
    parser.add_argument('--minutes', type=float, default=25.0, help='begin nothing that would end later; default: 25')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--sizes', nargs='+', choices=('tiny', *SIZES), help='default: 0.3b to 2b')
    parser.add_argument('--tasks', nargs='+', choices=TASKS, default=TASKS)
    parser.add_argument('--batch-size', type=int, help='default: by size and mode, up to 64')
    parser.add_argument('--seconds', type=float, default=3.0, help='that one row is measured; default: 3')
    parser.add_argument('--out', type=Path, default=Path('outputs/gpu'), help='folder of results.md and results.json')
    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('there is no CUDA GPU here: give --device cpu --sizes tiny')
    sizes = args.sizes or (SIZES if args.device == 'cuda' else ['tiny'])
    end = time.monotonic() + 60 * args.minutes
    facts = machine(args.device)
    peak = peak_flops(facts['device']) if args.device == 'cuda' else None
    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        for name, text in (('results.json', json.dumps(dict(machine=facts, peak_flops=peak, rows=rows), indent=1)),
                           ('results.md', table(facts, rows, peak))):  # fmt: skip
            write_atomic(args.out / name, text)
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
