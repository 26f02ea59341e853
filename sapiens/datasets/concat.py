# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Several data sets as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.dataset import ConcatDataset as _ConcatDataset

from ..registry import DATASETS


@DATASETS.register_module()
class ConcatDataset(_ConcatDataset):
    """mmengine's, of data sets that may have different labels: each names its own (``labels``), heads skip the rest.

    What they must have in common is checked where model and data meet (`sapiens.engine.complete.check_agreement`), so
    their ``metainfo`` is that of all, where they differ that of the first.

    Args:
        datasets: Configs or data sets.
        lazy_init: Read no annotations yet.
        **theirs: mmengine's ``ignore_keys``, which is not needed.
    """

    def __init__(self, datasets: Sequence[Any], lazy_init: bool = False, **theirs: Any) -> None:
        self.datasets = [DATASETS.build(part) if isinstance(part, dict) else part for part in datasets]
        self._metainfo = {key: value for part in self.datasets[::-1] for key, value in part.metainfo.items()}
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()


def leaves_of(dataset: Any) -> Iterator[Any]:
    """The data sets that really read, inside concatenations, repetitions and other wrappers."""
    own = getattr(dataset, '__dict__', {})  # not what a wrapper passes on of the inner one
    wrapped = own.get('datasets') or [own.get('dataset')]
    if wrapped[0] is None:
        yield dataset
        return
    for part in wrapped:
        yield from leaves_of(part)
