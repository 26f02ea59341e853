# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Reference numbers of ``tests/data/parity`` and the tiny models they belong to."""

import json
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / 'data' / 'parity'
ARCH = dict(embed_dims=64, num_layers=2, num_heads=4, feedforward_channels=256)


def load(name):
    """Nested dict of tensors, floats and tables of ``NAME.npz``."""
    document = {}
    with np.load(FOLDER / f'{name}.npz', allow_pickle=False) as arrays:
        for path in arrays.files:
            value = arrays[path]
            if path.endswith('.json'):
                path, value = path.removesuffix('.json'), json.loads(str(value))
            elif value.ndim == 0:
                value = value.item()
            else:
                value = torch.from_numpy(value)
            *folders, leaf = path.split('/')
            place = document
            for folder in folders:
                place = place.setdefault(folder, {})
            place[leaf] = value
    return document


def largest(difference):
    return float(difference.detach().abs().max())
