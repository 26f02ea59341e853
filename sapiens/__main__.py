# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""``python -m sapiens COMMAND``: the console command where no script is installed, e.g. under torchrun."""

from .cli import main

if __name__ == '__main__':
    main()
