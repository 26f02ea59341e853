# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The bar of a long command shows the rate of the whole run."""

import io
import re
import time

from rich.console import Console

from sapiens.utils.progress import progress


def test_the_rate_is_that_of_the_run_not_of_a_batch():
    file = io.StringIO()
    with progress('frames', 4, ' fps', Console(file=file, width=120)) as advance:
        time.sleep(0.4)  # a batch of four is made, then all are there at once
        for i in range(4):
            advance(f'photo {i}')
    shown = file.getvalue()
    assert '4/4' in shown and 'photo 3' in shown
    assert 0 < float(re.search(r'([\d.]+) fps', shown)[1]) <= 10
