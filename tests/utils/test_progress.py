# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The bar says how fast the whole goes, however results come."""

import io
import time

from rich.console import Console

from sapiens.utils.progress import progress


def test_results_that_come_at_once_are_no_speed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress('frames', 4, ' fps', console) as advance:
        now[0] = 8.0
        for _ in range(4):
            advance('2 bad')
        advance('3 bad', 0)
    last = console.file.getvalue().rpartition('frames')[2]
    assert '4/4' in last and '0.5 fps' in last and '3 bad' in last
