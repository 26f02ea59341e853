# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Pictures of errors: the worst images of a metric with what is wrong drawn on them, and the confusion of classes."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from ...datasets.image_files import read_image
from ...datasets.label_files import encode_image
from ...errors import UserError
from ...utils.file_names import safe_stem
from ...utils.files import write_atomic
from ...visualization import draw_depth, draw_normals, side_by_side
from ...visualization.layout import put_label
from ..base import HumanMetric
from ..dense import dense_pair
from ..normal import angular_error
from ..pck import PCK
from ..report import EvaluationReport

# RGB
_LABEL, _PREDICTED, _LINK = (60, 220, 60), (255, 70, 70), (255, 220, 60)
_PANEL_HEIGHT = 420


def write_worst(metric: HumanMetric, folder: str | Path, image_root: str | Path | None = None) -> list[Path]:
    """Draw the samples in ``metric.worst`` (see ``keep_worst`` of `HumanMetric`), worst first.

    Keypoints: labels green, predictions red, a yellow line between them; persons without a prediction in a yellow
    box. Maps: image | prediction | label | error (the frame's grey: not judged).

    Args:
        metric: After ``evaluate``, on the main process.
        folder: Where ``001_NAME.png``, ... go.
        image_root: Folder of the images when their paths are relative.

    Returns:
        Paths of the pictures.
    """
    folder = Path(folder)
    draw = {'pose': _pose, 'seg': _parts, 'depth': _depth, 'normal': _normals}.get(metric.task, _image)
    paths = []
    for number, (badness, sample) in enumerate(metric.worst, start=1):
        picture, caption = draw(metric, sample, badness, image_root)
        name = safe_stem(Path(str(sample.get('img_path') or sample.get('img_id'))).stem)
        path = folder / f'{number:03d}_{name}.png'
        bar = put_label(np.zeros((30, picture.shape[1], 3), np.uint8), f'{name}: {caption}')
        write_atomic(path, encode_image(np.concatenate([bar, picture]), '.png'))
        paths.append(path)
    return paths


