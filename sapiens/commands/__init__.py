# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The commands that users type: one module each, with its options and a ``main()``.

`sapiens.cli` lists them; the scripts in ``tools/`` and ``demo/`` call the same functions. A module imports nothing
heavy before its options are read, so that ``--help`` and a mistyped option answer at once.
"""
