# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The encoder."""

from .pos_embed import resize_grid, sincos_pos_embed
from .sapiens_vit import ARCHS, SapiensViT, resolve_arch
from .transformer import TransformerLayer

__all__ = ['ARCHS', 'SapiensViT', 'TransformerLayer', 'resize_grid', 'resolve_arch', 'sincos_pos_embed']
