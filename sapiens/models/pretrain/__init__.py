# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Masked-autoencoder pretraining."""

from .mae import MAEDecoder, MAEPretrainer, patchify, random_masking, unpatchify

__all__ = ['MAEDecoder', 'MAEPretrainer', 'patchify', 'random_masking', 'unpatchify']
