# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Load Mitsuba 3 with a variant that works on this machine."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from types import ModuleType

from ..errors import UserError
from ..utils.optional import need

OLDEST_LLVM = 19
"""Version of libLLVM from which on the fast variant is chosen: with 15 and 16 it ends the process."""
VARIANTS = {'mitsuba-scalar': 'scalar_rgb', 'mitsuba-llvm': 'llvm_ad_rgb'}
"""Renderer, as recipes name it -> variant of Mitsuba. Both are deterministic, but their noise differs."""
_FOLDERS = ('/usr/lib/*', '/usr/lib/llvm-*/lib', '/usr/lib64', '/usr/local/lib')


def choose() -> tuple[str, str]:
    """The faster renderer of `VARIANTS` that works on this machine, and a line that says why.

    Raises:
        MissingPackageError: Mitsuba is not installed.
    """
    version = _packages()[0].__version__
    library = find_llvm()
    if library:
        return 'mitsuba-llvm', f'Mitsuba {version}, variant llvm_ad_rgb with {library}'
    return 'mitsuba-scalar', (f'Mitsuba {version}, variant scalar_rgb; a libLLVM of version {OLDEST_LLVM} or newer '
                              '(or DRJIT_LIBLLVM_PATH) would make it faster')  # fmt: skip


def find_llvm() -> str | None:
    """Path of a libLLVM that is new enough: what DRJIT_LIBLLVM_PATH says, else the newest of the system."""
    if os.environ.get('DRJIT_LIBLLVM_PATH'):
        return os.environ['DRJIT_LIBLLVM_PATH']
    found = []
    for folder in _FOLDERS:
        for path in glob.glob(f'{folder}/libLLVM*'):
            match = re.fullmatch(r'libLLVM(?:-(\d+))?\.so(?:\.(\d+).*)?', Path(path).name)
            version = int(match[1] or match[2] or 0) if match else 0
            if version >= OLDEST_LLVM:
                found.append((version, path))
    return max(found)[1] if found else None


def load(renderer: str) -> ModuleType:
    """Mitsuba with a variant, on as many threads as OMP_NUM_THREADS says (default 1).

    Args:
        renderer: Key of `VARIANTS`.

    Raises:
        MissingPackageError: Mitsuba is not installed.
        UserError: The LLVM variant is asked for, and there is no libLLVM for it.
    """
    mitsuba, drjit = _packages()
    if mitsuba.variant() == VARIANTS[renderer]:
        return mitsuba
    if renderer == 'mitsuba-llvm':
        library = find_llvm()
        if library is None or not Path(library).is_file():
            raise UserError(f'{library or "libLLVM"}: not there; --renderer mitsuba-llvm needs LLVM {OLDEST_LLVM} or '
                            'newer (Debian: apt-get install libllvm19), mitsuba-scalar does without')  # fmt: skip
        os.environ['DRJIT_LIBLLVM_PATH'] = library
    mitsuba.set_variant(VARIANTS[renderer])
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    threads = os.environ.get('OMP_NUM_THREADS', '1')
    drjit.set_thread_count(max(int(threads), 1) if threads.isdigit() else 1)
    return mitsuba


def _packages() -> tuple[ModuleType, ModuleType]:
    mitsuba, drjit = (need(name, '--renderer mitsuba', extra='mitsuba') for name in ('mitsuba', 'drjit'))
    return mitsuba, drjit
