# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Memory of a long video: resident MB at chosen frames of a 1080p video through the whole of video_demo's machinery.

Usage: python benchmarks/video_memory.py [--frames 300] [--size 1080 1920] [--at 50 300]
A video with sound is made in a temporary folder; the tiny pose model has random weights (memory does not depend
on them).
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from load_checkpoint import resident

ROOT = Path(__file__).resolve().parents[1]


def make_video(path: Path, frames: int, size: tuple[int, int]) -> None:
    """A square that moves over a gradient, with a tone."""
    import av
    import numpy as np

    height, width = size
    ramp = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
    with av.open(str(path), 'w') as out:
        video = out.add_stream('libx264', rate=30)
        video.height, video.width, video.pix_fmt, video.options = height, width, 'yuv420p', {'preset': 'ultrafast'}
        sound = out.add_stream('aac', rate=48000, layout='mono')
        for i in range(frames):
            image = np.broadcast_to(ramp, (height, width, 3)).copy()
            image[height // 4 : height // 2, (7 * i) % width : (7 * i) % width + 200] = (220, 40, 40)
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
            tone = np.sin(np.arange(1600) * 0.06).astype(np.float32)[None]
            samples = av.AudioFrame.from_ndarray(tone, format='fltp', layout='mono')
            samples.sample_rate, samples.pts = 48000, 1600 * i
            out.mux(sound.encode(samples))
        out.mux(video.encode())
        out.mux(sound.encode())


def main() -> None:
    """Make the video, run it and print the memory."""
    import torch
    from mmengine.registry import init_default_scope

    from sapiens.apis import Inferencer
    from sapiens.apis.stream import render_video
    from sapiens.engine.config import load_config
    from sapiens.registry import MODELS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--frames', type=int, default=300)
    parser.add_argument('--size', type=int, nargs=2, default=(1080, 1920))
    parser.add_argument('--at', type=int, nargs='+', default=[50, 300])
    args = parser.parse_args()
    config = ROOT / 'configs/pose/sapiens_tiny_133kpt.py'
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        init_default_scope('sapiens')
        torch.save(MODELS.build(load_config(config).model).state_dict(), folder / 'tiny.pth')
        make_video(folder / 'in.mp4', args.frames, tuple(args.size))
        inferencer = Inferencer(config, folder / 'tiny.pth', device='cpu')
        seen: dict[int, float] = {}

        def note(result: object, picture: object) -> None:
            if result.index + 1 in args.at:
                gc.collect()
                seen[result.index + 1] = resident()

        start = time.perf_counter()
        count = render_video(inferencer, folder / 'in.mp4', folder / 'out.mp4', on_frame=note).frames
        rate = count / (time.perf_counter() - start)
    print(
        f'{count} frames at {rate:.1f} fps; resident memory '
        + ', '.join(f'{mb:.0f} MB at frame {i}' for i, mb in seen.items())
    )


if __name__ == '__main__':
    main()
