# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What each way of training a part of the encoder costs: peak memory and CPU time of a training step.

Usage: python benchmarks/presets.py [--config configs/pose/sapiens_0.3b_17kpt.py] [--size 256 192] [--batch 2]

Each preset runs in a process of its own: AdamW over what trains, inputs of ones, the second step is timed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PRESETS = ('all', 'all+cp', 'last:4', 'lora:8', 'lora:8+cp', 'none')


def measure(config: str, size: list[int], batch: int, preset: str) -> str:
    """One row: preset, parameters that train, peak memory, CPU-seconds of a step."""
    import torch

    from sapiens.engine.config import load_config
    from sapiens.models.complexity import example_batch
    from sapiens.registry import MODELS

    torch.manual_seed(0)
    options = {'backbone.tune': preset.removesuffix('+cp'), 'backbone.with_cp': preset.endswith('+cp')}
    settings = load_config(config, {f'model.{key}': value for key, value in options.items()} | {'input_size': size})
    model = MODELS.build(settings.model).train()
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, fused=True)
    data = model.data_preprocessor(example_batch(model, batch, tuple(size)), True)
    for _ in range(2):
        start = time.process_time()
        model.parse_losses(model(**data, mode='loss'))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        spent = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f'| `{preset}` | {sum(p.numel() for p in learning) / 1e6:.1f} M | {peak:.1f} GB | {spent:.1f} s |'


def main() -> None:
    """Measure all presets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=str(ROOT / 'configs/pose/sapiens_0.3b_17kpt.py'))
    parser.add_argument('--size', type=int, nargs=2, default=[256, 192], metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--preset', help='this one alone, in this process')
    args = parser.parse_args()
    if args.preset:
        print(measure(args.config, args.size, args.batch, args.preset))
        return
    print('| preset | learns | peak memory | CPU time of a step |\n|---|---|---|---|', flush=True)
    for preset in PRESETS:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], '--preset', preset], check=True)


if __name__ == '__main__':
    main()
