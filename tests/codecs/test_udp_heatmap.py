# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""UDP heatmaps: reference numbers, round trips, borders, and a straightforward decoder to compare with."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sapiens.codecs import UDPHeatmap, udp_heatmap
from sapiens.errors import UserError
from sapiens.registry import CODECS

NUMBERS = np.load(Path(__file__).parents[1] / 'data' / 'parity' / 'udp.npz', allow_pickle=False)
CODEC = UDPHeatmap((1024, 768), (256, 192), 6)
SMALL = UDPHeatmap((128, 96), (64, 48), 2)


def plain_decode(heatmaps, codec):
    """Decode whole maps: blur each with OpenCV, rescale to its old maximum, clip, take the logarithm, one bounded step.

    Args:
        heatmaps: ``(K, h, w)`` float32.

    Returns:
        ``(K, 2)`` input pixels and ``(K,)`` scores.
    """
    count, height, width = heatmaps.shape
    taps = codec.blur_kernel_size
    points, scores = np.zeros((count, 2)), heatmaps.reshape(count, -1).max(1)
    for k, heatmap in enumerate(heatmaps):
        row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
        border = taps // 2
        padded = np.zeros((height + 2 * border, width + 2 * border), np.float32)
        padded[border:-border, border:-border] = heatmap
        blurred = cv2.GaussianBlur(padded, (taps, taps), 0)[border:-border, border:-border]
        blurred = blurred * (heatmap.max() / blurred.max())
        log = np.pad(np.log(blurred.clip(1e-3, 50)).astype(np.float64), 1, mode='edge')
        patch = log[row : row + 3, column : column + 3]
        gradient = np.array([patch[1, 2] - patch[1, 0], patch[2, 1] - patch[0, 1]]) / 2
        xx = patch[1, 2] - 2 * patch[1, 1] + patch[1, 0]
        yy = patch[2, 1] - 2 * patch[1, 1] + patch[0, 1]
        xy = (patch[2, 2] - patch[1, 2] - patch[2, 1] + 2 * patch[1, 1] - patch[1, 0] - patch[0, 1] + patch[0, 0]) / 2
        values, vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
        inverse = values / np.maximum(values**2, codec._flattest**2)
        step = -vectors @ (inverse * (vectors.T @ gradient))
        points[k] = np.array([column, row]) + step * min(1, 1.5 / max(np.linalg.norm(step), 1e-12))
    (input_height, input_width), (h, w) = codec.input_size, codec.heatmap_size
    return points * [(input_width - 1) / (w - 1), (input_height - 1) / (h - 1)], scores


def targets(codec, count=24, seed=0, margin=0.0):
    """Random keypoints inside the input and their heatmaps."""
    rng = np.random.default_rng(seed)
    size = np.array(codec.input_size[::-1])
    points = torch.tensor(rng.uniform(margin, size - 1 - margin, (1, count, 2)), dtype=torch.float32)
    heatmaps, weights = codec.encode(points, torch.ones(1, count))
    return points, heatmaps, weights


# ---------------------------------------------------------------------------------------------- reference numbers


def test_encode_matches_the_reference():
    keypoints, visible = torch.tensor(NUMBERS['encode_keypoints']), torch.tensor(NUMBERS['encode_visible'])
    heatmaps, weights = CODEC.encode(keypoints, visible)
    torch.testing.assert_close(heatmaps[0], torch.tensor(NUMBERS['encode_heatmaps']), rtol=1e-4, atol=1e-6)
    # A point below half visible gets no target, yet the reference keeps its weight (0.4) and so trains its map
    # towards nothing. A point without a target has no part in our loss.
    # The same holds for a window that ends one pixel to the left of the map.
    expected = torch.tensor(NUMBERS['encode_weights'])
    empty = (heatmaps.amax((-1, -2)) == 0) & (expected > 0)
    assert expected[empty].tolist() == pytest.approx([0.4, 1.0])
    torch.testing.assert_close(weights, expected.masked_fill(empty, 0))


def to_reference(points):
    """The reference divides by the heatmap's side and not by the side less one pixel: W / (W - 1) too far out."""
    return points * torch.tensor([768 / 767, 1024 / 1023])


def test_decode_matches_the_reference():
    heatmaps = torch.tensor(NUMBERS['decode_heatmaps']).float()[None]
    points, scores = CODEC.decode(heatmaps)
    reference = torch.tensor(NUMBERS['decode_keypoints']).float()
    # The last map has no positive value: the reference puts it out of the frame and gives the negative score.
    positive = torch.tensor(NUMBERS['decode_scores'])[0] > 0
    assert int((~positive).sum()) <= 1 and len(positive) >= 7
    torch.testing.assert_close(to_reference(points)[:, positive], reference[:, positive], rtol=1e-4, atol=2e-3)
    torch.testing.assert_close(scores[:, positive], torch.tensor(NUMBERS['decode_scores'])[:, positive])
    assert (scores >= 0).all() and torch.isfinite(points).all()


