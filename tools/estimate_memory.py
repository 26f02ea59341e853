# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""`sapiens estimate-memory` as a script: python tools/estimate_memory.py CONFIG [options]; --help lists them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sapiens.commands.estimate_memory import main
from sapiens.errors import run_cli

if __name__ == '__main__':
    run_cli(main)
