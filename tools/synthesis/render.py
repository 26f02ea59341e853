# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""`sapiens render` as a script: python tools/synthesis/render.py --out DIR --num N [options]; --help lists them."""

import sys
from pathlib import Path

# inspect.py beside this script must not hide the standard library's `inspect`.
sys.path = [p for p in sys.path if Path(p or '.').resolve() != Path(__file__).resolve().parent]
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sapiens.commands.render import main  # noqa: E402
from sapiens.errors import run_cli  # noqa: E402

if __name__ == '__main__':
    run_cli(main)
