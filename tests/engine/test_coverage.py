# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Weights of another model that fit every shape: refused, since the model would compute something else."""

import json

import pytest
import torch

from sapiens.engine.checkpoint import CheckpointError, fit_state_dict, load_model_weights
from sapiens.engine.state import describe_model, describe_vocabulary
from sapiens.registry import MODELS
from sapiens.vocabularies import load_vocabulary


def estimator(layers=2, num_heads=2, deconv=(8, 8), conv=(8,), vocabulary='coco17', mean=(1, 2, 3), **backbone):
    arch = dict(embed_dims=32, num_layers=layers, num_heads=num_heads, feedforward_channels=64)
    head = dict(type='sapiens.PoseHead', vocabulary=vocabulary, codec=dict(type='UDPHeatmap'))
    return MODELS.build(
        dict(
            type='sapiens.HumanEstimator',
            backbone=dict(type='sapiens.SapiensViT', arch=arch, img_size=(64, 48), patch_padding=2, **backbone),
            heads=dict(pose=dict(**head, deconv_channels=deconv, conv_channels=conv)),
            data_preprocessor=dict(type='sapiens.HumanDataPreprocessor', mean=mean),
        )
    )


@pytest.mark.parametrize(
    'state, own, named',
    [
        (estimator(layers=4).state_dict(), {}, r'backbone\.layers\.2\.'),
        ({**estimator().state_dict(), 'backbone.layers.1.attn.gamma1.weight': torch.ones(32)}, {}, 'gamma1'),
        ({**estimator().state_dict(), 'backbone.pre_norm.weight': torch.ones(32)}, {}, 'pre_norm'),
        (estimator(deconv=(8, 8, 8)).state_dict(), {}, r'heads\.pose\.deconv_layers\.6'),
        (estimator().state_dict(), dict(conv=()), r'heads\.pose\.conv_layers\.0'),
    ],
    ids=['deeper encoder', 'layer scale', 'norm before the layers', 'deconvolution', 'convolution'],
)
def test_layers_that_the_model_has_not_are_an_error(state, own, named):
    with pytest.raises(CheckpointError, match=rf"a\.pth: has '[^']*{named}.*the model has not"):
        load_model_weights(estimator(**own), state, source='a.pth')


def test_a_smaller_model_may_begin_with_the_first_layers_of_a_larger_one():
    """As the detector that ships: the first layers of an encoder, a layer in between whose output began as nothing."""
    larger = estimator(layers=4).state_dict()
    for name in ('attn.proj', 'ffn.layers.1'):
        larger[f'backbone.layers.1.{name}.weight'].zero_()
    report = load_model_weights(estimator(), larger, allow_partial=True)
    assert report.complete and {name.rsplit('.layers.')[1][0] for name in report.unexpected} == {'2', '3'}


def test_layers_of_a_bare_encoder_are_counted_too():
    with pytest.raises(CheckpointError, match=r"has 'layers\.2\."):
        load_model_weights(estimator().backbone, estimator(layers=3).backbone.state_dict())


def test_what_may_be_left_out():
    state = {
        **estimator(with_cls_token=True).state_dict(),
        'backbone.mask_token': torch.ones(1, 1, 32),
        'heads.pose.loss_module.weight': torch.ones(17),
        'heads.other.conv_layers.0.weight': torch.ones(1),
        'teacher.layers.0.weight': torch.ones(1),
    }
    load_model_weights(estimator(final_norm=False), state)
    load_model_weights(estimator(), estimator(deconv=(8, 8, 8)).state_dict(), skip='heads.pose.')


def fit(model, trained, **options):
    return fit_state_dict(model, trained.state_dict(), {'sapiens': describe_model(trained)}, **options)


def test_what_no_shape_shows_is_noted_and_compared(tmp_path):
    document = describe_vocabulary(load_vocabulary('coco17')) | {'name': 'mine'}
    file = tmp_path / 'mine.json'
    file.write_text(json.dumps(document))
    trained = estimator(vocabulary=str(file))
    assert fit(estimator(vocabulary=str(file)), trained)[1].complete
    with pytest.raises(CheckpointError, match=r'normalised by mean=\[1.0, 2.0, 3.0\].*data_preprocessor\.mean='):
        fit(estimator(vocabulary=str(file), mean=(0, 0, 0)), trained)
    with pytest.raises(CheckpointError, match='trained with 2 attention heads, the config has 4; set num_heads'):
        fit(estimator(vocabulary=str(file), num_heads=4).backbone, trained)
    document['keypoints'].reverse()
    file.write_text(json.dumps(document))
    with pytest.raises(
        CheckpointError, match=r'the config expects 17 \(mine\): number 0 is nose there, right_ankle here'
    ):
        fit(estimator(vocabulary=str(file)), trained)
    skip = 'heads.pose.final_layer.'  # a new head may learn anything
    assert fit(estimator(vocabulary=str(file), mean=(0, 0, 0)), trained, skip=skip)[1].skipped