def test_decoding_of_exact_targets_matches_the_reference():
    heatmaps = torch.tensor(NUMBERS['encode_heatmaps'])[NUMBERS['roundtrip_index']][None]
    points, _ = CODEC.decode(heatmaps)
    reference = torch.tensor(NUMBERS['roundtrip_keypoints']).float()
    torch.testing.assert_close(to_reference(points), reference, rtol=1e-4, atol=2e-3)


# ---------------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize('codec', [CODEC, SMALL, UDPHeatmap((256, 192))], ids=['full', 'small', 'defaults'])
def test_round_trip_below_a_hundredth_of_a_pixel(codec):
    # Six heatmap pixels from the border the blur sees the whole neighbourhood; nearer it is cut, as in the reference.
    margin = 8 * max(codec._scale(torch.ones(1)).tolist())
    points, heatmaps, weights = targets(codec, margin=margin)
    decoded, scores = codec.decode(heatmaps)
    assert float((decoded - points).abs().max()) < 0.01
    # Between pixels the highest value lies a little below 1.
    assert (scores <= 1).all() and (scores >= np.exp(-0.25 / codec.sigma**2) - 1e-6).all() and (weights == 1).all()


def test_near_the_border_within_the_cut_of_the_blur():
    points, heatmaps, _ = targets(CODEC, count=64, seed=3)
    decoded, _ = CODEC.decode(heatmaps)
    scale = float(CODEC._scale(points).max())
    assert float((decoded - points).abs().max()) < 1.0 * scale


def test_unit_scale_is_exact_at_pixel_centres():
    codec = UDPHeatmap((64, 64), (64, 64), 2)
    points = torch.tensor([[[10.0, 20.0], [40.25, 31.5]]])
    torch.testing.assert_close(codec.decode(codec.encode(points, torch.ones(1, 2))[0])[0], points, atol=1e-3, rtol=0)


def test_first_and_last_pixel_centres_coincide():
    heatmaps, _ = SMALL.encode(torch.tensor([[[0.0, 0.0], [95.0, 127.0], [95.0, 0.0]]]), torch.ones(1, 3))
    index = heatmaps[0].flatten(1).argmax(1)
    assert index.tolist() == [0, 64 * 48 - 1, 47]
    assert heatmaps[0].flatten(1).max(1).values.tolist() == [1.0, 1.0, 1.0]


# ---------------------------------------------------------------------------------------------- the plain decoder


def noisy(codec, count, noise, seed=0, **kwargs):
    _, heatmaps, _ = targets(codec, count, seed, **kwargs)
    heatmaps = heatmaps[0] * torch.linspace(0.05, 1, count)[:, None, None]
    return heatmaps + noise * torch.randn(heatmaps.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('noise', [0.0, 0.002, 0.02])
@pytest.mark.parametrize('codec', [CODEC, SMALL], ids=['full', 'small'])
def test_decode_equals_whole_maps(codec, noise):
    heatmaps = noisy(codec, 32, noise, seed=1)
    points, scores = codec.decode(heatmaps[None])
    expected, expected_scores = plain_decode(heatmaps.numpy(), codec)
    torch.testing.assert_close(scores[0], torch.tensor(expected_scores))
    # A flat peak makes the Newton step ill-conditioned and float32 sums differ in the last bit: steps beyond the
    # window are compared loosely.
    step = np.abs(expected - points[0].numpy())
    assert np.median(step) < 1e-3
    assert np.quantile(step, 0.9) < 0.02 * float(codec._scale(points).max())


def test_windows_at_borders_equal_whole_maps():
    h, w = SMALL.heatmap_size
    places = [(0, 0), (0, w - 1), (h - 1, 0), (h - 1, w - 1), (0, 20), (30, 0), (h - 1, 7), (9, w - 1), (1, 1), (5, 46)]
    heatmaps = torch.zeros(len(places), h, w)
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing='ij')
    for heatmap, (y, x) in zip(heatmaps, places, strict=True):
        heatmap += torch.exp(-((xs - x - 0.3) ** 2 + (ys - y + 0.2) ** 2) / 8.0)
        heatmap[y, x] = heatmap.max() + 0.01
    points, _ = SMALL.decode(heatmaps[None])
    np.testing.assert_allclose(points[0].numpy(), plain_decode(heatmaps.numpy(), SMALL)[0], atol=2e-3)


