# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Export models, and run exported files."""

from .export import export_model
from .graph import DeployGraph
from .runner import ExportedEstimator, open_exported

__all__ = ['DeployGraph', 'ExportedEstimator', 'export_model', 'open_exported']
