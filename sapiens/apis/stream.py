# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A video through an `Inferencer` into a drawn video and a line of JSON per frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.image_files import VIDEO_EXTENSIONS
from ..errors import UserError
from ..utils.files import replace_when_done
from .background import WriteBehind
from .inferencer import Inferencer, Results
from .results import ImageResult
from .saving import describe_result
from .sources import Failure
from .tracking import Tracker, smooth
from .video import is_video, video_facts
from .video_writer import VideoWriter


@dataclass(frozen=True)
class RenderedVideo:
    """What `render_video` did: frames written, where the source broke, and what became of its sound."""

    frames: int
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def stream_results(
    inferencer: Inferencer,
    source: Any,
    tasks: list[str] | None = None,
    track: bool = False,
    smoothing: bool = False,
    max_frames: int | None = None,
) -> Results:
    """Results of a video or camera, frame by frame; their ``failures`` tell where the video broke.

    Args:
        source: Video file or camera number.
        track: Give persons ids that stay (see `Tracker`).
        smoothing: Smooth keypoints over time (see `smooth`), of several persons with ``track`` alone.
    """
    detect = Tracker(inferencer.detector) if track else None
    results = inferencer(source, tasks=tasks, detect=detect, limit=max_frames)
    if smoothing:
        smoothed = smooth(results, notes=None if track else results.notes)
        return Results(smoothed, results.failures, results.notes)
    return results


def render_video(
    inferencer: Inferencer,
    source: str | Path | int,
    out: str | Path,
    tasks: list[str] | None = None,
    track: bool = False,
    smoothing: bool = False,
    audio: bool = True,
    max_frames: int | None = None,
    threshold: float = 0.3,
    on_frame: Callable[[ImageResult, np.ndarray], bool | None] | None = None,
) -> RenderedVideo:
    """Draw the results into a video, with the times and the sound of the original, and write ``OUT.jsonl`` beside it.

    Both files appear when they are complete. An interruption (Ctrl-C) or error leaves nothing half written; a video
    that breaks is written up to there.

    Args:
        source: Video file or camera number.
        threshold: Keypoints with a lower score are not drawn.
        on_frame: Called with each result and its picture; True ends the video there.
    """
    out = Path(out)
    rate, aspect, sound = 30.0, None, None
    if not isinstance(source, int):
        if not is_video(source) and Path(source).is_file():
            raise UserError(
                f'{source}: is no video by its name ({", ".join(VIDEO_EXTENSIONS)}); for images there is '
                '`sapiens predict`'
            )
        if Path(source).resolve() == out.resolve():
            raise UserError(f'{out}: is the video itself; write the result to another name')
        if Path(source).is_file():
            (rate, _, aspect), sound = video_facts(source), source if audio else None
    count, whole = 0, True
    with ExitStack() as stack:
        lines_path = stack.enter_context(replace_when_done(out.with_suffix('.jsonl')))
        lines = stack.enter_context(open(lines_path, 'w', encoding='utf-8'))
        writer = stack.enter_context(VideoWriter(out, rate, sound, aspect))
        behind = stack.enter_context(WriteBehind())
        results = stream_results(inferencer, source, tasks, track, smoothing, max_frames)
        for result in results:
            picture = result.draw(threshold=threshold)
            behind.submit(writer.write, picture, result.time)
            lines.write(json.dumps(describe_result(result)) + '\n')
            count += 1
            if on_frame is not None and on_frame(result, picture):
                whole = False
                break
        behind.finish()
        if not count:
            raise UserError(results.failures[0].message if results.failures else f'{source}: gave no frame')
        if whole and not results.failures and (max_frames is None or count < max_frames):
            writer.copy_sound()
    return RenderedVideo(count, results.failures, [*results.notes, *writer.notes])
