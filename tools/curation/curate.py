# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""`sapiens curate` as a script: python tools/curation/curate.py CONFIG SOURCE OUT [options]; --help lists them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sapiens.commands.curate import main
from sapiens.errors import run_cli

if __name__ == '__main__':
    run_cli(main)
