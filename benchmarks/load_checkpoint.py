# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Time and memory of loading a full-size checkpoint, against reading the file's bytes.

Usage: python benchmarks/load_checkpoint.py [--arch 0.3b] [--folder DIR] [--repeat 3]
A pose-308 checkpoint in the published layout with random weights is made in DIR (1.3 GB at 0.3B), as .pth and as
.safetensors; each measurement runs in a process of its own, with the file in the page cache. After loading, every
weight is read once, so that memory-mapped files are paid for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def resident(field: str = 'VmRSS') -> float:
    """Resident memory of this process in MB, now; its peak by ``'VmHWM'``."""
    status = Path('/proc/self/status').read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) / 1024


def make(arch: str, folder: Path) -> list[Path]:
    """Write the checkpoints."""
    import torch
    from safetensors.torch import save_file

    from sapiens.engine.adapters import to_published
    from sapiens.engine.convert import build_on_meta

    root = Path(__file__).resolve().parents[1]
    shapes = build_on_meta(root / f'configs/pose/sapiens_{arch}_308kpt.py').state_dict()
    state = to_published({name: torch.randn(tensor.shape) * 0.02 for name, tensor in shapes.items()})
    files = [folder / 'pose308.pth', folder / 'pose308.safetensors']
    torch.save({'state_dict': state}, files[0])
    save_file(state, str(files[1]))
    return files


def measure(mode: str, file: str, arch: str) -> dict:
    """Seconds and MB of one way, in this process."""
    if mode == 'bytes':
        before, start = resident(), time.perf_counter()
        data = Path(file).read_bytes()
        seconds = time.perf_counter() - start
        return dict(seconds=seconds, memory=resident('VmHWM') - before, size=len(data) / 2**20)
    import torch

    import sapiens.models  # noqa: F401 (registries import their parts at first use: that is no loading)
    from sapiens.apis import load_model

    before, start = resident(), time.perf_counter()
    loaded = load_model(f'pose_308_{arch}', file)
    opened = time.perf_counter() - start
    with torch.inference_mode():
        total = sum(float(p.sum()) for p in loaded.network.parameters())
    seconds = time.perf_counter() - start
    return dict(seconds=seconds, opened=opened, memory=resident('VmHWM') - before, total=total)


def main() -> None:
    """Make the files and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', default='0.3b')
    parser.add_argument('--folder', help='default: a temporary folder')
    parser.add_argument('--repeat', type=int, default=3)
    parser.add_argument('--measure', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure, args.arch)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for file in make(args.arch, Path(folder)):
            size = file.stat().st_size / 2**20
            rows = {}
            for mode in ('bytes', 'model') * args.repeat:
                command = [sys.executable, __file__, '--arch', args.arch, '--measure', mode, str(file)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                row = json.loads(done.stdout.splitlines()[-1])
                if mode not in rows or row['seconds'] < rows[mode]['seconds']:
                    rows[mode] = row
            ours, plain = rows['model'], rows['bytes']
            print(
                f'{file.suffix}: {size:.0f} MB; reading its bytes {plain["seconds"]:.2f} s; loaded and read through '
                f'{ours["seconds"]:.2f} s ({ours["seconds"] / plain["seconds"]:.2f} x; until usable '
                f'{ours["opened"]:.2f} s); memory {ours["memory"]:.0f} MB ({ours["memory"] / size:.2f} x its size)'
            )


if __name__ == '__main__':
    main()
