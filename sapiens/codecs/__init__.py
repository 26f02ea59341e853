# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Keypoints <-> heatmaps, batched, on any device."""

from .udp_heatmap import UDPHeatmap

__all__ = ['UDPHeatmap']
