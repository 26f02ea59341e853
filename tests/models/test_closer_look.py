# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The second look at a part of a person."""

import numpy as np
import pytest
import torch

from sapiens.errors import UserError
from sapiens.models.estimators import closer_look
from sapiens.models.estimators.closer_look import CloserLook
from sapiens.models.heads.frames import points_to_original
from sapiens.registry import MODELS
from sapiens.structures import HumanDataSample
from sapiens.vocabularies import load_keypoints

VOCABULARY = load_keypoints('coco17')
HEAD = VOCABULARY.names[:5]
WARP = np.array([[0.5, 0, 3], [0, 0.5, -4]])  # original pixels -> input


def person(points, scores, warp=WARP):
    """A first look's prediction; points in the original."""
    sample = HumanDataSample(metainfo=dict(img_shape=(64, 48), ori_shape=(150, 120), warp_mat=warp))
    sample.set_field(torch.tensor(points, dtype=torch.float32), 'pred_keypoints')
    sample.set_field(torch.tensor(scores, dtype=torch.float32), 'pred_keypoint_scores')
    return sample


def head_at(x, y, spread=1.0):
    """17 points in the original, whose head is at an input pixel."""
    cross = np.array([[0, 0], [1, -1], [-1, -1], [1, 1], [-1, 1]]) * spread
    points = np.concatenate([cross + [x, y], np.full((12, 2), 50.0)])
    return (points - WARP[:, 2]) / 0.5


@pytest.mark.parametrize('dtype', [torch.float32, torch.uint8])
@pytest.mark.parametrize('place', [(20, 30), (40, 6), (3, 60)])
def test_what_is_seen_closer_lies_where_it_does_in_the_original(place, dtype):
    x, y = place
    inputs = torch.zeros(2, 3, 64, 48)
    inputs[1, :, y, x] = 200.0
    samples = [person(head_at(20, 20, 20), np.full(17, 0.5)), person(head_at(x + 1, y - 1), np.full(17, 0.5))]
    seen = []

    def predict(views, seconds):
        seen.append(views)
        for view, second in zip(views, seconds, strict=True):
            weights = view[0].double() ** 2  # the centre of the enlarged dot
            rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing='ij')
            found = torch.stack([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()
            point = points_to_original(found[None].double(), torch.as_tensor(second.warp_mat))
            second.set_field(point.expand(17, 2).float().clone(), 'pred_keypoints')
            second.set_field(torch.full((17,), 0.9), 'pred_keypoint_scores')

    first = [sample.pred_keypoints.clone() for sample in samples]
    CloserLook(VOCABULARY, HEAD, extent=6.0)(inputs.to(dtype), samples, predict)
    assert seen[0].shape == (1, 3, 64, 48) and seen[0].dtype == dtype  # the large head fills the input already
    torch.testing.assert_close(samples[0].pred_keypoints, first[0])
    expected = (np.array(place) - WARP[:, 2]) / 0.5
    np.testing.assert_allclose(samples[1].pred_keypoints[:5], np.tile(expected, (5, 1)), atol=0.1)
    torch.testing.assert_close(samples[1].pred_keypoints[5:], first[1][5:])  # the body is not asked again
    assert samples[1].pred_keypoint_scores[4:6].tolist() == pytest.approx([0.9, 0.5])


def test_points_that_the_second_look_is_less_sure_of_stay():
    scores, again = np.full(17, 0.6), np.full(17, 0.6)
    again[:5] = 0.6, 0.43, 0.41, 0.9, 0.0
    scores[3:5] = 0.1, 0.1
    sample = person(head_at(20, 30), scores)
    before = sample.pred_keypoints.clone()

    def predict(views, seconds):
        seconds[0].set_field(torch.zeros(17, 2), 'pred_keypoints')
        seconds[0].set_field(torch.tensor(again, dtype=torch.float32), 'pred_keypoint_scores')

    CloserLook(VOCABULARY, ['nose', *HEAD], ['left_elbow'])(torch.zeros(1, 3, 64, 48), [sample], predict)
    moved = (sample.pred_keypoints != before).any(1).nonzero().flatten().tolist()
    assert moved == [0, 1, 3, VOCABULARY.names.index('left_elbow')]


def build(heads=None, **test_cfg):
    torch.manual_seed(0)
    heads = heads or dict(
        pose=dict(type='sapiens.PoseHead', vocabulary='coco17', deconv_channels=(4, 4), conv_channels=(),
                  codec=dict(type='UDPHeatmap', sigma=2.0)),
        depth=dict(type='sapiens.DepthHead', deconv_channels=(4, 4), conv_channels=()),
    )  # fmt: skip
    backbone = dict(type='sapiens.SapiensViT', arch='tiny', img_size=(64, 48))
    return MODELS.build(dict(type='sapiens.HumanEstimator', backbone=backbone, heads=heads, test_cfg=test_cfg)).eval()


def test_the_estimator_looks_closer_at_the_persons_of_its_pose_head_alone(monkeypatch):
    model, inputs = build(closer_look=dict(around=HEAD)), torch.randn(3, 3, 64, 48)
    looked = []
    monkeypatch.setattr(CloserLook, '__call__', lambda self, inputs, samples, predict: looked.append((inputs, samples)))
    samples = model.predict(inputs, rows={'pose': [0, 2]})
    assert [len(part) for part in looked[0]] == [2, 2] and looked[0][1][1] is samples[2]
    torch.testing.assert_close(looked[0][0], inputs[[0, 2]])
    model.predict(inputs, heads=['depth'])
    model.predict(inputs, rows={'pose': []})
    assert [len(samples) for _, samples in looked[1:]] in ([], [0])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(around=['chin']), "'coco17' has no keypoint or group 'chin'"),
        (dict(around=['nose'], also=['face']), "no keypoint or group 'face'"),
        (dict(around=[]), 'around names no keypoint'),
        (dict(around=HEAD, extent=0), 'extent is 0; give a number above 0'),
        (dict(around=HEAD, extent='wide'), "extent is 'wide'; give a number above 0"),
        (dict(around=HEAD, also=[['nose']]), 'no keypoint or group'),
        (dict(around=HEAD, also=None), 'give None, or a dict of around'),
        (dict(arround=HEAD), 'give None, or a dict of around'),
        (HEAD, 'give None, or a dict of around'),
        ('nose', 'give None, or a dict of around'),
    ],
)
def test_what_cannot_be_looked_at_is_named(options, message):
    with pytest.raises(UserError, match=f'closer_look.*{message}'):
        build(closer_look=options)


