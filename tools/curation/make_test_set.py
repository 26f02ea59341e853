# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A set of images with known answers, to see what filters find: made from renders of people and photos without any.

sapiens render --out data/made/people --num 2000 --size 512x384 --assets fixture --val-fraction 0
python tools/curation/make_test_set.py data/made/people data/backgrounds data/made/set --num 2000
sapiens curate configs/curation/humans_offline.py data/made/set/images data/made/curated
python tools/curation/score_filters.py data/made/set data/made/curated
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.progress import track

from sapiens.commands.options import new_parser
from sapiens.curation.made_set import make_set
from sapiens.errors import run_cli


def main() -> None:
    """Make the set."""
    parser = new_parser(__doc__)
    parser.add_argument('people', help='manifest folder of renders')
    parser.add_argument('backgrounds', help='folder of photos without people, and of .hdr panoramas')
    parser.add_argument('out', type=Path, help='folder to fill')
    parser.add_argument('--num', type='count', default=2000)
    parser.add_argument('--seed', type='number', default=0)
    args = parser.parse_args()
    for _ in track(make_set(args.people, args.backgrounds, args.out, args.num, args.seed), 'images', total=args.num):
        pass


if __name__ == '__main__':
    run_cli(main)
