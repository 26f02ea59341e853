"""Training steps and predictions never make the host wait for a GPU.

The device is 'meta' here: it has no values, so that whatever would wait for one (``item``, ``nonzero``, ``bool``, an
index by a mask) fails by itself. What copies between host and device without need is found by `NoCopies`. Where there
is a GPU, torch looks for itself.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from sapiens.engine.precision import MixedPrecisionOptimWrapper
from sapiens.models.complexity import example_batch
from sapiens.registry import MODELS
from sapiens.structures import HumanDataSample

ENCODER = dict(type='SapiensViT', arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
               img_size=(64, 48), drop_path_rate=0.1, with_cp=True)  # fmt: skip
WIDTHS = dict(deconv_channels=(8, 8), conv_channels=(8,))
HEADS = {
    'pose': dict(type='PoseHead', vocabulary='coco17', codec=dict(type='UDPHeatmap'), **WIDTHS),
    'seg': dict(type='PartHead', vocabulary='parts28', with_scores=True, **WIDTHS),
    'depth': dict(type='DepthHead', **WIDTHS),
    'normal': dict(type='NormalHead', **WIDTHS),
}
PERSONS = dict(type='PersonHead', **WIDTHS)
LOSSES = ['KeypointMSELoss', 'KeypointOHKMLoss', 'KeypointDivergenceLoss']
DECODER = dict(type='MAEDecoder', embed_dims=32, num_layers=1, num_heads=2)


class NoCopies(TorchFunctionMode):
    """Raises where tensors of the device meet data of the host; copies that nobody waits for are allowed."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, '__name__', '')
        first = args[0] if args else None
        on_device = isinstance(first, torch.Tensor) and first.is_meta
        if name in ('tensor', 'as_tensor', 'new_tensor'):
            where = kwargs.get('device') or (first.device if name == 'new_tensor' else 'cpu')
            assert torch.device(where).type == 'cpu', f'{name} copies to the device'
        if name in ('__getitem__', '__setitem__') and on_device:
            for index in args[1] if isinstance(args[1], tuple) else (args[1],):
                host = isinstance(index, list) or (isinstance(index, torch.Tensor) and not index.is_meta)
                assert not host, f'{name} copies an index to the device'
        if name in ('to', 'cpu', 'cuda', 'copy_') and isinstance(first, torch.Tensor):
            asked = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, (str, torch.device))]
            here = name == 'cpu' or any(torch.device(a).type == 'cpu' for a in asked)
            there = any(torch.device(a).type == 'meta' for a in asked)
            if on_device and here:
                assert kwargs.get('non_blocking'), f'{name} waits for the device'
                return torch.zeros(first.shape, dtype=first.dtype)
            if not on_device and there:
                assert kwargs.get('non_blocking'), f'{name} copies to the device, and waits'
        return func(*args, **kwargs)


def estimator(loss='KeypointMSELoss', **options):
    heads = {**HEADS, 'pose': dict(HEADS['pose'], loss=dict(type=loss))} if loss else {'persons': PERSONS}
    return MODELS.build(dict(type='HumanEstimator', backbone=ENCODER, heads=heads, **options))


def pretrainer():
    return MODELS.build(dict(type='MAEPretrainer', backbone=ENCODER, neck=DECODER))


def train_step(model, device, labels=slice(None)):
    wrapper = MixedPrecisionOptimWrapper(
        'bf16' if device == 'cuda' else 'fp32',
        optimizer=torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], foreach=True),
        clip_grad=dict(max_norm=1.0),
    )
    with torch.device(device):
        data = example_batch(model, 3)
    for row in range(3)[labels]:
        data['data_samples'][row] = HumanDataSample(metainfo=data['data_samples'][row].metainfo)
    return lambda: model.train_step(data, wrapper)


def metainfo(turned):
    warp = [[0.5, 0.1, 3], [-0.1, 0.5, 4]] if turned else [[0.5, 0, 0], [0, 0.5, 0]]
    return dict(img_shape=(64, 48), ori_shape=(128, 96), warp_mat=torch.tensor(warp, dtype=torch.float64).numpy())


def samples():
    return [HumanDataSample(metainfo=metainfo(turned)) for turned in (False, True, True)]


@pytest.mark.parametrize('labels', [slice(3, 3), slice(1, 2), slice(0, 3)], ids=['all', 'some', 'none'])
@pytest.mark.parametrize('make', [*LOSSES, 'MAE', None], ids=str)
def test_a_training_step_does_not_wait(make, labels):
    model = pretrainer() if make == 'MAE' else estimator(make)
    step = train_step(model.to('meta').train(), 'meta', labels)
    with NoCopies():
        outputs = step()
    assert all(value.is_meta for value in outputs.values())


@pytest.mark.parametrize('rows', [None, {'seg': [0, 2]}], ids=['all', 'some'])
def test_predicting_waits_once(rows, monkeypatch):
    model = estimator(test_cfg=dict(flip_test=True)).eval().to('meta')
    inputs = torch.empty(3, 3, 64, 48, device='meta')
    waits = []
    monkeypatch.setattr('sapiens.models.estimators.human_estimator.wait', waits.append)
    with NoCopies():
        found = model.predict(inputs, samples(), rows=rows)
    assert len(waits) == 1
    for name in ('pred_keypoints', 'pred_keypoint_scores', 'pred_part_map', 'pred_depth', 'pred_normals'):
        assert getattr(found[0], name).device.type == 'cpu'


@pytest.mark.parametrize(
    'wrong',
    [
        lambda x: float(x.sum()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: 1 if x.sum() > 0 else 2,
        lambda x: x.cpu(),
        lambda x: x[[0, 1]],
        lambda x: x.new_tensor([1.0]),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: torch.ones(2).to(x.device),
    ],
)
def test_the_check_finds_what_waits(wrong):
    with pytest.raises((RuntimeError, NotImplementedError, AssertionError)), NoCopies():
        wrong(torch.empty(4, 4, device='meta'))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')
@pytest.mark.parametrize('make', [*LOSSES, 'MAE', 'predict'])
def test_torch_itself_sees_no_wait(make):
    model = (pretrainer() if make == 'MAE' else estimator(*[make] if make in LOSSES else [])).cuda()
    if make == 'predict':
        inputs, model = torch.zeros(3, 3, 64, 48, device='cuda'), model.eval()
        step = lambda: model.predict(inputs, samples(), flip_test=True)  # noqa: E731
    else:
        step = train_step(model.train(), 'cuda', slice(1, 2))
    step()  # makes kernels and the optimiser's state
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode('default')
