# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Run models on images, folders or patterns; write one picture per task, JSON and PNG maps.

Example: sapiens predict photos/ --model pose_308_0.3b --out-dir results
         sapiens predict one.jpg two.jpg 'more/*.png' --out-dir results
         sapiens predict photo.jpg --config my_config.py --checkpoint iter_1000.pth --task pose --bbox 10,20,200,400
--config (or --model NAME) and --checkpoint may be given several times. Images that cannot be read are listed at the
end; the exit code is then 3. Several images also get one results_coco.json.
"""

from __future__ import annotations

from pathlib import Path

from . import options


def main() -> int:
    """Read the options and run."""
    parser = options.new_parser(__doc__)
    parser.add_argument('source', nargs='+', help='images, folders, or patterns in quotes')
    parser.add_argument('--out-dir', default='outputs', help='folder for the results; default: outputs')
    arrays = parser.add_mutually_exclusive_group()
    arrays.add_argument('--arrays', action='store_true', default=None, help='also write npz, at full precision')
    arrays.add_argument('--no-arrays', action='store_false', dest='arrays', help='write no PNG maps and no npz')
    parser.add_argument('--image-ids', metavar='JSON', help='COCO annotations whose image ids the COCO results get')
    parser.add_argument(
        '--masks', help='folder of PNGs named like the images: people, where depth and normals are valid'
    )
    options.add_inference_options(parser)
    args = parser.parse_args()
    from ..apis import cli, save_all
    from ..apis.files import find_files, without_results
    from ..apis.video import is_video
    from ..utils.progress import progress

    # What is not there is said before anything is loaded.
    found = [find_files(source) for source in args.source]
    files = [file for paths, _ in found for file in paths]
    if len(args.source) > 1:  # the shell has made them of a pattern, perhaps
        files, note = without_results(files, 'the sources')
        found.append(([], note))
    inferencer = cli.build_inferencer(args)
    alone = len(files) == 1 and files[0] == Path(args.source[0]).expanduser()
    done, empty, results = 0, 0, inferencer(files[0] if alone else files, tasks=args.task, masks=args.masks)
    results.notes += [note for _, note in found if note]
    saving = dict(arrays=args.arrays, threshold=args.threshold, image_ids=args.image_ids)
    with progress('frames', None if any(map(is_video, files)) else len(files), ' fps') as advance:
        for result, written in save_all(results, args.out_dir, **saving):
            done += 1
            advance()
            empty += result.searched and not len(result.boxes)
            who = f'{len(result.boxes)} person(s)' if result.searched else 'the whole image'
            print(f'{result.path or result.name}: {who} -> {", ".join(map(str, written))}')
    if empty:
        results.notes.append(
            f'nobody was found in {empty} of {done} image(s): say --detector whole where one person fills the image, '
            '--bbox x1,y1,x2,y2, or another --detector (docs/inference.md)'
        )
    print(f'{done} image(s), results in {args.out_dir}')
    return cli.report(results.failures, results.notes, done)
