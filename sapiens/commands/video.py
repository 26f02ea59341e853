# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Run models on a video; write a drawn video with the original's sound, and one line of JSON per frame.

Example: sapiens video dance.mp4 --model pose_308_0.3b --out drawn.mp4
         sapiens video dance.mp4 --config mine.py --checkpoint iter_1000.pth --detector torchvision --track --smooth
Frames are streamed: memory does not grow with the video. A video that breaks in the middle is written up to there; the
break is reported and the exit code is 3. Ctrl-C leaves nothing half written.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from . import options


def main() -> int:
    """Read the options and run."""
    parser = options.new_parser(__doc__)
    parser.add_argument('video', help='video file')
    parser.add_argument('--out', default='outputs/video.mp4', help='video to write; default: outputs/video.mp4')
    parser.add_argument('--no-audio', action='store_true', help='leave the sound out')
    options.add_video_options(parser)
    options.add_inference_options(parser)
    args = parser.parse_args()
    from ..apis import cli
    from ..apis.stream import render_video
    from ..apis.video import video_facts
    from ..utils.progress import progress

    if Path(args.video).is_dir():
        raise UserError(f'{args.video}: is a folder; give a video, or its images to `sapiens predict`')
    if not Path(args.video).is_file():
        raise UserError(f'{args.video}: no such video; check the path')
    inferencer = cli.build_inferencer(args)
    total = video_facts(args.video)[1] or None
    total = min(total, args.max_frames) if total and args.max_frames else total or args.max_frames
    choices = (args.task, args.track, args.smooth, not args.no_audio, args.max_frames, args.threshold)
    with progress('frames', total, ' fps') as advance:
        done = render_video(inferencer, args.video, args.out, *choices, lambda *_: advance())
    print(f'{done.frames} frames -> {args.out} and {Path(args.out).with_suffix(".jsonl")}')
    return cli.report(done.failures, done.notes, done.frames)
