# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
# ruff: noqa: E402 (the path has to be mended first)
"""Draw a contact sheet and statistics of a rendered set: poses, scales, visibility, class pixels, skin tones, ages.

Usage: python tools/synthesis/report.py data/synthetic/train --out report
"""

from __future__ import annotations

import sys
from pathlib import Path

# inspect.py beside this script must not hide the standard library's `inspect`.
sys.path = [p for p in sys.path if Path(p or '.').resolve() != Path(__file__).resolve().parent]
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


from sapiens.commands.options import new_parser
from sapiens.errors import UserError, run_cli
from sapiens.utils.files import write_atomic


def main() -> None:
    """Write ``sheet.jpg`` and ``statistics.png``."""
    parser = new_parser(__doc__)
    parser.add_argument('folder', help='a manifest folder, e.g. data/synthetic/train')
    parser.add_argument('--out', required=True, help='folder for the pictures')
    parser.add_argument('--samples', type='count', default=8, help='samples on the sheet')
    parser.add_argument('--height', type='count', default=384, help='height of a sample on the sheet, pixels')
    args = parser.parse_args()
    from sapiens.datasets.label_files import encode_image
    from sapiens.synthesis.report import collect, contact_sheet, plot

    stats = collect(args.folder)
    if not stats['samples']:
        raise UserError(f'{args.folder}: holds no finished sample; run render.py first')
    out = Path(args.out)
    sheet = contact_sheet(args.folder, args.samples, args.height)
    write_atomic(out / 'sheet.jpg', encode_image(sheet, '.jpg', 85))
    write_atomic(out / 'statistics.png', encode_image(plot(stats), '.png'))
    print(f'{out}: sheet.jpg and statistics.png of {stats["samples"]} samples')


if __name__ == '__main__':
    run_cli(main)
