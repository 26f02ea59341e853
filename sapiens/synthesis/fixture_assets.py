# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The assets that need no download: people of ellipsoids, procedural skies and floors."""

from __future__ import annotations

import numpy as np

from . import fixture
from .actor import Actor
from .environment import Environment, procedural_sky
from .floors import procedural_floor
from .ground import Ground


class FixtureAssets:
    """Everything by code; see `library.Assets`."""

    name = 'fixture'
    poses = ()

    def actor(self, rng: np.random.Generator) -> Actor:
        """A random person."""
        return fixture.build(rng)

    def environment(self, rng: np.random.Generator) -> Environment:
        """Random light."""
        return procedural_sky(rng)

    def ground(self, rng: np.random.Generator) -> Ground:
        """A random floor."""
        return procedural_floor(rng)
