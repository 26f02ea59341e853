# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The pipeline benchmark runs, and both of its pipelines give the same samples."""

import re


def test_pipeline_benchmark_compares_and_prints_its_tables(run_script):
    done = run_script('benchmarks/pipeline.py', '--rounds', '1', '--size', '540', '960', '--tasks', 'pose', 'normals')
    assert done.code == 0, done.err
    text = re.sub(r'\s+', ' ', done.out)
    for word in ('straightforward', 'decode labels', 'heatmaps', 'whole sample', 'samples/s per core', 'ratio'):
        assert word in text, word
    levels = [float(v) for v in re.findall(r'image ([\d.]+) grey levels', text)]
    assert len(levels) == 2 and max(levels) < 2
    assert float(re.search(r'keypoints ([\d.e+-]+) px', text)[1]) < 1e-3
    assert float(re.search(r'normals ([\d.]+) degrees', text)[1]) < 1
