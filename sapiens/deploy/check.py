# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Whether an exported file gives what the model gives, and how long both take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .graph import DeployGraph

CLEAR = 0.2
"""Score from which a peak is clear; below, the place of a maximum is a matter of the last bits."""


@dataclass
class Difference:
    """One output of the file against that of the model.

    Attributes:
        name: Of the output.
        worst, median: Of the differences: absolute for maps, pixels of the input for keypoints with clear peaks, share
            of pixels with another class for parts (``worst`` of an image).
        limit: That ``worst`` may reach; None: of reduced precision, there is none.
    """

    name: str
    worst: float
    median: float
    limit: float | None

    @property
    def good(self) -> bool:
        """Whether it is within the limit."""
        return self.limit is None or self.worst <= self.limit


def compare(
    graph: DeployGraph, run: Callable[[np.ndarray], dict[str, np.ndarray]], images: torch.Tensor, exact: bool = True
) -> list[Difference]:
    """Compare all outputs, in batches of 1, 3 and all images.

    Args:
        graph: The model, in float32.
        run: The file: ``(B, 3, H, W)`` uint8 -> outputs by name.
        images: ``(N, 3, H, W)`` uint8.
        exact: The file computes in float32.
    """
    differences: dict[str, list[np.ndarray]] = {name: [] for name in graph.output_names}
    for batch in (images[:1], images[1:4], images):
        if not len(batch):
            continue
        with torch.no_grad():
            expected = dict(zip(graph.output_names, graph(batch), strict=True))
        found = run(batch.numpy())
        for name, ours in expected.items():
            theirs = torch.from_numpy(np.asarray(found[name]))
            if name == 'parts':
                away = (theirs != ours).float().mean((1, 2))
            elif name == 'keypoints':
                away = (theirs - ours).norm(dim=-1)[expected['keypoint_scores'] >= CLEAR]
            else:
                away = (theirs - ours).abs()
            differences[name].append(away.flatten().numpy())
    limits = {'keypoints': 0.05, 'parts': 1e-3}
    results = []
    for name, pieces in differences.items():
        away = np.concatenate(pieces)
        worst, median = (float(f(away)) if away.size else 0.0 for f in (np.max, np.median))
        results.append(Difference(name, worst, median, limits.get(name, 1e-3) if exact else None))
    return results


def alternate(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU-seconds of this process for each way, called in turn after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.process_time()
            way()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}