@MODELS.register_module()
class OwnPoints(torch.nn.Module):
    """A head of a user's own, which knows keypoints and writes other fields."""

    def __init__(self, in_channels):
        super().__init__()
        self.vocabulary, self.layer = VOCABULARY, torch.nn.Conv2d(in_channels, 17, 1)

    def forward(self, feats):
        return self.layer(feats[-1])

    def predict(self, output, samples):
        for sample, points in zip(samples, output, strict=True):
            sample.set_field(points, 'pred_own')


def test_heads_of_ones_own_are_left_alone():
    pose = dict(type='sapiens.PoseHead', vocabulary='coco17', deconv_channels=(4, 4), conv_channels=())
    heads = dict(own=dict(type='OwnPoints'), pose=dict(codec=dict(type='UDPHeatmap', sigma=2.0), **pose))
    for names in (['own'], ['own', 'pose']):
        model = build({name: heads[name] for name in names}, closer_look=dict(around='nose', also=HEAD))
        (sample,) = model.predict(torch.randn(1, 3, 64, 48))
        assert 'pred_own' in sample and ('pred_keypoints' in sample) == ('pose' in names)
        assert model._closer_look()[0] == (None if names == ['own'] else 'pose')


def test_processes_that_share_a_model_all_look_again_or_none_does(monkeypatch):
    looks = []
    for distributed in (False, True):
        monkeypatch.setattr(closer_look, 'is_distributed', lambda answer=distributed: answer)
        sample = person(head_at(20, 20, 20), np.full(17, 0.5))  # nothing to enlarge
        CloserLook(VOCABULARY, HEAD)(torch.zeros(1, 3, 64, 48), [sample], lambda views, _: looks.append(len(views)))
    assert looks == [1]
