# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Our backbone and layer decay inside models of mmpose, mmsegmentation and mmpretrain, as their configs build them."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from sapiens.openmmlab import TOOLKITS, prepare_toolkit, toolkit_installed

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.openmmlab,
    pytest.mark.skipif(not all(map(toolkit_installed, TOOLKITS)), reason='needs mmpose, mmsegmentation, mmpretrain'),
]
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def backward(model, losses):
    total, logs = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    gradient = model.backbone.layers[0].attn.qkv.weight.grad
    assert gradient is not None and gradient.any()


def guide():
    blocks = (ROOT / 'docs' / 'openmmlab.md').read_text(encoding='utf-8').split('```python\n')[1:]
    return Config.fromstring(blocks[2].split('```')[0], '.py')


def build(toolkit, config):
    prepare_toolkit(toolkit)
    registry = __import__(f'{toolkit}.registry', fromlist=['MODELS'])
    with DefaultScope.overwrite_default_scope(toolkit):
        model = registry.MODELS.build(ConfigDict(config))
    assert type(model.backbone).__name__ == 'SapiensViT'
    return model


def pose_batch(count=2):
    from mmengine.structures import InstanceData, PixelData
    from mmpose.structures import PoseDataSample

    batch = []
    for _ in range(count):
        sample = PoseDataSample(
            metainfo=dict(
                img_shape=(256, 192),
                input_size=(192, 256),
                input_center=np.array([96.0, 128.0]),
                input_scale=np.array([192.0, 256.0]),
                flip_indices=[0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15],
            )
        )
        sample.gt_fields = PixelData(heatmaps=torch.rand(17, 64, 48))
        sample.gt_instance_labels = InstanceData(keypoint_weights=torch.ones(1, 17))
        sample.gt_instances = InstanceData(
            bboxes=np.array([[0, 0, 192, 256.0]]), bbox_scores=np.ones(1), keypoints_visible=np.ones((1, 17))
        )
        batch.append(sample)
    return batch


def test_mmposes_topdown_estimator_of_the_guide():
    model = build('mmpose', guide().model)
    x, samples = torch.randn(2, 3, 256, 192), pose_batch()
    backward(model, model(x, samples, mode='loss'))
    with torch.no_grad():
        predictions = model.eval()(x, samples, mode='predict')
    assert predictions[0].pred_instances.keypoints.shape == (1, 17, 2)
    assert np.isfinite(predictions[0].pred_instances.keypoints).all()


def test_weights_load_by_our_initialiser(tmp_path):
    prepare_toolkit('mmpose')
    from mmpose.registry import MODELS

    config = dict(type='sapiens.SapiensViT', arch=ARCH, img_size=(64, 48))
    with DefaultScope.overwrite_default_scope('mmpose'):
        source = MODELS.build(config)
        torch.save({f'backbone.{name}': value for name, value in source.state_dict().items()}, tmp_path / 'weights.pth')
        init = dict(type='sapiens.Pretrained', checkpoint=str(tmp_path / 'weights.pth'))
        model = MODELS.build({**config, 'init_cfg': init})
        model.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_layer_decay_of_the_guide():
    from mmengine.optim import build_optim_wrapper

    config = guide()
    model = build('mmpose', config.model)
    with DefaultScope.overwrite_default_scope('mmpose'):
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {
        names[id(parameter)]: group['lr'] for group in wrapper.optimizer.param_groups for parameter in group['params']
    }
    assert rates['backbone.patch_embed.projection.weight'] == pytest.approx(5e-4 * 0.85**11)
    assert rates['backbone.layers.0.attn.qkv.weight'] == pytest.approx(5e-4 * 0.85**10)
    assert rates['backbone.layers.9.attn.qkv.weight'] == pytest.approx(5e-4 * 0.85)
    assert rates['backbone.ln1.weight'] == rates['head.final_layer.weight'] == pytest.approx(5e-4)


def test_mmsegs_encoder_decoder():
    prepare_toolkit('mmseg')
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    model = build(
        'mmseg',
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', mean=MEAN, std=STD),
            backbone=dict(type='sapiens.SapiensViT', arch=ARCH, img_size=(64, 48), out_indices=(0, 1)),
            decode_head=dict(
                type='FCNHead',
                in_channels=32,
                in_index=-1,
                channels=16,
                num_convs=1,
                num_classes=20,
                norm_cfg=dict(type='BN'),
                loss_decode=dict(type='CrossEntropyLoss'),
            ),
            test_cfg=dict(mode='whole'),
        ),
    )
    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 48), ori_shape=(128, 96)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 20, (1, 64, 48)))
        samples.append(sample)
    x = torch.randn(2, 3, 64, 48)
    backward(model, model(x, samples, mode='loss'))
    with torch.no_grad():
        out = model.eval()(x, samples, mode='predict')
    assert out[0].pred_sem_seg.data.shape == (1, 128, 96)


