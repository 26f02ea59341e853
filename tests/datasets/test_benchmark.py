# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The pipeline benchmark runs."""


def test_pipeline_benchmark_prints_its_table(run_script):
    done = run_script('benchmarks/pipeline.py', '--rounds', '1', '--vocabulary', 'coco17')
    assert done.code == 0, done.err
    for word in ('straightforward', 'decode', 'heatmaps', 'samples/s per core', 'ratio'):
        assert word in done.out