def test_clipping_acts_as_on_whole_maps():
    """Narrow peaks touch the lower bound of the clipping, tall ones the upper: then the blurred maximum matters."""
    generator = torch.Generator().manual_seed(0)
    narrow = torch.zeros(4, 64, 48)
    narrow[torch.arange(4), torch.tensor([10, 20, 30, 40]), torch.tensor([9, 19, 29, 39])] = 0.05
    narrow += torch.rand(narrow.shape, generator=generator) * 1e-4
    tall = SMALL.encode(torch.rand(1, 4, 2, generator=generator) * 60 + 16, torch.ones(1, 4))[0][0] * 80
    heatmaps = torch.cat([narrow, tall])
    points, scores = SMALL.decode(heatmaps[None])
    expected, _ = plain_decode(heatmaps.numpy(), SMALL)
    np.testing.assert_allclose(points[0].numpy(), expected, atol=0.02)
    assert float(scores[0, 4:].min()) > 50


# ---------------------------------------------------------------------------------------------- odd inputs


def peaks(heatmaps, codec):
    """The highest pixels, ``(B, K, 2)`` in input pixels."""
    index = heatmaps.flatten(2).argmax(-1)
    width = heatmaps.shape[-1]
    return torch.stack([index % width, index // width], -1) * codec._scale(torch.ones(1))


@pytest.mark.parametrize('codec', [CODEC, SMALL], ids=['full', 'small'])
@pytest.mark.parametrize('height', [1e-4, 3e-3, 0.02, 0.3, 1.0, 60.0])
def test_steps_on_noise_are_short_and_do_not_hang_on_the_last_bit(codec, height):
    """Plain Newton steps led 1,600 pixels away, and another place when maps changed by a millionth."""
    generator = torch.Generator().manual_seed(1)
    scale = float(codec._scale(torch.ones(1)).max())
    rough = torch.randn(1, 32, *codec.heatmap_size, generator=generator) * height
    # Noise alone, noise on a plain, a plain that slopes, a ridge.
    y = torch.linspace(0, 1, codec.heatmap_size[0])[:, None]
    ridge = torch.exp(-(((y - 0.5) * 20) ** 2)).expand(codec.heatmap_size) * height
    for maps in (rough, height + 1e-3 * rough, height * y + 1e-3 * rough, ridge + 1e-2 * rough):
        points, _ = codec.decode(maps)
        assert float((points - peaks(maps, codec)).norm(dim=-1).max()) <= 1.5 * scale + 1e-3
        moved = maps * (1 + 1e-6 * torch.randn(maps.shape, generator=generator))
        same = (peaks(moved, codec) == peaks(maps, codec)).all(-1)
        assert float((codec.decode(moved)[0] - points).norm(dim=-1)[same].max()) < 0.02 * scale


def test_autocast_does_not_move_points():
    maps = noisy(CODEC, 16, 0.002)[None]
    with torch.autocast('cpu', torch.bfloat16):
        inside = CODEC.decode(maps)
    for value, expected in zip(inside, CODEC.decode(maps), strict=True):
        assert torch.equal(value, expected)


def test_all_zero_maps():
    """The reference divides 0 by 0 and returns NaN."""
    heatmaps = torch.zeros(1, 3, 64, 48)
    heatmaps[0, 1] = -1.0
    heatmaps[0, 2] = 1e-30
    points, scores = SMALL.decode(heatmaps)
    assert torch.isfinite(points).all() and scores[0, :2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_broken_maps_give_finite_points(value):
    heatmaps = targets(SMALL, 3)[1]
    clean = SMALL.decode(heatmaps)
    heatmaps[0, 1, 5:9, 5:9] = value
    points, scores = SMALL.decode(heatmaps)
    assert torch.isfinite(points).all() and torch.isfinite(scores).all()
    torch.testing.assert_close(points[0, [0, 2]], clean[0][0, [0, 2]])


def test_invisible_and_missing_points_have_no_target():
    keypoints = torch.tensor(
        [[[30.0, 30.0], [float('nan'), float('nan')], [500.0, 30.0], [30.0, -200.0], [30.0, 30.0]]]
    )
    visible = torch.tensor([[0.0, 0.0, 2.0, 1.0, 2.0]])
    gx, gy, weights = SMALL.factors(keypoints, visible)
    assert weights.tolist() == [[0, 0, 0, 0, 1]]
    assert torch.isfinite(gx).all() and torch.isfinite(gy).all()
    assert not gx[0, :4].any() and not gy[0, :4].any()


def test_a_point_just_outside_still_reaches_into_the_map():
    scale = float(SMALL._scale(torch.ones(1))[0])
    keypoints = torch.tensor([[[x * scale, 30.0] for x in (-2, -6.4, -8, 53, 54)]])
    heatmaps, weights = SMALL.encode(keypoints, torch.ones(1, 5))
    assert weights.tolist() == [[1, 1, 0, 1, 0]]
    peaks = heatmaps[0].amax((-1, -2))
    assert torch.equal(peaks > 0, weights[0] > 0) and float(peaks.max()) < 1


def test_targets_are_cut_to_three_sigma():
    heatmaps, _ = SMALL.encode(torch.tensor([[[40.0, 60.0]]]), torch.ones(1, 1))
    rows, columns = heatmaps[0, 0].nonzero(as_tuple=True)
    assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == 12


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype):
    _, heatmaps, _ = targets(SMALL, margin=20)
    points, scores = SMALL.decode(heatmaps)
    other, other_scores = SMALL.decode(heatmaps.to(dtype))
    assert other.dtype == other_scores.dtype == torch.float32
    # bf16 has ties at the peak, so its argmax may move by a few pixels; the step brings it back
    assert float((other - points).abs().max()) < (2.5 if dtype == torch.bfloat16 else 0.05)


def test_batches_and_strides():
    heatmaps = torch.stack([noisy(SMALL, 6, 0.01, seed=s) for s in range(3)])
    points, scores = SMALL.decode(heatmaps)
    for i in range(3):
        torch.testing.assert_close(SMALL.decode(heatmaps[i : i + 1])[0][0], points[i])
    strided = heatmaps.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    torch.testing.assert_close(SMALL.decode(strided), (points, scores))


def test_mirrored_maps_give_mirrored_points():
    heatmaps = noisy(SMALL, 12, 0.0, margin=20)[None]
    points, mirrored = SMALL.decode(heatmaps)[0], SMALL.decode(heatmaps.flip(-1))[0]
    expected = torch.stack([95 - points[..., 0], points[..., 1]], -1)
    assert float((mirrored - expected).abs().max()) < 0.02


def test_factors_are_the_target():
    points = targets(SMALL)[0]
    gx, gy, weights = SMALL.factors(points, torch.ones(1, 24))
    heatmaps, other = SMALL.encode(points, torch.ones(1, 24))
    torch.testing.assert_close(torch.einsum('bkh,bkw->bkhw', gy, gx), heatmaps)
    assert torch.equal(weights, other)
    # against the formula, inside the window
    x, y = (points[0, 0] / SMALL._scale(points)).tolist()
    row, column = int(y), int(x)
    value = np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * 2**2))
    assert float(heatmaps[0, 0, row, column]) == pytest.approx(value, rel=1e-4)


