# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Export a model: normalisation, encoder, heads and decoding in one file, with any batch size.

Example: sapiens export tiny --out tiny.onnx --check
         sapiens export configs/pose/sapiens_1b_308kpt.py work_dirs/mine/iter_1000.pth --out mine.onnx
         sapiens predict photo.jpg --model tiny.onnx
--check runs the file and compares every output with the model's, in batches of 1, 3 and 5; a float32 file that differs
ends with exit code 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    from ..apis.export import Export

# Those of all writers of `sapiens.deploy.export`, which is too heavy for a --help.
FORMATS = ('onnx', 'torch-export', 'openvino', 'executorch', 'coreml', 'tensorrt')
DTYPES = ('float32', 'float16', 'bfloat16', 'int8', 'int8-weights')


def main() -> int:
    """Read the options and export."""
    parser = options.new_parser(__doc__)
    parser.add_argument('model', help='name or config')
    parser.add_argument('checkpoint', nargs='?', help='weights; default: those of the name')
    parser.add_argument('--out', required=True, help='file to write')
    parser.add_argument('--format', choices=FORMATS, help='default: what the suffix of --out says')
    parser.add_argument('--dtype', choices=DTYPES, default='float32')
    parser.add_argument('--task', nargs='+', help='export only these heads')
    parser.add_argument('--calibration', metavar='FOLDER', help='photographs of people, for int8 and --check')
    parser.add_argument('--check', action='store_true', help='compare with the model, and time both')
    parser.add_argument('--licence', help="of the weights, for the file's metadata; default: of their known origin")
    parser.add_argument('--force', action='store_true', help='replace --out if it exists')
    args = parser.parse_args()
    if Path(args.out).exists() and not args.force:
        raise UserError(f'{args.out}: exists already; choose another name or give --force')
    from ..apis import load_model
    from ..apis.export import export
    from ..deploy.export import SUFFIXES

    format = args.format or {v: k for k, v in SUFFIXES.items()}.get(Path(args.out).suffix.lower())
    if format is None:
        raise UserError(f'{args.out}: say --format, or end the name in one of {", ".join(SUFFIXES.values())}')
    choices = (args.dtype, args.task and tuple(args.task), args.calibration, args.check, args.licence)
    done = export(load_model(args.model, args.checkpoint), args.out, format, *choices)
    beside = {'openvino': done.path.with_suffix('.bin'), 'onnx': done.path.with_name(f'{done.path.name}.data')}
    files = [done.path, *(file for kind, file in beside.items() if kind == format and file.is_file())]
    sizes = [sum(f.stat().st_size for f in (file, *file.rglob('*')) if f.is_file()) for file in files]
    print('written:', ', '.join(f'{file} ({size / 1e6:.1f} MB)' for file, size in zip(files, sizes, strict=True)))
    return _report(done) if args.check else 0


def _report(done: Export) -> int:
    """Print what the check found; the exit code."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title='The file against the model in float32')
    for column in ('output', 'unit', 'worst', 'median', 'limit', ''):
        table.add_column(column, justify='left' if column in ('output', 'unit') else 'right')
    units = {'keypoints': 'pixels', 'parts': 'share of pixels'}
    for d in done.differences:
        limit = '-' if d.limit is None else f'{d.limit:g}'
        mark = 'ok' if d.good else 'FAILED'
        table.add_row(d.name, units.get(d.name, ''), f'{d.worst:.1e}', f'{d.median:.1e}', limit, mark)
    console = Console()
    console.print(table)
    torch, file = done.seconds['torch'], done.seconds['file']
    console.print(f'one image: {torch:.3f} CPU-s in torch, {file:.3f} from the file ({torch / file:.2f}x)')
    return 0 if all(d.good for d in done.differences) else 1
