# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a keypoint evaluation says of single images and single keypoints."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from .coco_files import Detection, PersonSet
from .oks import FIGURES
from .tables import UNDEFINED, Table


@dataclass
class ImageOKS:
    """OKS of an image: ``(D, G)``, its D detections, and ``(G,)`` whether each person does not count."""

    oks: np.ndarray
    detections: list[Detection]
    ignore: np.ndarray

    def best(self, person: int) -> Detection | None:
        """The detection nearest to a person; None when all are infinitely far."""
        if not len(self.oks) or self.oks[:, person].max() <= 0:
            return None
        return self.detections[int(self.oks[:, person].argmax())]


def image_table(persons: PersonSet, found: dict[Hashable, ImageOKS]) -> tuple[list[dict], list[str]]:
    """One row per image with labelled persons (mean over them of the best OKS), and notes on images left empty."""
    rows, without, empty = [], 0, 0
    for image in persons.image_ids:
        matrix, counted = found[image].oks, ~found[image].ignore
        if not counted.any():
            empty += 1
            continue
        without += not found[image].detections
        best = matrix[:, counted].max(0) if len(matrix) else np.zeros(int(counted.sum()))
        file = persons.images[image].get('file_name')
        rows.append({'image': image, 'file': file, 'persons': int(counted.sum()), 'oks': float(best.mean())})
    notes = []
    if without:
        notes.append(f'{without} of {len(rows)} images with labelled persons have no prediction: all missed')
    if empty:
        notes.append(f'{empty} images have no labelled person; detections there count as false')
    return rows, notes


def worst_images(
    rows: list[dict], persons: PersonSet, found: dict[Hashable, ImageOKS], count: int
) -> list[tuple[float, dict]]:
    """The images with the lowest OKS, each with pairs of labelled and predicted points of its persons."""
    worst = []
    for row in sorted(rows, key=lambda row: row['oks'])[:count]:
        one = found[row['image']]
        pairs = []
        for g in np.flatnonzero(~one.ignore):
            detection = one.best(g)
            points = None if detection is None else detection.keypoints
            pairs.append((persons.persons[row['image']][g].keypoints, points))
        worst.append((1 - row['oks'], {'img_id': row['image'], 'img_path': row['file'], 'pairs': pairs}))
    return worst


def keypoint_table(
    names: Sequence[str],
    sigmas: np.ndarray,
    scored: list[int],
    persons: PersonSet,
    found: dict[Hashable, ImageOKS],
) -> Table:
    """Per keypoint: how many are labelled and the mean similarity of the best detections; missed persons count 0."""
    count = np.zeros(len(names), np.int64)
    total = np.zeros(len(names))
    constants = (sigmas * 2) ** 2
    for image, one in found.items():
        for g in np.flatnonzero(~one.ignore):
            person, detection = persons.persons[image][g], one.best(g)
            labelled = person.keypoints[:, 2] > 0
            count += labelled
            if detection is not None:
                distance = ((detection.keypoints - person.keypoints[:, :2]) ** 2).sum(1)
                total += labelled * np.exp(-distance / constants / (person.area + np.spacing(1)) / 2)
    rows = [[names[i], int(count[i]), float(total[i] / count[i]) if count[i] else None] for i in scored]
    title = 'Keypoints (KS: similarity with the best detection of each person)'
    return Table(title, ['Keypoint', 'labelled', 'KS'], rows, kind={'KS': 'fraction'})


def undefined_notes(rows: list[list]) -> list[str]:
    """Why figures of the table are n/a."""
    missing = [f'{row[0]} {name}' for row in rows for name, v in zip(FIGURES, row[1:], strict=True) if v == UNDEFINED]
    return [f'no labelled person for {", ".join(missing)}: n/a here, -1 in files as in COCO'] if missing else []
