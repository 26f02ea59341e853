# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Choose images for pretraining: score, find duplicates, decide and pack into shards, with a report.

SOURCE is a folder of images, a .txt of paths, tar shards ('crawl/{00000..00127}.tar' or a folder of them) or parquet
files of paths or bytes. OUT gets scores/, pairs.parquet, decisions/ (parquet), failed.txt, shards/ (tar) and report/.
Run the same command again to go on after an interruption, or with other thresholds (reject=...) in the config, which
repeats only the last of the three jobs.

Example: sapiens curate configs/curation/humans.py data/crawl data/curated
         sapiens curate configs/curation/humans.py data/crawl data/curated --address auto
         sapiens curate configs/curation/humans_offline.py photos out --cfg-options stages.persons.reject.min_side=200
"""

from __future__ import annotations

from pathlib import Path

from . import options


def main() -> None:
    """Read the options and curate."""
    parser = options.new_parser(__doc__)
    options.add_config_options(parser, 'config of the stages, e.g. configs/curation/humans_offline.py')
    parser.add_argument('source', help='folder, .txt, .tar or .parquet; patterns in quotes')
    parser.add_argument('out', type=Path, help='folder to fill')
    parser.add_argument('--address', help="Ray cluster: 'auto' or HOST:PORT; default: this machine alone")
    parser.add_argument('--num-cpus', type='count', help='CPUs to use of this machine; default: all')
    parser.add_argument('--store-mb', type='count', help="memory for images on their way; default: Ray's, 30 %% of all")
    args = parser.parse_args()
    from ..curation.curate import curate
    from ..engine.config import load_config

    config = load_config(args.config, args.cfg_options)
    curate(config.to_dict(), args.source, args.out, args.address, args.num_cpus, args.store_mb)
