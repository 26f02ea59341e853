# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Open toolkit for human-centric vision: pose, body parts, depth and normals."""

__version__ = '0.1.0'
TOOLKIT = 'sapiens-toolkit'
"""Name of the distribution; another package named `sapiens` does not have it."""
