# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From photo to result: PyTorch in float32 against other precisions and exported files, alternated in one process.

Each way has a process of its own, with PyTorch in float32 beside it; the two take turns. Times are CPU-seconds of
`Inferencer.predict` (reading, network, decoding, assembling; the photo is one person), medians and their ratio.
First the results are compared: keypoints of clear peaks in pixels of the photo, parts, depth, normals. The weights of
--model are random if there are none (the times are the same, the differences say nothing); `tiny` ships trained.

Example: python benchmarks/inference.py --model tiny --repeats 15
         python benchmarks/inference.py --model pose_308_0.3b --ways torch-bfloat16 openvino-bfloat16 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Way -> (suffix of its file or '', precision of the file, precision to compute in, compiled)
WAYS = {
    'torch-bfloat16': ('', '', 'bfloat16', False),
    'compile-float32': ('', '', 'float32', True),
    'compile-bfloat16': ('', '', 'bfloat16', True),
    'onnx-float32': ('.onnx', 'float32', 'float32', False),
    'onnx-int8': ('.onnx', 'int8', 'float32', False),
    'openvino-float32': ('.xml', 'float32', 'float32', False),
    'openvino-bfloat16': ('.xml', 'float32', 'bfloat16', False),
    'openvino-int8': ('.xml', 'int8', 'float32', False),
    'openvino-int8-bfloat16': ('.xml', 'int8', 'bfloat16', False),
}


def load(model: str, work: Path):
    """The model, with weights at hand or random ones."""
    import torch

    from sapiens.apis import load_model
    from sapiens.apis.loading import find_config
    from sapiens.engine.config import load_config
    from sapiens.engine.files import save_weights
    from sapiens.engine.state import describe_model
    from sapiens.errors import UserError
    from sapiens.registry import MODELS

    made = work / f'{model}.safetensors'
    if not made.is_file():
        try:
            return load_model(model)
        except UserError:
            config = find_config(model)
            torch.manual_seed(0)
            network = MODELS.build(load_config(config).model)
            save_weights(network.state_dict(), {'sapiens': describe_model(network)}, made)
            del network
    return load_model(model, made)


def file_of(way: str, model: str, work: Path) -> Path:
    """Where the exported file of a way lies."""
    suffix, dtype, _, _ = WAYS[way]
    return work / f'{model}_{dtype}{suffix}'


def prepare(way: str, args: argparse.Namespace) -> None:
    """Export the file of a way, unless it is there."""
    from sapiens.apis.export import export

    path = file_of(way, args.model, args.work)
    if not path.is_file():
        kind = {'.onnx': 'onnx', '.xml': 'openvino'}[path.suffix]
        dtype = WAYS[way][1]
        export(load(args.model, args.work), path, kind, dtype, calibration=args.calibration, check=False)


def measure(way: str, args: argparse.Namespace) -> dict:
    """One way against PyTorch in float32."""
    import cv2
    import torch

    from sapiens.apis import Inferencer

    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    suffix, _, dtype, compiled = WAYS[way]
    network = str(file_of(way, args.model, args.work)) if suffix else load(args.model, args.work)
    common = dict(device='cpu', batch_size=1, flip_test=False)
    other = Inferencer(network, dtype=dtype, **common, **({'compile': True} if compiled else {}))
    plain = Inferencer(load(args.model, args.work), dtype='float32', **common)
    photos = sorted(p for p in args.photos.rglob('*') if p.suffix in ('.jpg', '.png'))[: args.limit]
    away = [compare(plain.predict(photo), other.predict(photo)) for photo in photos]
    times: dict[str, list[float]] = {'plain': [], 'other': []}
    for _ in range(args.repeats):
        for name, inferencer in (('plain', plain), ('other', other)):
            start = time.process_time()
            inferencer.predict(photos[0])
            times[name].append(time.process_time() - start)
    plain_s, other_s = (statistics.median(values) for values in times.values())
    merged = {key: [v for one in away for v in one.get(key, [])] for key in {k for one in away for k in one}}
    return dict(plain=plain_s, other=other_s, away=merged)


def compare(ours, theirs) -> dict[str, list[float]]:
    """How far two results lie apart: pixels of clear keypoints, shares of parts, depth and degrees on the person."""
    import numpy as np

    away: dict[str, list[float]] = {}
    for a, b in zip(ours.keypoints or (), theirs.keypoints or (), strict=True):
        away.setdefault('pixels', []).extend(np.linalg.norm(a.xy - b.xy, axis=1)[a.scores > 0.2].tolist())
    if ours.parts is not None:
        away['parts'] = [float((ours.parts.ids != theirs.parts.ids).mean())]
    if ours.depth is not None:
        valid = np.isfinite(ours.depth.data) & np.isfinite(theirs.depth.data)
        away['depth'] = np.abs(ours.depth.data - theirs.depth.data)[valid][::50].tolist()
    if ours.normals is not None:
        cosine = (ours.normals.data * theirs.normals.data).sum(-1)
        valid = np.isfinite(cosine) & (np.linalg.norm(ours.normals.data, axis=-1) > 0.5)
        away['degrees'] = np.degrees(np.arccos(np.clip(cosine[valid], -1, 1)))[::50].tolist()
    return away


def main() -> None:
    """Run the ways and print the table."""
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='tiny', help='name of a model; default: tiny')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    parser.add_argument('--photos', type=Path, default=root / 'demo/images', help='the first one is timed')
    parser.add_argument('--limit', type=int, default=20, help='photos that are compared')
    parser.add_argument('--calibration', type=Path, help='photographs for int8; default: demo/images')
    parser.add_argument('--repeats', type=int, default=7, help='timed calls of each')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--work', type=Path, default=Path('work_dirs/benchmark_inference'), help='folder for files')
    parser.add_argument('--one', choices=('prepare', 'measure'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.one:
        (way,) = args.ways
        print(json.dumps(prepare(way, args) if args.one == 'prepare' else measure(way, args)))
        return
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f'{args.model}, photo to result, {args.threads} thread(s), medians of {args.repeats}')
    for column in ('way', 'CPU-s', 'torch float32', 'ratio', 'px median', 'px 95 %', 'parts', 'depth', 'degrees'):
        table.add_column(column, justify='left' if column == 'way' else 'right')
    for way in args.ways:
        for step in ('prepare',) * bool(WAYS[way][0]) + ('measure',):
            command = [sys.executable, __file__, *sys.argv[1:], '--one', step, '--ways', way]
            environment = {**os.environ, 'OMP_NUM_THREADS': str(args.threads)}
            run = subprocess.run(command, env=environment, capture_output=True, text=True)
            if run.returncode:
                break
        if run.returncode:
            last = (run.stderr.strip().splitlines() or ['killed'])[-1]
            table.add_row(way, last[:60])
            continue
        found = json.loads(run.stdout.splitlines()[-1])
        away = {key: np.array(values) for key, values in found['away'].items() if values}
        pixels = away.get('pixels')
        cells = ['-', '-'] if pixels is None else [f'{np.median(pixels):.4f}', f'{np.quantile(pixels, 0.95):.4f}']
        cells += [f'{np.mean(away[k]):.1e}' if k in away else '-' for k in ('parts', 'depth', 'degrees')]
        ratio = found['plain'] / found['other']
        table.add_row(way, f'{found["other"]:.3f}', f'{found["plain"]:.3f}', f'{ratio:.2f}', *cells)
        print(f'{way}: {ratio:.2f}x', file=sys.stderr, flush=True)
    Console(width=130).print(table)


if __name__ == '__main__':
    main()
