# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Tiny models and pictures."""

import cv2
import pytest
from made_photos import photo
from tiny_models import make_model  # noqa: F401 (a fixture)


@pytest.fixture
def photos(tmp_path):
    """A folder of five pictures of mixed sizes."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    for i, size in enumerate([(120, 90), (90, 120), (64, 64), (200, 150), (50, 40)]):
        cv2.imwrite(str(folder / f'{i}.png'), photo(*size, seed=i)[..., ::-1])
    return folder
