# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Persons through a video: ids that stay, and keypoints that do not tremble."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Generator, Iterable
from typing import Any

import numpy as np

from ..errors import MissingPackageError
from .detectors import Detections
from .results import ImageResult
from .sources import Frame

SURE = 0.25
"""Score from which a box may begin a track. That it is a person the detector has said: scores of ours are near 0.5,
where those of others are near 1."""
SEVERAL = 'several persons in a frame are not smoothed without a tracker; add --track'


class Tracker:
    """A detector whose persons keep their id from frame to frame: ByteTrack of ``trackers``, or of older supervision.

    Raises:
        MissingPackageError: Neither library is installed.
    """

    def __init__(self, detector: Callable[[Frame], Detections]) -> None:
        self.detector = detector
        if importlib.util.find_spec('trackers') is not None:
            from trackers import ByteTrackTracker

            self._update = ByteTrackTracker(track_activation_threshold=SURE, high_conf_det_threshold=SURE).update
        elif importlib.util.find_spec('supervision') is not None and importlib.util.find_spec('supervision.tracker'):
            from supervision import ByteTrack

            # It begins tracks from 0.1 above.
            self._update = ByteTrack(track_activation_threshold=SURE - 0.1).update_with_detections
        else:
            raise MissingPackageError(
                "tracking needs ByteTrack: pip install 'sapiens-toolkit[demo]', or trackers, or with numpy 1 "
                "'supervision<0.28'"
            )

    def __call__(self, frame: Frame) -> Detections:
        """Persons with ids; those that the tracker is not sure of yet have none (-1)."""
        import supervision

        found = self.detector(frame)
        given = supervision.Detections(
            xyxy=found.boxes.astype(np.float32).reshape(-1, 4),
            confidence=found.scores.astype(np.float32),
            class_id=np.zeros(len(found.boxes), int),
        )
        tracked = self._update(given)
        ids = tracked.tracker_id if tracked.tracker_id is not None else np.full(len(tracked.xyxy), -1)
        boxes = np.asarray(tracked.xyxy, np.float32).reshape(-1, 4)
        scores = np.ones(len(boxes), np.float32) if tracked.confidence is None else tracked.confidence
        return Detections(boxes, np.asarray(scores, np.float32), np.asarray(ids, np.int64))


class OneEuroFilter:
    """Low-pass filter whose cut-off rises with speed (Casiez, Roussel and Vogel, CHI 2012): calm when still, no lag.

    Args:
        min_cutoff: Hz at rest; lower = calmer.
        beta: How fast the cut-off rises with speed, in Hz per unit of speed.
        d_cutoff: Hz of the filter on the speed.
    """

    def __init__(self, min_cutoff: float = 1.0, beta: float = 0.3, d_cutoff: float = 1.0) -> None:
        self.min_cutoff, self.beta, self.d_cutoff = min_cutoff, beta, d_cutoff
        self.time: float | None = None
        self.value: np.ndarray | None = None
        self.speed: np.ndarray | None = None

    def __call__(self, value: np.ndarray, time: float, unit: float = 1.0) -> np.ndarray:
        """Filter the values of one moment.

        Args:
            value: Of any shape; one that is not finite restarts its own filter.
            unit: What a speed of 1 is, in the values' own unit a second. It may change: the values do not pass it.
        """
        value = np.asarray(value, np.float64)
        if self.time is None or self.value is None or time <= self.time:
            self.time, self.value, self.speed = time, value, np.zeros_like(value)
            return value
        step = time - self.time
        previous = np.where(np.isfinite(self.value), self.value, value)
        speed = np.nan_to_num((value - previous) / step)
        weight = _weight(self.d_cutoff, step)
        speed = weight * speed + (1 - weight) * self.speed
        weight = _weight(self.min_cutoff + self.beta * np.abs(speed) / unit, step)
        self.time, self.speed = time, speed
        self.value = weight * value + (1 - weight) * previous
        return self.value


def _weight(cutoff: Any, step: float) -> Any:
    turn = 2 * np.pi * cutoff * step
    return turn / (turn + 1)


def smooth(
    results: Iterable[ImageResult], rate: float = 30.0, notes: list[str] | None = None, **options: float
) -> Generator[ImageResult, None, None]:
    """Smooth the keypoints of each person of a video over time.

    Pixels are filtered; the size of the person's box only says what is fast, since boxes tremble too.

    Args:
        results: Of a video, in order, with ids of a tracker (or one person).
        rate: Frames per second, where results have no time.
        notes: Where there was no tracker: several persons of a frame are left as they are, since nobody knows who is
            who in the next one, and that is said here. None: there was one.
        options: Of `OneEuroFilter`, for speeds in sides of the person's box a second.
    """
    filters: dict[int, OneEuroFilter] = {}
    for result in results:
        points = result.keypoints
        if notes is not None and points is not None and len(points) > 1:
            filters.clear()
            if SEVERAL not in notes:
                notes.append(SEVERAL)
        elif points is not None and len(points):
            now = result.time if result.time is not None else result.index / rate
            xy = points.xy.copy()
            for i, person in enumerate(points.instance_ids.tolist()):
                if person < 0:
                    continue
                one = filters.setdefault(person, OneEuroFilter(**options))
                if one.time is not None and now - one.time > 1.0:  # seen again after a second: start anew
                    one = filters[person] = OneEuroFilter(**options)
                side = max(float(np.sqrt(np.prod(points.boxes[i, 2:] - points.boxes[i, :2]))), 1.0)
                xy[i] = one(points.xy[i], now, side)
            result.keypoints = dataclasses.replace(points, xy=xy.astype(np.float32))
        yield result
