# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From photo to result: PyTorch in float32 against other precisions and exported files, alternated in one process.

All ways take turns, PyTorch in float32 first in each round. Times are CPU-seconds of `Inferencer.predict` (reading,
network, decoding, assembling; the photo is one person), medians, their ratio, and the ratios of the worst and best
round.
First the results are compared: the heads' maps, keypoints of clear peaks in pixels of the photo, parts, depth, normals.
`tiny` ships trained. A --model without weights at hand is random but for its last layers, which are fitted to blobs at
drawn places, so that there are clear peaks to compare (`settle`). All ways at once need memory for as many models:
choose some by --ways.

Example: python benchmarks/inference.py --model tiny --repeats 15
         python benchmarks/inference.py --model pose_308_0.3b --ways torch-bfloat16 openvino-bfloat16 --repeats 3
"""

from __future__ import annotations

import argparse
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
    'openvino-int8-weights': ('.xml', 'int8-weights', 'float32', False),
    'openvino-int8-weights-bfloat16': ('.xml', 'int8-weights', 'bfloat16', False),
    'openvino-int8': ('.xml', 'int8', 'float32', False),
    'openvino-int8-bfloat16': ('.xml', 'int8', 'bfloat16', False),
}


def load(args: argparse.Namespace):
    """The model, with weights at hand or made ones."""
    import torch

    from sapiens.apis import load_model
    from sapiens.apis.loading import find_config
    from sapiens.engine.config import load_config
    from sapiens.engine.files import save_weights
    from sapiens.engine.state import describe_model
    from sapiens.errors import UserError
    from sapiens.registry import MODELS

    model, made = args.model, args.work / f'{args.model}.safetensors'
    if not made.is_file():
        try:
            return load_model(model)
        except UserError:
            config = find_config(model)
            torch.manual_seed(0)
            network = MODELS.build(load_config(config).model)
            draft = made.with_name(f'{model}_random.safetensors')
            save_weights(network.state_dict(), {'sapiens': describe_model(network)}, draft)
            del network
            loaded = load_model(model, draft)
            draft.unlink()
            settle(loaded, photos_of(args)[0])
            save_weights(loaded.network.state_dict(), {'sapiens': describe_model(loaded.network)}, made)
            return loaded
    return load_model(model, made)


def settle(loaded, photo: Path) -> None:
    """Give a random network outputs that can be compared, in place.

    Its deconvolutions become smooth (random mixtures of channels, bilinear in space), and each channel of a last layer
    is fitted by least squares to one blob at a drawn place of a photo's first crop, which sinusoidal positions allow:
    heatmaps have one clear peak each, part maps regions, depth and normals are smooth.
    """
    import torch
    from torch import nn

    from sapiens.apis.export import crops

    network, inputs = loaded.network.eval(), next(crops(loaded, photo))
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    for layer in network.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            mixture = torch.randn(*layer.weight.shape[:2], 1, 1) / layer.weight.shape[0] ** 0.5
            layer.weight.data = mixture * ramp[:, None] * ramp
    with torch.no_grad():
        features = network.extract_feat(network.data_preprocessor(dict(inputs=[inputs]))['inputs'])
        for name, head in network.heads.items():
            hidden = head(features, last=False)[0]
            count, (height, width) = head.out_channels, hidden.shape[1:]
            size = 6.0 if name == 'pose' else height / 8
            rows = torch.arange(height)[None] - torch.rand(count, 1) * height
            columns = torch.arange(width)[None] - torch.rand(count, 1) * width
            blobs = [torch.exp(-(places**2) / (2 * size**2)) for places in (rows, columns)]
            wanted = torch.einsum('kh,kw->khw', *blobs).flatten(1)
            flat = hidden.flatten(1)
            middle = flat.mean(1, keepdim=True)
            flat = flat - middle
            square = (flat @ flat.T).double()
            square += 1e-5 * square.diagonal().mean() * torch.eye(len(square), dtype=torch.float64)
            weight = torch.linalg.solve(square, (flat @ wanted.T).double()).T.float()
            head.final_layer.weight.data = weight[:, :, None, None].clone()
            head.final_layer.bias.data = (wanted.mean(1, keepdim=True) - weight @ middle).flatten()


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
        export(load(args), path, kind, dtype, calibration=args.calibration, check=False)


def photos_of(args: argparse.Namespace) -> list[Path]:
    """What is compared; the first is timed."""
    return sorted(p for p in args.photos.rglob('*') if p.suffix in ('.jpg', '.png'))[: args.limit]


def measure(args: argparse.Namespace) -> dict[str, dict]:
    """All ways that work here, taking turns with PyTorch in float32; a way that fails has its error instead."""
    import cv2
    import torch

    from sapiens.apis import Inferencer

    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    common = dict(device='cpu', batch_size=1, flip_test=False)
    plain = Inferencer(load(args), dtype='float32', **common)
    photos = photos_of(args)
    expected = [(plain.predict(photo), maps_of(plain, photo)) for photo in photos]
    others: dict[str, Inferencer] = {}
    found: dict[str, dict] = {}
    for way in args.ways:
        suffix, _, dtype, compiled = WAYS[way]
        try:
            network = str(file_of(way, args.model, args.work)) if suffix else load(args)
            others[way] = Inferencer(network, dtype=dtype, **common, **({'compile': True} if compiled else {}))
            away: dict[str, list[float]] = {}
            for photo, (result, maps) in zip(photos, expected, strict=True):
                for key, values in compare(result, others[way].predict(photo)).items():
                    away.setdefault(key, []).extend(values)
                away.setdefault('maps', []).append(distance(maps, maps_of(others[way], photo)))
            found[way] = dict(away=away)
        except Exception as error:  # whatever a library raises costs its own row alone
            others.pop(way, None)
            found[way] = dict(error=f'{type(error).__name__}: {str(error).strip().splitlines()[0][:80]}')
        print(f'{way}: {found[way].get("error", "ready")}', file=sys.stderr, flush=True)
    times: dict[str, list[float]] = {name: [] for name in ('plain', *others)}
    for number in range(args.repeats):
        for name, inferencer in (('plain', plain), *others.items()):
            start = time.process_time()
            inferencer.predict(photos[0])
            times[name].append(time.process_time() - start)
        last = ', '.join(f'{name} {values[-1]:.2f}' for name, values in times.items())
        print(f'round {number + 1} of {args.repeats}, CPU-s: {last}', file=sys.stderr, flush=True)
    for way in others:
        found[way].update(plain=times['plain'], other=times[way])
    return found


def maps_of(inferencer, photo: Path) -> dict:
    """What the heads say about a photo as a whole, before decoding: task -> float32 maps."""
    import torch

    from sapiens.apis import open_frames

    predictor = inferencer.predictors[0]
    (frame,) = open_frames(photo)
    height, width = frame.image.shape[:2]
    crop = predictor.prepare(frame, [0, 0, width - 1, height - 1] if predictor.topdown else None)
    with torch.inference_mode():
        outputs = predictor.model.outputs(predictor.inputs_of([crop.inputs]))
    return {task: output.float().clone() for task, output in outputs.items()}


def distance(ours: dict, theirs: dict) -> float:
    """Relative L2 distance of maps, the largest of the tasks with maps of one size (files give depth resized)."""
    pairs = [(a, theirs[task]) for task, a in ours.items() if a.shape == theirs[task].shape]
    return max(float((a - b).norm() / a.norm()) for a, b in pairs)


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
    parser.add_argument('--prepare', choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.prepare:
        prepare(args.prepare, args)
        return
    from rich.console import Console
    from rich.table import Table

    for way in args.ways:
        if WAYS[way][0]:  # in a process of its own, which gives back the memory that exporting takes
            subprocess.run([sys.executable, __file__, *sys.argv[1:], '--prepare', way], check=False)
    title = (
        f'{args.model}, photo to result, {args.threads} thread(s), medians of {args.repeats} (ratios: worst to best)'
    )
    table = Table(title=title)
    for column in ('way', 'CPU-s', 'ratio', 'maps L2', 'px median / 95 % / worst', 'parts', 'depth', 'degrees'):
        table.add_column(column, justify='left' if column == 'way' else 'right')
    found = measure(args)
    plain = next((entry['plain'] for entry in found.values() if 'plain' in entry), None)
    if plain:
        table.add_row('torch-float32', f'{statistics.median(plain):.3f}', '1', *['0'] * 5)
    for way, entry in found.items():
        table.add_row(way, *(cells(entry) if 'away' in entry else [entry['error']]))
    Console(width=140).print(table)


def cells(entry: dict) -> list[str]:
    """A way's row."""
    import numpy as np

    away = {key: np.array(values) for key, values in entry['away'].items() if values}
    ratios = sorted(a / b for a, b in zip(entry['plain'], entry['other'], strict=True))
    ratio = statistics.median(entry['plain']) / statistics.median(entry['other'])
    pixels = away.get('pixels')
    return [
        f'{statistics.median(entry["other"]):.3f}',
        f'{ratio:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})',
        f'{away["maps"].max():.1e}',
        '-' if pixels is None else ' / '.join(f'{v:.3f}' for v in np.quantile(pixels, (0.5, 0.95, 1))),
        *(f'{np.mean(away[k]):.1e}' if k in away else '-' for k in ('parts', 'depth', 'degrees')),
    ]


if __name__ == '__main__':
    main()
