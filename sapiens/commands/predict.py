# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Run models on an image, a folder or a pattern; write one picture per task, JSON and npz.

Example: sapiens predict photos/ --model pose_308 --checkpoint sapiens_0.3b_308kpt.safetensors --out-dir results
         sapiens predict photo.jpg --config my_config.py --checkpoint iter_1000.pth --task pose --bbox 10,20,200,400
--config (or --model NAME) and --checkpoint may be given several times. Images that cannot be read are listed at the
end; the exit code is then 3.
"""

from __future__ import annotations

from . import options


def main() -> int:
    """Read the options and run."""
    parser = options.new_parser(__doc__)
    parser.add_argument('source', help='image, folder, or pattern in quotes')
    parser.add_argument('--out-dir', default='outputs', help='folder for the results; default: outputs')
    parser.add_argument('--no-arrays', action='store_true', help='write no npz and no PNG maps')
    parser.add_argument(
        '--masks', help='folder of PNGs named like the images: people, where depth and normals are valid'
    )
    options.add_inference_options(parser)
    args = parser.parse_args()
    from ..apis import cli

    inferencer = cli.build_inferencer(args)
    done = 0
    for result in inferencer(args.source, tasks=args.task, masks=args.masks):
        files = result.save(args.out_dir, arrays=not args.no_arrays, threshold=args.threshold)
        done += 1
        print(f'{result.path or result.name}: {len(result.boxes)} person(s) -> {", ".join(map(str, files))}')
    print(f'{done} image(s), results in {args.out_dir}')
    return cli.report_failures(inferencer, done)
