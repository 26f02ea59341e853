# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Which assets a set is made of: the built-in fixture or a folder of prepared assets."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import UserError
from .actor import Actor
from .environment import Environment
from .ground import Ground
from .imported import ImportedPose


class Assets(Protocol):
    """Where people, light and floors come from."""

    name: str
    poses: tuple[ImportedPose, ...]

    def actor(self, rng: np.random.Generator) -> Actor:
        """A random person."""

    def environment(self, rng: np.random.Generator) -> Environment:
        """Random light."""

    def ground(self, rng: np.random.Generator) -> Ground:
        """A random floor."""


@lru_cache(maxsize=2)
def load_assets(name: str) -> Assets:
    """Open assets.

    Args:
        name: ``'fixture'`` or a folder that ``tools/synthesis/prepare_assets.py`` made.

    Raises:
        UserError: There is no such folder, or a file in it is missing or changed.
    """
    if name == 'fixture':
        from .fixture_assets import FixtureAssets

        return FixtureAssets()
    if not (Path(name) / 'manifest.json').is_file():
        command = f'python tools/synthesis/prepare_assets.py --out {name}'
        raise UserError(f'{name}: no prepared assets there; run "{command}" first, or use --assets fixture')
    from .makehuman.assets import MakeHumanAssets

    return MakeHumanAssets(name)
