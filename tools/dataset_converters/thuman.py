# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Renders of THuman2.x scans to a manifest: one folder per scan, in it folders of views.

    python tools/dataset_converters/thuman.py data/thuman2_36views data/thuman2 --views 0,90,180,270

The layout is the usual one of such renders, ``SCAN/render/VIEW.png`` (transparent where there is no person),
``SCAN/normal_F/VIEW.png`` and ``SCAN/depth_F/VIEW.png``; other names by options. Depth is read only when
``--depth-unit`` says how many metres a unit of its 16-bit files is.
"""

from __future__ import annotations

from pathlib import Path

from conversion import (
    Conversion,
    add_normal_options,
    check_axes,
    converter_parser,
    named_files,
    read_depth,
    read_mask,
    read_normals,
)

from sapiens.errors import UserError, run_cli


def main() -> None:
    """Convert."""
    parser = converter_parser(__doc__)
    parser.add_argument('--render-dir', default='render')
    parser.add_argument('--normal-dir', default='normal_F')
    parser.add_argument('--depth-dir', default='depth_F')
    parser.add_argument('--mask-dir', help='folder of masks; default: the transparency of the renders')
    parser.add_argument('--depth-unit', type='amount', help='metres per unit of 16-bit depth files')
    parser.add_argument('--views', type=numbers, help='names of the views to take, e.g. 0,90,180,270; default: all')
    add_normal_options(parser)
    args = parser.parse_args()
    samples = list(find_views(args))[: args.limit]
    if not samples:
        raise UserError(f'{args.root}: no SCAN/{args.render_dir}/VIEW.png is there (or none of the views asked for)')
    if not args.trust_axes:
        check_axes(((s['normals'], s['mask']) for s in samples if 'normals' in s), args.normal_axes, not args.bgr)
    with Conversion(args, depth_scale=args.depth_unit or 0.001, source='renders of THuman2.x') as conversion:
        for sample in samples:
            mask = read_mask(sample['mask'])
            labels = {'mask': mask}
            if 'normals' in sample:
                labels['normals'] = read_normals(sample['normals'], args.normal_axes, not args.bgr) * mask[..., None]
            if 'depth' in sample:
                labels['depth'] = read_depth(sample['depth'], args.depth_unit) * mask
            conversion.add(sample['name'], sample['image'], **labels)


def numbers(text: str) -> set[int]:
    """Of ``'0,90'``."""
    return {int(number) for number in text.split(',')}


def find_views(args) -> list[dict]:
    """Files of every view of every scan."""
    found = []
    for scan in sorted(path for path in Path(args.root).iterdir() if (path / args.render_dir).is_dir()):
        others = {'normals': args.normal_dir, 'mask': args.mask_dir}
        if args.depth_unit is not None:
            others['depth'] = args.depth_dir
        folders = {k: named_files(scan / v) for k, v in others.items() if v and (scan / v).is_dir()}
        for name, image in named_files(scan / args.render_dir, ('.png', '.jpg', '.jpeg')).items():
            if args.views is not None and (not name.isdigit() or int(name) not in args.views):
                continue
            sample = {'name': f'{scan.name}_{name}', 'image': image, 'mask': image}
            for kind, files in folders.items():
                if name not in files:
                    raise UserError(f'{scan}: view {name} has a render but no {kind}')
                sample[kind] = files[name]
            found.append(sample)
    return found


if __name__ == '__main__':
    run_cli(main)
