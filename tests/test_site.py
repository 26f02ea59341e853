# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The documentation site builds, with no broken link between its pages and no page that the menu lacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_site_builds(tmp_path):
    for module in ('material', 'mkdocstrings'):
        pytest.importorskip(module, reason="the site needs pip install -e '.[docs]'")
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet', '--site-dir', str(tmp_path / 'site')]
    env = {**os.environ, 'NO_MKDOCS_2_WARNING': '1'}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ('index', 'architecture/index', 'api/apis/index'):
        assert (tmp_path / f'site/{page}.html').is_file()
    assert 'class="doc doc-object doc-class"' in (tmp_path / 'site/api/apis/index.html').read_text()