def test_built_by_name_and_defaults():
    codec = CODECS.build(dict(type='UDPHeatmap', input_size=(1024, 768)))
    assert (codec.heatmap_size, codec.sigma) == ((256, 192), 6.0)
    assert repr(codec) == 'UDPHeatmap(input_size=(1024, 768), heatmap_size=(256, 192), sigma=6.0)'
    with pytest.raises(ValueError, match='must be odd, not 10'):
        UDPHeatmap((64, 64), blur_kernel_size=10)


@pytest.mark.parametrize('size', [(64,), (64, 48, 3), (64.0, 48)])
@pytest.mark.parametrize('name', ['input_size', 'heatmap_size'])
def test_sizes_are_two_whole_numbers(name, size):
    with pytest.raises(UserError, match=rf'UDPHeatmap\.{name} is .*; give \(H, W\)'):
        UDPHeatmap(**{'input_size': (64, 48), name: size})


@pytest.mark.parametrize('scale', [1.0, 0.02, 60.0])
def test_decoding_without_branches_is_that_of_the_cpu(scale, monkeypatch):
    """On GPUs and in exported graphs all maps are blurred, by constant matrices; other maps and none at all too."""
    points = 90 * torch.rand(2, 17, 2, generator=torch.Generator().manual_seed(0))
    wide = SMALL.encode(points, torch.ones(2, 17))[0].square().square()  # touches the lower bound
    maps = torch.cat([wide, noisy(SMALL, 17, 0.1)[None], torch.zeros(1, 17, 64, 48)]) * scale
    expected = SMALL.decode(maps)
    monkeypatch.setattr(udp_heatmap, '_may_branch', lambda _: False)
    blurred = []
    plain = UDPHeatmap._blurred_maxima
    monkeypatch.setattr(UDPHeatmap, '_blurred_maxima', lambda *args: blurred.append(1) or plain(*args))
    torch.testing.assert_close(SMALL.decode(maps), expected, atol=2e-3, rtol=0)
    assert blurred


def test_decode_reads_only_windows(monkeypatch):
    """Whole maps are blurred only where clipping acts: for peaks like a trained model's, never."""
    monkeypatch.setattr(udp_heatmap, '_blurred_maximum', lambda *_: pytest.fail('a whole map was blurred'))
    CODEC.decode(noisy(CODEC, 16, 0.005)[None])
