# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Inside a program that has switched something on in torch: the same results."""

from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import torch

from sapiens.apis import Inferencer, load_model
from sapiens.utils.shipped import shipped_root
from sapiens.utils.surroundings import out_of_surroundings

IMAGE = np.ascontiguousarray(cv2.imread(str(shipped_root() / 'demo' / 'images' / 'astronaut.jpg'))[..., ::-1])


@contextmanager
def default(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS = {
    'float16 by default': lambda: default(torch.float16),
    'float64 by default': lambda: default(torch.float64),
    'autocast': lambda: torch.autocast('cpu', torch.bfloat16),
    'a default device': lambda: torch.device('meta'),
    'inference mode': torch.inference_mode,
    'gradients': torch.enable_grad,
}


@pytest.fixture(scope='module')
def plain():
    model = Inferencer('tiny', detector='tiny', device='cpu', dtype='float32')
    return model, ways(model)


def ways(model):
    """Keypoints, normals and features by each way that a network is run: files and generators, arrays, features."""
    given = model.predict(iter([IMAGE]), color='rgb', detect=[[40, 20, 460, 500]])
    found = model.predict(iter([IMAGE]), color='rgb', detect='tiny')  # in the caller's thread
    arrays = model.predictors[0].predict(IMAGE, [40, 20, 460, 500])
    features = next(model.extract(IMAGE, color='rgb')).layers[-1]
    assert len(found.boxes)
    return given.keypoints.xy, given.normals.data, found.boxes, arrays['keypoints'], arrays['depth'], features


@pytest.mark.parametrize('name', SURROUNDINGS)
def test_results_do_not_hang_on_what_the_program_around_has_switched_on(plain, name):
    model, expected = plain
    with SURROUNDINGS[name]():
        found = ways(model)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('name', SURROUNDINGS)
def test_nor_do_models_that_are_loaded_there(plain, name):
    with SURROUNDINGS[name]():
        loaded = load_model('tiny')
        model = Inferencer(loaded, detector='tiny', device='cpu', dtype='float32')
    for one, other in zip(ways(model), plain[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_surroundings_are_there_again_afterwards():
    with torch.autocast('cpu', torch.bfloat16), torch.device('meta'):
        with out_of_surroundings():
            assert not torch.is_autocast_enabled('cpu') and torch.zeros(1).device.type == 'cpu'
        assert torch.is_autocast_enabled('cpu') and torch.zeros(1).device.type == 'meta'
