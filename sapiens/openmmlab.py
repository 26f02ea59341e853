# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Import-time quirks of mmengine and of the OpenMMLab toolkits, answered once.

* mmengine 0.10 and mmcv 2 ask ``pkgutil.find_loader``, which Python 3.14 has no more, for compiled operators. It is
  given back at the import of this module; the rest is done only when a toolkit is asked for.
* ``mmpose.models`` and others import ``mmcv.ops`` at module level, but mmcv-lite has no compiled operators.
  ``mmcv.ops`` is imported once against a placeholder whose functions raise when called; the placeholder is
  then removed, since mmengine reads its presence as "operators are available".
* torchvision's wheel may be linked to CUDA. Beside a CPU-only torch its import then dies because the schemas of its
  operators are missing; with the schemas declared its Python part works and the operators raise when called. Where
  the two builds match nothing is declared, since a second declaration would be an error.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
import types
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from .errors import MissingPackageError

TOOLKITS = ('mmpose', 'mmseg', 'mmpretrain', 'mmdet')


def _find_loader(name: str) -> object | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None else spec.loader


if not hasattr(pkgutil, 'find_loader'):
    setattr(pkgutil, 'find_loader', _find_loader)  # noqa: B010 - type checkers know the module


def toolkit_installed(name: str) -> bool:
    """Whether the toolkit with that import name (``'mmpose'``, ``'mmseg'``, ...) can be imported."""
    return importlib.util.find_spec(name) is not None


@lru_cache(maxsize=None)
def prepare_torchvision() -> object:
    """Make ``import torchvision`` work where its wheel needs CUDA and torch has none; else do nothing."""
    import torch

    if 'torchvision' in sys.modules or torch.version.cuda is not None or not _torchvision_needs_cuda():
        return None
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for name in ('nms', 'qnms'):
        library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    return library  # the declarations live as long as it does, so the cache keeps it


def _torchvision_needs_cuda() -> bool:
    """Whether the installed torchvision was built for CUDA, read from its version file without importing it."""
    spec = importlib.util.find_spec('torchvision')
    if spec is None or spec.origin is None:
        return False
    try:
        version = Path(spec.origin).with_name('version.py').read_text(encoding='utf-8')
    except OSError:
        return False
    return re.search(r'^__version__ = .*\+cu\d', version, re.MULTILINE) is not None


@lru_cache(maxsize=None)
def _prepare_mmcv_ops() -> None:
    if 'mmcv.ops' in sys.modules or importlib.util.find_spec('mmcv._ext') is not None:
        return

    def missing(function: str) -> Callable[..., None]:
        # Whoever walks over the loaded modules (`inspect` does) asks for `__file__` and the like: there is none.
        if function.startswith('__'):
            raise AttributeError(function)

        def call(*args: object, **kwargs: object) -> None:
            raise RuntimeError(f'mmcv operator {function} is not compiled: install mmcv instead of mmcv-lite to use it')

        return call

    placeholder = types.ModuleType('mmcv._ext')
    vars(placeholder)['__getattr__'] = missing
    sys.modules['mmcv._ext'] = placeholder
    try:
        importlib.import_module('mmcv.ops')
    finally:
        del sys.modules['mmcv._ext']
        mmcv = sys.modules.get('mmcv')
        if mmcv is not None and hasattr(mmcv, '_ext'):
            del mmcv._ext


def prepare_toolkit(name: str) -> None:
    """Make the toolkit with that import name importable in this environment.

    Raises:
        MissingPackageError: It is not installed; the message says how to get it.
    """
    if not toolkit_installed(name):
        raise MissingPackageError(
            f"'{name}' is not installed: pip install 'sapiens-toolkit[openmmlab]' (Python 3.10 or 3.11)"
        )
    prepare_torchvision()
    _prepare_mmcv_ops()
