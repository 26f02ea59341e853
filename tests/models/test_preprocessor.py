# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From uint8 to normalised batches and back."""

import pytest
import torch

from sapiens.errors import UserError
from sapiens.models import HumanDataPreprocessor


def test_normalises_with_the_published_numbers_and_back():
    image = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
    preprocessor = HumanDataPreprocessor()
    out = preprocessor({'inputs': [image, image.flip(0)], 'data_samples': ['a', 'b']})
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    expected = (image.float() - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(out['inputs'][0], expected)
    assert out['data_samples'] == ['a', 'b'] and out['inputs'].shape == (2, 3, 4, 5)
    assert torch.equal(preprocessor.denormalise(out['inputs'])[0], image)
    assert (preprocessor.denormalise(torch.full((1, 3, 2, 2), torch.nan), fill=128) == 128).all()


def test_a_stacked_batch_and_no_samples():
    batch = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    out = HumanDataPreprocessor(mean=(0, 0, 0), std=(1, 1, 1))({'inputs': batch})
    assert out['inputs'].dtype == torch.float32 and out['data_samples'] is None


def test_sizes_must_agree():
    images = [torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 6, dtype=torch.uint8)]
    with pytest.raises(UserError, match='images of different sizes.*end the pipeline with one size'):
        HumanDataPreprocessor()({'inputs': images})


@pytest.mark.parametrize(
    'wrong', [dict(mean=(1, 2)), dict(std=(1, 1, 0)), dict(std=(1, 1, float('nan'))), dict(std=())]
)
def test_mean_and_std_are_three_numbers(wrong):
    with pytest.raises(UserError, match='give three numbers of each'):
        HumanDataPreprocessor(**wrong)


def test_mean_and_std_are_not_in_the_checkpoint():
    assert not HumanDataPreprocessor().state_dict()
