# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
# ruff: noqa: E402 (the path has to be mended first)
"""Draw the 308 keypoints on the bare body from several sides: every eye, ear, lip line, hand and foot.

Usage: python tools/synthesis/inspect.py --out keypoint_pictures [--assets data/assets] [--open-mouth 0.6]
"""

from __future__ import annotations

import sys
from pathlib import Path

# The folder of this script must not hide the standard library's `inspect`.
sys.path = [p for p in sys.path if Path(p or '.').resolve() != Path(__file__).resolve().parent]
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


import cv2
import numpy as np

from sapiens.commands.options import new_parser
from sapiens.errors import run_cli
from sapiens.utils.files import write_atomic


def bare_body(assets: str, mouth: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, faces and keypoints of an average body (MakeHuman) or of a random one (fixture)."""
    from sapiens.synthesis import fixture
    from sapiens.synthesis.library import load_assets
    from sapiens.synthesis.makehuman import dressing

    if assets == 'fixture':
        actor = fixture.build(np.random.default_rng(seed))
        return actor.layers[0].vertices, actor.layers[0].faces, actor.keypoints
    library = load_assets(assets)
    body = library.body
    shape = body.shape({'age': 0.667, 'proportions': 0.8}, {'african': 1 / 3, 'asian': 1 / 3, 'caucasian': 1 / 3})
    skeleton = body.skeleton(shape * 0.1)
    body.add(shape, body.targets['action/jawOpen'], mouth)
    points = shape * 0.1
    eyes = {s: library.eye(points, s) for s in 'LR'}
    keypoints = library.placer.place(points, skeleton, eyes)
    vertices, faces, count = [points], [body.triangles('body')[0]], len(points)
    for eye in eyes.values():
        v, f, _ = dressing.eyeball(*eye)
        vertices.append(v)
        faces.append(f + count)
        count += len(v)
    return np.concatenate(vertices), np.concatenate(faces).astype(np.int32), keypoints


def main() -> None:
    """Draw every view and a sheet of all."""
    parser = new_parser(__doc__)
    parser.add_argument('--out', required=True, help='folder for the pictures')
    parser.add_argument('--assets', default='data/assets', help="folder made by prepare_assets.py, or 'fixture'")
    parser.add_argument('--open-mouth', type='amount', default=0.0, help='0 to 1')
    parser.add_argument('--seed', type='number', default=0, help='which fixture person')
    args = parser.parse_args()
    from sapiens.datasets.label_files import encode_image
    from sapiens.synthesis.inspection import VIEWS, draw_view

    body = bare_body(args.assets, args.open_mouth, args.seed)
    out = Path(args.out)
    pictures = [draw_view(view, *body) for view in VIEWS]
    for view, picture in zip(VIEWS, pictures, strict=True):
        write_atomic(out / f'{view.name}.png', encode_image(picture, '.png'))
    pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % 4)
    small = [cv2.resize(p, (450, 450), interpolation=cv2.INTER_AREA) for p in pictures]
    rows = [np.concatenate(small[i : i + 4], 1) for i in range(0, len(small), 4)]
    write_atomic(out / 'all.png', encode_image(np.concatenate(rows), '.png'))
    print(f'{out}: {len(VIEWS)} views and all.png')


if __name__ == '__main__':
    run_cli(main)
