# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Run models on a camera and show the pictures in a window (q ends), write a video, or both.

Usage: python demo/webcam_demo.py [CAMERA_NUMBER] --config CONFIG --checkpoint FILE [--task ...] [--out out.mp4]
       [--no-window] [--max-frames N]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sapiens.errors import UserError, run_cli


def main() -> int:
    """Read the options and run."""
    import cv2

    from sapiens.apis import cli
    from sapiens.apis.stream import render_video, stream_results

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('camera', type=int, nargs='?', default=0, help='number of the camera; default: 0')
    parser.add_argument('--out', help='video to write')
    parser.add_argument('--no-window', action='store_true', help='show nothing')
    cli.add_video_options(parser)
    cli.add_options(parser)
    args = parser.parse_args()
    if args.no_window and not args.out:
        raise UserError('--no-window without --out would do nothing: give --out VIDEO')
    inferencer = cli.build_inferencer(args)

    def show(result: object, picture: object) -> bool:
        if args.no_window:
            return False
        cv2.imshow('Sapiens (q ends)', picture[..., ::-1])
        return cv2.waitKey(1) & 0xFF == ord('q')

    # A camera must not wait for a batch to fill.
    inferencer.batch_size = 1
    options = (args.task, args.track, args.smooth)
    if args.out:
        count = render_video(inferencer, args.camera, args.out, *options, False, args.max_frames, args.threshold, show)
        print(f'{count} frames -> {args.out}')
        return 0
    for result in stream_results(inferencer, args.camera, *options, args.max_frames):
        if show(result, result.draw(threshold=args.threshold)):
            break
    return 0


if __name__ == '__main__':
    run_cli(main)
