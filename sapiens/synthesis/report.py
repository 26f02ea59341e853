# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What is in a rendered set: a sheet of samples with their labels, and statistics."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from ..datasets.image_files import decode_image
from ..datasets.label_files import decode_depth, decode_ids, decode_normals
from ..datasets.manifest import Manifest
from ..datasets.storage import read_bytes
from ..errors import UserError
from ..utils.optional import need
from ..vocabularies import load_vocabulary


def contact_sheet(folder: str | Path, count: int = 8, height: int = 384, columns: int = 2) -> np.ndarray:
    """RGB, depth, normals, parts and keypoints of the first samples side by side. ``(H, W, 3)`` uint8 RGB."""
    manifest = Manifest(folder)
    parts, points = load_vocabulary(manifest.header['parts']), load_vocabulary(manifest.header['keypoints'])
    tiles = []
    for entry, _ in zip(manifest.entries(), range(count), strict=False):
        read = {k: read_bytes(v) for k, v in entry['files'].items()}
        image = decode_image(read['image'], entry['files']['image'])
        depth = decode_depth(read['depth'], 'depth', manifest.header['depth_scale'])
        known = depth > 0
        near, far = (depth[known].min(), depth[known].max()) if known.any() else (0, 1)
        ramp = (255 * (1 - (depth - near) / max(far - near, 1e-6))).clip(0, 255).astype(np.uint8)
        colored = cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)[..., ::-1] * known[..., None].astype(np.uint8)
        normals = decode_normals(read['normals'], 'normals')
        lit = ((normals + 1) * 127.5).astype(np.uint8) * np.any(normals != 0, -1)[..., None].astype(np.uint8)
        drawn = image.copy()
        for person in entry['fields']['persons']:
            for k, (x, y, v) in enumerate(person['keypoints']):
                if v:
                    color = tuple(int(c) for c in points.colors[k]) if v == 2 else (110, 110, 110)
                    cv2.circle(drawn, (round(x), round(y)), max(image.shape[0] // 400, 1), color, -1, cv2.LINE_AA)
        row = np.concatenate([image, colored, lit, parts.colors[decode_ids(read['parts'], 'parts')], drawn], 1)
        size = round(row.shape[1] * height / row.shape[0]), height
        tiles.append(cv2.resize(row, size, interpolation=cv2.INTER_AREA))
    width = max(t.shape[1] for t in tiles)
    tiles = [np.pad(t, ((0, 0), (0, width - t.shape[1]), (0, 0))) for t in tiles]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)])


def collect(folder: str | Path, most: int = 5000) -> dict:
    """Numbers about a set: counters and lists.

    Args:
        folder: A rendered manifest folder.
        most: Samples to look at.

    Raises:
        UserError: The set has not what renders have.
    """
    manifest = Manifest(folder)
    if lacking := [what for what in ('keypoints', 'parts') if not manifest.header.get(what)]:
        raise UserError(f'{folder}: has no {" and no ".join(lacking)}; this is for sets of `sapiens render`')
    points = load_vocabulary(manifest.header['keypoints']).num_keypoints
    out: dict = {name: Counter() for name in ('persons', 'poses', 'framings', 'light', 'rejected')}
    out.update({name: [] for name in ('scale', 'skin_tone', 'age', 'gender')})
    out.update(samples=0, visibility=np.zeros((points, 3), np.int64), pixels=np.zeros(256, np.int64))
    for entry, _ in zip(manifest.entries(), range(most), strict=False):
        fields = entry['fields']
        if lacking := sorted({'parts', 'depth', 'normals'} - entry['files'].keys()):
            raise UserError(f'{folder}: sample {entry["id"]} has no {" and no ".join(lacking)}; this is for sets of '
                            '`sapiens render`')  # fmt: skip
        out['samples'] += 1
        out['persons'][len(fields['persons'])] += 1
        out['framings'][fields.get('framing', '?')] += 1
        out['light'][fields.get('environment', '?')] += 1
        out['rejected'].update(fields.get('rejected', {}))
        for person in fields['persons']:
            out['poses'][person.get('pose', '?')] += 1
            v = np.asarray(person['keypoints'])[:, 2].astype(int)
            out['visibility'][np.arange(points), v] += 1
            out['scale'].append(person['bbox'][3] / fields['height'])
            for name in ('skin_tone', 'age', 'gender'):
                if name in person.get('traits', {}):
                    out[name].append(person['traits'][name])
        file = entry['files']['parts']
        out['pixels'] += np.bincount(decode_ids(read_bytes(file), file).ravel(), minlength=256)
    return out


def plot(stats: dict, parts: str = 'parts28') -> np.ndarray:
    """Draw the numbers of `collect`. ``(H, W, 3)`` uint8 RGB.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    need('matplotlib', 'drawing plots', extra='synthesis')
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 13), dpi=80, layout='constrained')
    axes = figure.subplots(3, 3).ravel()

    def bars(axis, counter: Counter, title: str) -> None:
        items = counter.most_common()
        axis.barh([str(k) for k, _ in items][::-1], [v for _, v in items][::-1])
        axis.set_title(title)

    bars(axes[0], stats['poses'], 'people by kind of pose')
    bars(axes[1], Counter({f'{k} people': v for k, v in stats['persons'].items()}) + stats['framings'], 'samples')
    bars(axes[2], stats['rejected'], 'draws that were rejected')
    seen = stats['visibility'] / np.maximum(stats['visibility'].sum(1, keepdims=True), 1)
    axes[3].stackplot(np.arange(len(seen)), seen[:, 2], seen[:, 1], seen[:, 0], labels=('visible', 'hidden', 'outside'))
    axes[3].set_title('visibility of each keypoint')
    axes[3].legend(loc='lower right')
    names = load_vocabulary(parts).names
    share = stats['pixels'][1 : len(names)] / max(stats['pixels'][1:].sum(), 1)
    axes[4].barh(names[1:], np.maximum(share, 1e-7), log=True)
    axes[4].tick_params(axis='y', labelsize=6)
    axes[4].set_title("part of people's pixels")
    titles = {'scale': 'height of boxes / height of the picture', 'skin_tone': 'skin tone, 0 to 255',
              'age': 'age (1/3 child, 2/3 young, 1 old)', 'gender': 'gender (0 female, 1 male)'}  # fmt: skip
    for axis, (name, title) in zip(axes[5:], titles.items(), strict=True):
        axis.hist(stats[name], bins=30)
        axis.set_title(title)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