@pytest.mark.parametrize(
    ('options', 'neck'),
    [
        (dict(with_cls_token=True, out_type='cls_token'), None),
        (dict(out_type='featmap'), dict(type='GlobalAveragePooling')),
    ],
)
def test_mmpretrains_classifier(options, neck):
    prepare_toolkit('mmpretrain')
    from mmpretrain.structures import DataSample

    model = build(
        'mmpretrain',
        dict(
            type='ImageClassifier',
            backbone=dict(type='sapiens.SapiensViT', arch=ARCH, img_size=64, **options),
            neck=neck,
            head=dict(type='LinearClsHead', num_classes=5, in_channels=32, loss=dict(type='CrossEntropyLoss')),
        ),
    )
    samples = [DataSample().set_gt_label(label) for label in (1, 4)]
    x = torch.randn(2, 3, 64, 64)
    backward(model, model(x, samples, mode='loss'))
    with torch.no_grad():
        assert model.eval()(x, samples, mode='predict')[0].pred_score.shape == (5,)


# ---------------------------------------------------------------------------------------------- fresh interpreters


def python(code):
    result = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.strip().splitlines()


def test_a_config_of_theirs_that_imports_our_bridges():
    """What mmpose's own train.py does: read the config (which imports), then build the model in their registry."""
    code = """
        import re, sys
        from pathlib import Path
        from mmengine.config import Config
        text = Path('docs/openmmlab.md').read_text(encoding='utf-8').split('```python\\n')[3].split('```')[0]
        config = Config.fromstring(text, '.py')
        assert 'sapiens.bridges' in sys.modules
        from mmengine.registry import MODELS, init_default_scope
        init_default_scope('mmpose')
        model = MODELS.build(config.model)
        print(type(model).__module__.split('.')[0], type(model.backbone).__module__)

        # mmengine's question whether compiled operators are there still has the right answer
        import importlib.util
        from mmengine.utils.dl_utils.misc import mmcv_full_available
        assert mmcv_full_available() == (importlib.util.find_spec('mmcv._ext') is not None)
        if not mmcv_full_available():
            import torch
            from mmcv.ops import nms
            try:
                nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
            except Exception as error:
                print(type(error).__name__, error)
    """
    lines = python(code)
    assert lines[0] == 'mmpose sapiens.models.backbones.sapiens_vit'
    if len(lines) > 1:
        assert 'RuntimeError mmcv operator nms is not compiled: install mmcv instead of mmcv-lite' in lines[1]


def test_mmengines_runner_starts_and_trains():
    """The Runner collects the environment, which imports torchvision, in whatever state that is."""
    code = """
        import tempfile
        from sapiens.openmmlab import prepare_torchvision
        prepare_torchvision()
        import torch
        from mmengine.runner import Runner
        from torch.utils.data import Dataset

        class Pictures(Dataset):
            def __len__(self):
                return 2

            def __getitem__(self, index):
                return dict(inputs=torch.zeros(3, 32, 32, dtype=torch.uint8))

        with tempfile.TemporaryDirectory() as folder:
            runner = Runner(
                model=dict(type='MAEPretrainer', neck=dict(type='MAEDecoder', embed_dims=16, num_layers=1, num_heads=2),
                           backbone=dict(type='SapiensViT', arch='tiny', img_size=(32, 32))),
                work_dir=folder, default_scope='sapiens', experiment_name='bridge',
                train_dataloader=dict(dataset=Pictures(), batch_size=2, sampler=dict(type='DefaultSampler')),
                train_cfg=dict(by_epoch=False, max_iters=1), optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
                default_hooks=dict(checkpoint=None),
            )
            runner.train()
        import torchvision
        print('trained', runner.iter)
    """
    assert python(code)[-1] == 'trained 1'


def test_our_registries_prepare_a_toolkit_in_a_fresh_interpreter():
    code = """
        from sapiens.registry import DATASETS, METRICS, MODELS, TRANSFORMS
        print(MODELS.get('mmpose.TopdownPoseEstimator').__name__, METRICS.get('mmseg.IoUMetric').__name__,
              DATASETS.get('mmpretrain.ImageNet').__name__, TRANSFORMS.get('mmpose.TopdownAffine').__name__)
    """
    assert python(code)[-1] == 'TopdownPoseEstimator IoUMetric ImageNet TopdownAffine'
