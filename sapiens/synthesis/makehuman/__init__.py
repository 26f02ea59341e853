# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""People from the free MakeHuman assets."""
