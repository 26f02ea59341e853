# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""A way to use the scripts as a user does, without the seconds of a new process; the order of the files of tests."""

import gc
import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from sapiens.engine import precision
from sapiens.errors import run_cli

ROOT = Path(__file__).parents[1]
os.environ['HF_HUB_OFFLINE'] = '1'  # no test asks the network; those of the hub talk to one of their own

# Files whose tests start processes that train.
LONGEST = (
    'tests/e2e/',
    'tests/engine/test_processes.py',
    'tests/engine/test_resume.py',
    'tests/tools/',
    'tests/test_failures.py',
)


def pytest_collection_modifyitems(items):
    """The longest files first, so that several processes of tests end together; tests of minutes may take an hour."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
    for item in items:
        if item.get_closest_marker('slow') or item.get_closest_marker('wheel'):
            item.add_marker(pytest.mark.timeout(3600))


def pytest_collection_finish(session):
    """What the imports have made stays: mmengine collects garbage for every data set and need not look at it."""
    gc.freeze()


@pytest.fixture(autouse=True)
def no_default_scope():
    """Forget the scope that a Runner of an earlier test made the default of the process."""
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def float32_on_this_cpu(monkeypatch):
    """Inference in bf16 where a CPU has it would make the expected numbers those of a machine."""
    monkeypatch.setattr(precision, 'bf16_is_faster_here', lambda: False)


@pytest.fixture
def forget_runs():
    """Call it between runs in this process: those that begin in the same second would share logger and scalars."""

    def forget():
        for kind in (MMLogger, MessageHub, Visualizer):
            kind._instance_dict.clear()

    return forget


@pytest.fixture
def run_script(capsys, monkeypatch, forget_runs):
    """``run_script('tools/train.py', *arguments)`` -> namespace of code, out and err."""

    def call(script, *arguments):
        path = ROOT / script
        spec = importlib.util.spec_from_file_location(f'script_{path.stem}', path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setattr(sys, 'argv', [path.name, *map(str, arguments)])
        capsys.readouterr()
        forget_runs()
        with pytest.raises(SystemExit) as end:
            spec.loader.exec_module(module)
            run_cli(module.main)
        out, err = capsys.readouterr()
        return types.SimpleNamespace(code=end.value.code or 0, out=out, err=err)

    return call
