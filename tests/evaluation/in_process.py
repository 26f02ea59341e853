# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Run a script of ``tools/`` in this process: the import of torch is what takes long in a new one."""

import contextlib
import importlib.util
import io
import sys
import types
from pathlib import Path

import pytest

from sapiens.errors import run_cli

TOOLS = Path(__file__).parents[2] / 'tools'


def run_tool(script, *arguments):
    """Exit code, output and errors of ``python tools/SCRIPT ARGUMENTS``."""
    path = TOOLS / script
    out, error = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(SystemExit) as end,
    ):
        patch.syspath_prepend(str(path.parent))
        patch.setattr(sys, 'argv', [path.name, *map(str, arguments)])
        specification = importlib.util.spec_from_file_location(path.stem, path)
        tool = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(tool)
        run_cli(tool.main)
    return types.SimpleNamespace(code=end.value.code, out=out.getvalue(), error=error.getvalue())
