# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The numbers of the reference models, from a file in the published layout to a result of `Inferencer`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sapiens.apis import Inferencer
from sapiens.errors import UserError

FOLDER = Path(__file__).parents[1] / 'data/parity'
HEADS = dict(
    pose="pose=dict(type='PoseHead', vocabulary={vocabulary!r}, codec=dict(type='UDPHeatmap', heatmap_size=(32, 24), "
    'sigma=6), deconv_channels=(32, 32), conv_channels=(32, 32))',
    seg="seg=dict(type='PartHead', vocabulary={vocabulary!r}, deconv_channels=(32,) * 3, conv_channels=(32,) * 3)",
    depth="depth=dict(type='DepthHead', deconv_channels=(24,) * 4, conv_channels=(24,) * 2)",
    normal="normal=dict(type='NormalHead', deconv_channels=(32,) * 3, conv_channels=(32,) * 3)",
)
PADDING = dict(pose=2, seg=0, depth=0, normal=2)


def arrays(name):
    with np.load(FOLDER / f'{name}.npz') as file:
        return {key: file[key] for key in file.files}


def inferencer(tmp_path, task, **options):
    """The reference's tiny model of a task, written as its users have it: nested, published names."""
    data, encoders = arrays(task), arrays('dense_encoders')
    state = {k.removeprefix('state_dict/'): v for k, v in data.items() if k.startswith('state_dict/')}
    if task != 'pose':
        state = {'decode_head.' + k.replace('final_layer', 'conv_seg'): v for k, v in state.items()}
        state |= {k.removeprefix(f'{task}/'): v for k, v in encoders.items() if k.startswith(f'{task}/')}
    torch.save({'state_dict': {k: torch.from_numpy(v) for k, v in state.items()}}, tmp_path / f'{task}.pth')
    vocabulary = tmp_path / 'vocabulary.json'
    if task == 'pose':
        points = [{'name': str(i), 'swap': int(j)} for i, j in enumerate(data['flip_indices'])]
        vocabulary.write_text(json.dumps({'keypoints': points}))
    else:
        vocabulary.write_text(json.dumps({'classes': [{'name': str(i)} for i in range(6)]}))
    (tmp_path / 'config.py').write_text(
        "default_scope = 'sapiens'\n"
        "model = dict(type='HumanEstimator', test_cfg=dict(flip_test=True), backbone=dict(type='SapiensViT', "
        'arch=dict(embed_dims=64, num_layers=2, num_heads=4, feedforward_channels=256), img_size=(128, 96), '
        f'patch_padding={PADDING[task]}), heads=dict({HEADS[task].format(vocabulary=str(vocabulary))}))\n'
    )
    options = {'device': 'cpu', 'flip_test': False, **options}
    return (
        Inferencer(tmp_path / 'config.py', tmp_path / f'{task}.pth', **options),
        data,
        torch.from_numpy(encoders['input']),
    )


@pytest.mark.parametrize('flip', ['fliptest', 'noflip'])
def test_keypoints(tmp_path, flip):
    model, data, inputs = inferencer(tmp_path, 'pose', flip_test=flip == 'fliptest')
    warps = []
    for (x, y), (width, height) in zip(data['bbox_centers'], data['bbox_scales'], strict=True):
        sx, sy = 95 / width, 127 / height
        warps.append(np.array([[sx, 0, 47.5 - sx * x], [0, sy, 63.5 - sy * y]]))
    images = [np.zeros((200, 160, 3), np.uint8)] * 2
    for few in ((images[:1], warps), (images, warps[:1]), (images, [*warps, *warps])):
        with pytest.raises(UserError, match='2 inputs: give as many images and warps'):
            model.predict_inputs(inputs, *few)
    for i, result in enumerate(model.predict_inputs(inputs, images, warps)):
        found, expected = result.keypoints.xy[0], data[f'keypoints_{flip}'][i]
        # Some peaks of random maps are so flat that the reference's Newton step goes many pixels; ours is bounded;
        # the others are the same points of the image.
        error = np.sort(np.linalg.norm(found - expected, axis=-1))
        assert error[:3].max() < 2e-2 + 1e-4 * 200
        np.testing.assert_allclose(result.keypoints.scores[0], data[f'scores_{flip}'][i], rtol=1e-4)


def blank():
    return [np.zeros((200, 160, 3), np.uint8)] * 2


def test_parts(tmp_path):
    model, data, inputs = inferencer(tmp_path, 'seg')
    for result, expected in zip(model.predict_inputs(inputs, blank()), data['pred'], strict=True):
        assert (result.parts.ids == expected).mean() > 0.9999


def test_depth(tmp_path):
    model, data, inputs = inferencer(tmp_path, 'depth')
    for result, expected in zip(model.predict_inputs(inputs, blank()), data['pred_ori'], strict=True):
        assert result.depth.valid.all() and result.depth.mask_source == 'none'
        np.testing.assert_allclose(result.depth.data[::3, ::3], expected[0], rtol=1e-4, atol=1e-4)


def test_normals(tmp_path):
    model, data, inputs = inferencer(tmp_path, 'normal')
    for result, expected in zip(model.predict_inputs(inputs, blank()), data['pred_ori'], strict=True):
        unit = expected / np.linalg.norm(expected, axis=0)  # the reference normalises when it draws
        np.testing.assert_allclose(result.normals.data[::4, ::4].transpose(2, 0, 1), unit, atol=2e-3)


def test_maps_of_the_reference_viewer(make_model):
    """Raw maps of the heads, through a given mask, against what the reference's image viewer saves and draws.

    The viewer resamples seg and normal maps straight to the image, the reference's own test code by way of the input's
    size; we follow the latter (see the tests above), which differs on maps of noise. Depth is at the input's size.
    """
    data = arrays('viewer')
    pairs = [make_model(task) for task in ('seg', 'depth', 'normal')]
    model = Inferencer(*zip(*pairs, strict=True), device='cpu', flip_test=False)
    for predictor, name in zip(model.predictors, ('seg_logits', 'depth_pred', 'normal_pred'), strict=True):
        (head,) = predictor.heads.values()
        raw = torch.from_numpy(data[name])[None]
        head.forward = lambda feats, raw=raw: raw
    (result,) = model(data['img'], color='bgr', masks=data['seg_mask'])
    mask = data['seg_mask']
    assert (result.depth.valid == mask).all()
    np.testing.assert_allclose(result.depth.data[mask], data['depth_map'][mask], atol=1e-5)
    picture = result.draw('depth').astype(int)
    assert np.abs(picture - data['depth_picture'])[mask].mean() < 1.0
    assert (picture[~mask] == data['depth_picture'][~mask]).all(), 'the same grey off the person'
    assert (result.parts.ids == data['seg_pred']).mean() > 0.9
    cosine = (result.normals.data * data['normal_map']).sum(-1)[mask]
    assert np.median(cosine) > 0.995 and cosine.mean() > 0.97
