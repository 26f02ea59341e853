# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Packages that only some need: imported where they are used, or one line says how to get them."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import MissingPackageError


def need(module: str, purpose: str, *, extra: str = '', package: str = '', hint: str = '') -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: Its dotted name.
        purpose: What needs it, the first words of the message.
        extra: The extra of the toolkit that brings it, or
        package: what else pip is to install.
        hint: What else one could do, behind the message.

    Raises:
        MissingPackageError: It cannot be imported; the message says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition('.')[0]
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        raise MissingPackageError(
            f"{purpose} needs {name}: pip install '{package or f'sapiens-toolkit[{extra}]'}'"
            f'{"" if absent else f" ({error})"}{hint}'
        ) from None
