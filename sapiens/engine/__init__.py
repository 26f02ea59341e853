# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Training: optimiser construction, loops, hooks, checkpoints."""
