# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What several rooms need and nobody owns; imports nothing of ours."""
