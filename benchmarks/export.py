# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What lower precision and exported files do to the results of the model that ships (trained), on the demo's photos.

Keypoints with a score above 0.2, in pixels of the network's input, decoded in the graph and, as the runners do it, in
PyTorch in float32; share of pixels with another part; mean difference of depth; mean angle of normals on people.

Example: sapiens export tiny --out tiny.xml; sapiens export tiny --out tiny8.xml --dtype int8
         python benchmarks/export.py tiny.xml tiny8.xml
"""

from __future__ import annotations

import argparse
from itertools import islice

import torch

from sapiens.apis import load_model
from sapiens.apis.export import SAMPLES, crops
from sapiens.deploy import DeployGraph, open_exported


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='*', help='exported from `tiny`')
    args = parser.parse_args()
    loaded = load_model('tiny')
    images = torch.stack(list(islice(crops(loaded, SAMPLES), 20)))
    graph = DeployGraph(loaded.network)
    decode = loaded.network.heads['pose'].codec.decode

    def run(dtype: torch.dtype) -> dict[str, torch.Tensor]:
        loaded.network.set_precision(dtype)
        with torch.no_grad():
            return dict(zip(graph.output_names, graph(images), strict=True))

    expected = run(torch.float32)

    def show(name: str, found: dict[str, torch.Tensor]) -> None:
        clear, people = expected['keypoint_scores'] > 0.2, expected['parts'] > 0
        cells = []
        for points in (found['keypoints'], decode(found['heatmaps'])[0]):
            away = (points - expected['keypoints']).norm(dim=-1)[clear]
            cells.append('/'.join(f'{v:.3f}' for v in (away.median(), away.quantile(0.95), away.max())))
        angle = (found['normals'] * expected['normals']).sum(1).clamp(-1, 1).arccos().rad2deg()[people].mean()
        parts = (found['parts'] != expected['parts']).float().mean()
        depth = (found['depth'] - expected['depth']).abs().mean()
        print(f'{name}: px median/95 %/worst in the graph {cells[0]}, in PyTorch {cells[1]}; parts {parts:.1e}, '
              f'depth {depth:.1e}, normals {angle:.2f} degrees', flush=True)  # fmt: skip

    show('torch bfloat16', run(torch.bfloat16))
    for file in args.files:
        for dtype in (torch.float32, torch.bfloat16) if file.endswith('.xml') else (torch.float32,):
            estimator, _ = open_exported(file)
            estimator.set_precision(dtype)
            outputs = estimator.run_all(images.numpy())
            show(f'{file} in {dtype}', {name: torch.from_numpy(array) for name, array in outputs.items()})


if __name__ == '__main__':
    main()
