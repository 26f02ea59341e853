# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Precision and recall of each filter on a set of make_test_set.py that `sapiens curate` has curated, as markdown.

python tools/curation/score_filters.py data/made/set data/made/curated
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sapiens.commands.options import new_parser
from sapiens.curation.filter_scores import score_filters
from sapiens.errors import run_cli


def main() -> None:
    """Print the table."""
    parser = new_parser(__doc__)
    parser.add_argument('set', type=Path, help='folder of make_test_set.py')
    parser.add_argument('out', type=Path, help='folder of the curation')
    args = parser.parse_args()
    print('| filter | images of its kind | precision | recall | good images it drops | of its kind dropped at all |')
    print('|---|---|---|---|---|---|')
    for name, count, precision, recall, good, dropped in score_filters(args.set, args.out):
        share = '' if dropped is None else f'{dropped:.3f} '
        print(f'| {name} | {count} | {precision:.3f} | {recall:.3f} | {good} | {share}|')


if __name__ == '__main__':
    run_cli(main)
