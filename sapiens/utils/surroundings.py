# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Inference inside another program that has switched something on in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def out_of_surroundings() -> Iterator[None]:
    """Leave autocast and the default device of the caller; also a decorator.

    A model has the precision and the device that it was made with. Autocast would round the last layer of its heads
    too, and a default device takes the small tensors of decoding away from those that they meet.
    """
    kinds = ('cpu', 'cuda', *(('mps',) if torch.backends.mps.is_available() else ()))
    with ExitStack() as stack:
        for kind in kinds:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != 'cpu':
            stack.enter_context(torch.device('cpu'))
        yield
