# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The answers of the inference page run word for word."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]


def test_common_tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / 'demo/images/astronaut.jpg', 'photo.jpg')
    Path('photos').mkdir()
    for name in ('a.jpg', 'b.jpg'):
        shutil.copy('photo.jpg', Path('photos', name))
    page = (ROOT / 'docs/inference.md').read_text()
    found: dict = {}
    for block in re.findall(
        r'```python\n(.*?)```', page.partition('## Common tasks')[2].partition('\n## ')[0], re.DOTALL
    ):
        exec(block, found)
    assert found['xy'].shape == (1, len(found['names']), 2) and found['body'].shape == (1, 17, 2)
    cut_out = cv2.imread('cut_out.png', cv2.IMREAD_UNCHANGED)
    assert cut_out.shape == (512, 512, 4)
    assert np.array_equal(cut_out[..., 3] == 255, found['mask']) and 0.3 < found['mask'].mean() < 0.8
    assert found['hair'].any() and not (found['hair'] & ~found['mask']).any()
    assert {'a.json', 'b_seg.png', 'results_coco.json'} <= {path.name for path in Path('out').iterdir()}
    points = np.loadtxt('points.xyz')
    assert points.shape == (found['result'].depth.valid.sum(), 6)
    assert np.allclose([points[:, 2].min(), points[:, 2].max()], [2, 2.4], atol=1e-3)
    assert found['heatmaps'].shape[:2] == (2, 308) and found['features'].ndim == 4


def test_what_the_page_says_of_generators_loops_over_them():
    """A line that only makes one would do nothing."""
    page = (ROOT / 'docs/inference.md').read_text()
    calls = re.findall(r'(\S+ )?(save_all|model\.extract)\(', page)
    assert len(calls) == 3 and all(before == 'in ' for before, _ in calls)
