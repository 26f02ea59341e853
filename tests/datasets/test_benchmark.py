# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The pipeline benchmark runs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_pipeline_benchmark_prints_its_table():
    command = [sys.executable, str(ROOT / 'benchmarks/pipeline.py'), '--rounds', '1', '--vocabulary', 'coco17']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word in ('straightforward', 'decode', 'heatmaps', 'samples/s per core', 'ratio'):
        assert word in done.stdout
