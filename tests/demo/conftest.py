# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The tiny models of the tests of ``sapiens.apis``, and a way to run a script inside this process."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tests/apis'))

from tiny_models import make_model  # noqa: E402, F401 (a fixture)


@pytest.fixture
def run(capsys, monkeypatch):
    """``run('image_demo.py', *arguments) -> (exit code, stdout, stderr)``."""

    def script(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / 'demo' / name), run_name='__main__')
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return script