def write_confusion(report: EvaluationReport, path: str | Path) -> Path:
    """Draw the confusion matrix of a `PartIoU` report: rows are labels and sum to 100 %, columns are predictions.

    Args:
        report: With ``extra['confusion']``, ``(C, C + 1)`` counts, and ``extra['names']``.
    """
    from matplotlib.figure import Figure  # mmengine brings it

    counts, names = np.asarray(report.extra['confusion'], np.float64), report.extra['names']
    labelled = counts.sum(1, keepdims=True)
    shares = np.divide(counts[:, :-1], labelled, out=np.full((len(names), len(names)), np.nan), where=labelled > 0)
    # The square root lets rare confusions be seen.
    tones, right = np.sqrt(shares), np.eye(len(names), dtype=bool)
    figure = Figure(figsize=(2.5 + 0.26 * len(names),) * 2, layout='constrained')
    axes = figure.subplots()
    axes.set_facecolor('0.92')  # of classes that nobody labelled
    for cells, colours in ((right, 'Greens'), (~right, 'Reds')):
        axes.imshow(np.where(cells, tones, np.nan), colours, vmin=0, vmax=1.2)
    for row, column in np.argwhere(shares >= 0.005):
        colour = 'white' if tones[row, column] > 0.6 else '0.2'
        share = f'{shares[row, column] * 100:.0f}'
        axes.text(column, row, share, ha='center', va='center', fontsize=7, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.tick_top()
    data = io.BytesIO()
    figure.savefig(data, dpi=100)
    write_atomic(path, data.getvalue())
    return Path(path)


def _pose(metric: HumanMetric, sample: dict, badness: float, root: str | Path | None) -> tuple[np.ndarray, str]:
    pairs = sample['pairs']
    points = np.concatenate([label[label[:, 2] > 0, :2] for label, _ in pairs])
    image = _read_image(sample, root, tuple(int(v) + 50 for v in points.max(0)[::-1]))
    scale = max(1.0, 900 / max(image.shape[:2]))
    picture = cv2.resize(image, None, fx=scale, fy=scale) if scale > 1 else image.copy()
    radius = max(2, round(max(picture.shape[:2]) / 350))

    def place(point: np.ndarray) -> tuple[int, int]:
        x, y = np.clip(point * scale, -1e4, 1e4)
        return int(round(x)), int(round(y))

    missed = 0
    for label, found in pairs:
        seen = np.flatnonzero(label[:, 2] > 0)
        if found is None:
            missed += 1
            low, high = place(label[seen, :2].min(0)), place(label[seen, :2].max(0))
            cv2.rectangle(picture, low, high, _LINK, max(1, radius // 2), cv2.LINE_AA)
        for i in seen:
            if found is not None:
                cv2.line(picture, place(label[i, :2]), place(found[i]), _LINK, max(1, radius // 2), cv2.LINE_AA)
                cv2.circle(picture, place(found[i]), radius, _PREDICTED, -1, cv2.LINE_AA)
            cv2.circle(picture, place(label[i, :2]), radius, _LABEL, -1, cv2.LINE_AA)
    score = f'OKS {1 - badness:.3f}' if not isinstance(metric, PCK) else f'mean error {badness:.3f} of the size'
    text = f'{score}; labels green, predictions red'
    return picture, text + (f', {missed} missed' if missed else '')


def _parts(metric: HumanMetric, sample: dict, badness: float, root: str | Path | None) -> tuple[np.ndarray, str]:
    pair = dense_pair(sample, 'pred_part_map', 'gt_part_map', 'PartIoU', people=False)
    prediction, label = metric.pred_table[pair.prediction], metric.label_table[pair.label]
    label[~pair.counted] = 255
    image = _read_image(sample, root, sample['gt_part_map'].shape)[pair.window]
    colours = np.full((256, 3), 128, np.uint8)
    colours[: metric.vocabulary.num_classes] = metric.vocabulary.colors
    error = (image * 0.35).astype(np.uint8)
    error[(prediction != label) & (label != 255)] = _PREDICTED
    error[label == 255] = 128
    return _panels(image, colours[prediction], colours[label], error), f'mIoU {1 - badness:.3f}; wrong pixels red'


def _depth(metric: HumanMetric, sample: dict, badness: float, root: str | Path | None) -> tuple[np.ndarray, str]:
    prediction, label, counted, _ = metric.aligned(sample)
    window = dense_pair(sample, 'pred_depth', 'gt_depth', 'DepthMetric').window
    image = _read_image(sample, root, sample['gt_depth'].shape)[window]
    near, far = label[counted].min(), label[counted].max()
    relative = np.abs(prediction - label) / np.where(counted, label, 1)
    shown = [draw_depth(m, counted, near, far) for m in (prediction, label)]
    return _panels(image, *shown, _heat(relative / 0.25, counted)), f'AbsRel {badness:.4f}; error from 0 to 25 %'


def _normals(metric: HumanMetric, sample: dict, badness: float, root: str | Path | None) -> tuple[np.ndarray, str]:
    pair = dense_pair(sample, 'pred_normals', 'gt_normals', 'NormalMetric')
    image = _read_image(sample, root, sample['gt_normals'].shape)[pair.window]
    counted = pair.counted & (np.linalg.norm(np.nan_to_num(pair.label), axis=0) > 1e-6)
    error = np.zeros(counted.shape)
    error[counted] = angular_error(pair.prediction[:, counted], pair.label[:, counted])
    shown = []
    for normals in (pair.prediction, pair.label):
        normals = np.nan_to_num(normals.astype(np.float32))
        shown.append(draw_normals(normals / np.maximum(np.linalg.norm(normals, axis=0), 1e-6), counted))
    caption = f'mean error {badness:.2f} degrees; error from 0 to 60'
    return _panels(image, *shown, _heat(error / 60, counted)), caption


def _image(_: HumanMetric, sample: dict, badness: float, root: str | Path | None) -> tuple[np.ndarray, str]:
    """Of a task that nothing here knows how to draw."""
    return _read_image(sample, root, tuple(sample.get('ori_shape', (240, 320)))), f'{badness:.4g}'


def _heat(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1] as colours from blue to red, black outside the mask."""
    bytes_ = (np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8)
    return cv2.applyColorMap(bytes_, cv2.COLORMAP_TURBO)[..., ::-1] * mask[..., None].astype(np.uint8)


def _panels(image: np.ndarray, *pictures: np.ndarray) -> np.ndarray:
    size = (max(1, round(image.shape[1] * _PANEL_HEIGHT / image.shape[0])), _PANEL_HEIGHT)
    mode = cv2.INTER_AREA if image.shape[0] > _PANEL_HEIGHT else cv2.INTER_NEAREST
    shown = [cv2.resize(np.ascontiguousarray(p), size, interpolation=mode) for p in (image, *pictures)]
    return side_by_side(shown, ['image', 'prediction', 'label', 'error'])


def _read_image(sample: dict, root: str | Path | None, shape: tuple[int, ...]) -> np.ndarray:
    """The image as RGB of the labels' size; grey when its file is not there."""
    path = Path(str(sample.get('img_path') or ''))
    image = None
    for candidate in [path] if root is None else [Path(root) / path, Path(root) / path.name, path]:
        if image is None:
            with suppress(UserError):
                image = read_image(candidate)
    if image is None:
        return np.full((*shape[-2:], 3), 90, np.uint8)
    if 'pairs' not in sample and image.shape[:2] != tuple(shape[-2:]):
        image = cv2.resize(image, (shape[-1], shape[-2]), interpolation=cv2.INTER_AREA)
    return image
