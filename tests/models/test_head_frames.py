# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From the input's frame to the original's: equal to OpenCV and to interpolating everything."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sapiens.models.heads import frames
from sapiens.models.heads.frames import argmax_to_original, map_to_original, points_to_original, sample_frames
from sapiens.structures import HumanDataSample


def resize_warp(ori, size):
    sy, sx = size[0] / ori[0], size[1] / ori[1]
    return torch.tensor([[sx, 0, sx / 2 - 0.5], [0, sy, sy / 2 - 0.5]], dtype=torch.float64)


def crop_warp(angle=20.0, scale=0.7, shift=(-9.0, 4.0)):
    """A rotated, scaled and shifted crop: original pixels to input pixels."""
    a = np.deg2rad(angle)
    linear = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return torch.tensor(np.concatenate([linear, np.array(shift)[:, None]], 1))


def logits(size=(20, 15), classes=5, smooth=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, -(-size[0] // smooth), -(-size[1] // smooth), generator=generator)
    return F.interpolate(coarse, size=size, mode='bicubic')[0].contiguous()


def same_but_for_ties(labels, full):
    """Labels may differ only where the two best mixtures are equal up to rounding."""
    best, second = full.topk(2, dim=0).values
    differ = labels.long() != full.argmax(0)
    assert float((best - second)[differ].max() if differ.any() else 0) < 1e-4
    assert float(differ.float().mean()) < 1e-2


# ---------------------------------------------------------------------------------------------- argmax


@pytest.mark.parametrize('ori', [(20, 15), (97, 64), (300, 410), (11, 9), (7, 40), (1, 1)])
@pytest.mark.parametrize('smooth', [1, 4])
def test_argmax_equals_argmax_of_the_interpolated_logits(ori, smooth):
    values = logits(smooth=smooth)
    labels = argmax_to_original(values, resize_warp(ori, (20, 15)), ori)
    assert labels.dtype == torch.uint8 and labels.shape == ori
    full = F.interpolate(values[None], size=ori, mode='bilinear', align_corners=False)[0]
    same_but_for_ties(labels, full)


@pytest.mark.parametrize('angle', [0.0, 20.0, -135.0])
@pytest.mark.parametrize('scale', [0.2, 0.7, 2.5])
def test_argmax_of_rotated_crops(angle, scale):
    values, warp, ori = logits(smooth=2), crop_warp(angle, scale, (5.0, 9.0)), (60, 50)
    labels = argmax_to_original(values, warp, ori, outside=7)
    full = map_to_original(values, warp, ori)
    covered = map_to_original(torch.ones(1, 20, 15), warp, ori)[0] > 0
    assert covered.any() and (~covered).any()
    assert (labels[~covered] == 7).all()
    same_but_for_ties(torch.where(covered, labels.long(), full.argmax(0)), full)


def test_argmax_of_mirrored_inputs():
    values, ori = logits(), (50, 44)
    plain, mirror = resize_warp(ori, (20, 15)), resize_warp(ori, (20, 15))
    mirror[0] = -mirror[0]
    mirror[0, 2] += 14
    assert torch.equal(argmax_to_original(values, plain, ori), argmax_to_original(values.flip(-1), mirror, ori))


def test_stripes_and_chunks_do_not_show(monkeypatch):
    values, warp, ori = logits(smooth=1), crop_warp(), (60, 50)
    labels, resampled = argmax_to_original(values, warp, ori), map_to_original(values, warp, ori)
    monkeypatch.setattr(frames, 'STRIPE', 700)
    assert torch.equal(argmax_to_original(values, warp, ori), labels)
    torch.testing.assert_close(map_to_original(values, warp, ori), resampled)


def test_argmax_never_makes_a_map_of_all_logits(monkeypatch):
    """Every tensor made on the way has a bounded size, whatever the size of the original."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel() * tensor.element_size())
            return out

    monkeypatch.setattr(frames, 'STRIPE', 2**14)
    values, ori = logits((32, 24), classes=28, smooth=8), (640, 480)
    with Watch():
        argmax_to_original(values, resize_warp(ori, (32, 24)), ori)
    # the result itself (1 byte a pixel) is the largest thing; all logits would take 28 x 4 bytes a pixel
    assert largest <= 640 * 480


def test_argmax_in_half_precision_and_of_one_class():
    values = logits()
    ori = (40, 30)
    labels = argmax_to_original(values.bfloat16(), resize_warp(ori, (20, 15)), ori)
    full = F.interpolate(values[None], size=ori, mode='bilinear', align_corners=False)[0].argmax(0)
    assert float((labels.long() != full).float().mean()) < 0.05
    assert not argmax_to_original(values[:1], resize_warp(ori, (20, 15)), ori).any()


# ---------------------------------------------------------------------------------------------- maps


@pytest.mark.parametrize('ori', [(41, 30), (9, 11), (20, 15)])
def test_resizing_equals_opencv(ori):
    values = logits()
    out = map_to_original(values, resize_warp(ori, (20, 15)), ori)
    expected = cv2.resize(values.permute(1, 2, 0).numpy(), ori[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(out.permute(1, 2, 0).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize('angle', [0.0, 33.0])
def test_warping_equals_opencv(angle):
    values, warp, ori = logits((40, 30), 3, 8), crop_warp(angle, 0.6, (4.0, 6.0)), (70, 60)
    out = map_to_original(values, warp, ori).permute(1, 2, 0).numpy()
    # WARP_INVERSE_MAP: the matrix leads from the output's pixels to the input's, as ours does.
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    expected = cv2.warpAffine(values.permute(1, 2, 0).numpy(), warp.numpy(), ori[::-1], flags=flags)
    ys, xs = np.mgrid[: ori[0], : ori[1]]
    x = warp[0, 0].item() * xs + warp[0, 1].item() * ys + warp[0, 2].item()
    y = warp[1, 0].item() * xs + warp[1, 1].item() * ys + warp[1, 2].item()
    inner = (x > 0.1) & (x < 28.9) & (y > 0.1) & (y < 38.9)
    assert inner.mean() > 0.2
    # OpenCV rounds positions to 1/32 of a pixel.
    np.testing.assert_allclose(out[inner], expected[inner], atol=0.05)
    outside = (x < -0.6) | (x > 29.6) | (y < -0.6) | (y > 39.6)
    assert outside.any() and not out[outside].any()


def test_a_resize_given_as_warp_is_the_resize():
    values, ori = logits(), (37, 53)
    slightly_off = resize_warp(ori, (20, 15))
    slightly_off[:, 2] += 1e-3
    resized = map_to_original(values, resize_warp(ori, (20, 15)), ori)
    torch.testing.assert_close(map_to_original(values, slightly_off, ori), resized, atol=2e-2, rtol=0)


def test_warping_a_plane_is_exact():
    ys, xs = torch.meshgrid(torch.arange(40.0), torch.arange(30.0), indexing='ij')
    warp = crop_warp(10, 0.8, (3.0, 2.0))
    out = map_to_original(torch.stack([xs, ys]), warp, (30, 25))
    rows, columns = torch.meshgrid(torch.arange(30.0), torch.arange(25.0), indexing='ij')
    for channel, (a, b, c) in zip(out, warp.float(), strict=True):
        expected = a * columns + b * rows + c
        inner = (out[0] > 0) & (out[1] > 0) & (expected > 0.5)
        torch.testing.assert_close(channel[inner], expected[inner], atol=1e-4, rtol=0)


# ---------------------------------------------------------------------------------------------- points and samples


def test_points_invert_the_warp():
    warp = crop_warp()
    original = torch.rand(7, 2) * 500
    points = original.double() @ warp[:, :2].T + warp[:, 2]
    torch.testing.assert_close(points_to_original(points.float(), warp), original, atol=1e-3, rtol=1e-5)


def test_frames_of_samples():
    bare = sample_frames(HumanDataSample(), (64, 48))
    assert bare[:2] == ((64, 48), (64, 48))
    torch.testing.assert_close(bare[2], torch.tensor([[1.0, 0, 0], [0, 1, 0]], dtype=torch.float64))
    resized = sample_frames(HumanDataSample(metainfo=dict(img_shape=(64, 48), ori_shape=(128, 96, 3))), (1, 1))
    assert resized[:2] == ((64, 48), (128, 96))
    torch.testing.assert_close(resized[2], resize_warp((128, 96), (64, 48)))
    warp = np.arange(9.0).reshape(3, 3)
    warped = sample_frames(HumanDataSample(metainfo=dict(img_shape=(64, 48), warp_mat=warp)), (1, 1))
    torch.testing.assert_close(warped[2], torch.from_numpy(warp[:2]))
