# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What goes beyond the paper's figures: confidence intervals, outlines of parts, pictures of errors, normals' axes."""
