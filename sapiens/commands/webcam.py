# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Run models on a camera and show the pictures in a window (q ends), write a video, or both.

Example: sapiens webcam --model pose_308_0.3b
         sapiens webcam 1 --config my_config.py --checkpoint iter_1000.pth --no-window --out seen.mp4 --max-frames 300
"""

from __future__ import annotations

import os
import sys
from typing import Any

from ..errors import UserError
from . import options

WINDOW = 'Sapiens (q ends)'


def main() -> int:
    """Read the options and run."""
    parser = options.new_parser(__doc__)
    parser.add_argument('camera', type=int, nargs='?', default=0, help='number of the camera; default: 0')
    parser.add_argument('--out', help='video to write')
    parser.add_argument('--no-window', action='store_true', help='show nothing')
    options.add_video_options(parser)
    options.add_inference_options(parser)
    args = parser.parse_args()
    import cv2

    from ..apis import cli
    from ..apis.stream import render_video, stream_results

    if args.no_window and not args.out:
        raise UserError('--no-window without --out would do nothing: give --out VIDEO')
    if not args.no_window:
        _open_window()
    inferencer = cli.build_inferencer(args)

    def show(result: object, picture: Any) -> bool:
        if args.no_window:
            return False
        cv2.imshow(WINDOW, picture[..., ::-1])
        return cv2.waitKey(1) & 0xFF == ord('q')

    # A camera must not wait for a batch to fill.
    inferencer.batch_size = 1
    choices = (args.task, args.track, args.smooth)
    if args.out:
        done = render_video(inferencer, args.camera, args.out, *choices, False, args.max_frames, args.threshold, show)
        print(f'{done.frames} frames -> {args.out}')
        return cli.report(done.failures, done.notes, done.frames)
    shown, results = 0, stream_results(inferencer, args.camera, *choices, args.max_frames)
    for result in results:
        shown += 1
        if show(result, result.draw(threshold=args.threshold)):
            break
    return cli.report(results.failures, results.notes, shown)


def _open_window() -> None:
    """Open the window before a model is loaded.

    Raises:
        UserError: There is no screen (where OpenCV would end the process), or OpenCV was built without windows.
    """
    import cv2

    screens = ('DISPLAY', 'WAYLAND_DISPLAY')
    mend = 'write a video instead: --no-window --out VIDEO'
    if sys.platform.startswith('linux') and not any(os.environ.get(name) for name in screens):
        raise UserError(f'no screen: neither {" nor ".join(screens)} is set; {mend}')
    try:
        cv2.namedWindow(WINDOW)
    except cv2.error:
        raise UserError(f'this OpenCV opens no windows: install opencv-python, or {mend}') from None
