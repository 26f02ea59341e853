# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""From the frame of the network's input back to that of the original image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ...structures import HumanDataSample
from ...structures.geometry import resize_matrix
from ...utils.on_device import constants

STRIPE = 2**22  # numbers that a stripe of resampled rows may hold


def cut_to_input(output: torch.Tensor, covered: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """The part of an output that lies on the input.

    An encoder whose patches do not fit pads right and bottom (or leaves a rest out), so the output covers more (or
    less) than the input and would be stretched onto it.

    Args:
        output: ``(B, C, h, w)`` of a head.
        covered: ``(H', W')`` pixels, from the input's upper left corner, that the output covers.
        size: ``(H, W)`` of the input.

    Returns:
        ``(B, C, h', w')`` covering exactly ``(H, W)``; the same tensor where patches fit.
    """
    if tuple(covered) == tuple(size):
        return output
    shape = (max(1, n * cells // pixels) for n, cells, pixels in zip(size, output.shape[-2:], covered, strict=True))
    y, x = (n / pixels for n, pixels in zip(size, covered, strict=True))
    # Whole cells are read as they are; sampling beyond the last one repeats it.
    theta = constants([x, 0, x - 1, 0, y, y - 1], output).view(1, 2, 3).expand(len(output), -1, -1)
    grid = F.affine_grid(theta, [len(output), 1, *shape], align_corners=False)
    return F.grid_sample(output, grid, padding_mode='border', align_corners=False)


def sample_frames(sample: HumanDataSample, fallback: Sequence[int]) -> tuple[tuple, tuple, torch.Tensor]:
    """``(H, W)`` of the input and the original, and the ``(2, 3)`` float64 map of original pixels to input pixels.

    Without metainfo the input is the original; without ``warp_mat`` the input is the resized original.
    """
    input_shape = tuple(int(n) for n in sample.get('img_shape', fallback)[:2])
    ori_shape = tuple(int(n) for n in sample.get('ori_shape', input_shape)[:2])
    warp = sample.get('warp_mat', None)
    if warp is None:
        return input_shape, ori_shape, torch.from_numpy(resize_matrix(ori_shape, input_shape))[:2]
    return input_shape, ori_shape, torch.as_tensor(warp, dtype=torch.float64)[:2]


def points_to_original(points: torch.Tensor, warp: torch.Tensor) -> torch.Tensor:
    """Input pixels -> original pixels, both ``(..., K, 2)``, by maps ``(..., 2, 3)`` of original to input pixels."""
    row = warp.new_tensor([0.0, 0.0, 1.0]).expand(*warp.shape[:-2], 1, 3)
    inverse = torch.linalg.inv(torch.cat([warp, row], -2))[..., None, :2, :]  # (..., 1, 2, 3), on the host
    inverse = inverse.to(points.device, _exact(points.device), non_blocking=True)
    moved = (points[..., None, :].to(inverse.dtype) * inverse[..., :2]).sum(-1) + inverse[..., 2]
    return moved.float()


def _exact(device: torch.device) -> torch.dtype:
    """The finest float type of a device: MPS has no float64 (and float32 is right to 1e-3 pixels of a 4K image)."""
    return torch.float32 if device.type == 'mps' else torch.float64


def _source_coordinates(
    warp: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Input x, y of original pixels; rows and columns broadcast against each other."""
    (a, b, c), (d, e, f) = warp.tolist()  # it is on the host; numbers need no copy
    return a * columns + b * rows + c, d * columns + e * rows + f


def map_to_original(values: torch.Tensor, warp: torch.Tensor, ori_shape: tuple[int, int]) -> torch.Tensor:
    """Resample a map of the input's frame bilinearly into the original frame.

    Args:
        values: ``(C, H, W)`` at the input's size.
        warp: ``(2, 3)`` original pixels to input pixels.
        ori_shape: ``(H', W')``.

    Returns:
        ``(C, H', W')`` float32; 0 where the original lies outside the input.
    """
    values = values.float()
    resize = resize_matrix(ori_shape, tuple(values.shape[-2:]))
    if np.allclose(warp.cpu(), resize[:2], atol=1e-4, rtol=0):
        return F.interpolate(values[None], size=ori_shape, mode='bilinear', align_corners=False)[0]
    out = values.new_empty(values.shape[0], *ori_shape)
    for rows, stripe, inside in _stripes(values, warp, ori_shape, STRIPE):
        out[:, rows] = stripe * inside
    return out


def argmax_to_original(
    logits: torch.Tensor, warp: torch.Tensor, ori_shape: tuple[int, int], outside: int = 0
) -> torch.Tensor:
    """Class of the largest bilinearly resampled logit of every original pixel, without resampling the logits.

    Where the four neighbours of a pixel agree, so does any mixture of them: only the pixels between neighbours
    that differ (the borders of parts) are interpolated.

    Args:
        logits: ``(C, H, W)`` at the input's size.
        warp: ``(2, 3)`` original pixels to input pixels.
        ori_shape: ``(H', W')``.
        outside: Class of original pixels that the input does not cover.

    Returns:
        ``(H', W')`` uint8.
    """
    out = torch.empty(ori_shape, dtype=torch.uint8, device=logits.device)
    if logits.device.type != 'cpu':  # a GPU interpolates every pixel faster than it can find the borders
        for some, stripe, inside in _stripes(logits.float(), warp, ori_shape, 2**26):
            out[some] = torch.where(inside, stripe.argmax(0), outside).to(torch.uint8)
        return out
    height, width = logits.shape[-2:]
    labels = _classes(logits)
    # mixed[y, x]: the cell with corners (y, x) .. (y + 1, x + 1) has several classes
    padded = F.pad(labels[None, None].float(), (0, 1, 0, 1), mode='replicate')[0, 0].to(torch.uint8)
    mixed = (labels != padded[1:, :-1]) | (labels != padded[:-1, 1:]) | (labels != padded[1:, 1:])
    # The logits of a pixel side by side, of the corners of those cells alone: all would be as large as the logits.
    corners = mixed.clone()
    corners[1:] |= mixed[:-1]
    corners[:, 1:] |= corners[:, :-1].clone()
    kept = corners.flatten().nonzero()[:, 0]
    pixels = logits.flatten(1).index_select(1, kept).T.contiguous()
    place = torch.zeros(height * width, dtype=torch.int32, device=logits.device)
    place[kept] = torch.arange(len(kept), dtype=torch.int32, device=logits.device)
    upright = bool((warp[0, 1] == 0) & (warp[1, 0] == 0))
    step = max(1, STRIPE // (8 * ori_shape[1]))
    exact = _exact(logits.device)
    columns = torch.arange(ori_shape[1], device=logits.device, dtype=exact)[None]
    for start in range(0, ori_shape[0], step):
        rows = torch.arange(start, min(start + step, ori_shape[0]), device=logits.device, dtype=exact)[:, None]
        if upright:
            # x depends on the column alone and y on the row alone: one row and one column of positions will do.
            x, _ = _source_coordinates(warp, rows[:1], columns)
            _, y = _source_coordinates(warp, rows, columns[:, :1])
        else:
            x, y = _source_coordinates(warp, rows, columns)
        inside = ((x > -0.5) & (x < width - 0.5)) & ((y > -0.5) & (y < height - 0.5))
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
        x0, y0 = x.long(), y.long()
        stripe = _look_up(labels, y0, x0, upright)
        at = (_look_up(mixed, y0, x0, upright) & inside).nonzero(as_tuple=True)
        if at[0].numel():
            # Positions are a row and a column, or one for every pixel.
            by_row, by_column = ((at[0], 0), (0, at[1])) if upright else (at, at)
            corner = y0[by_row] * width + x0[by_column]
            fractions = (x - x0)[by_column], (y - y0)[by_row]
            stripe[at] = _interpolated_argmax(pixels, place, corner, *fractions, (height, width))
        out[start : start + step] = stripe.masked_fill_(~inside, outside)
    return out


def _classes(logits: torch.Tensor) -> torch.Tensor:
    """``(C, H, W)`` -> ``(H, W)`` uint8: argmax over the classes, four times as fast as `torch.argmax` on CPUs."""
    best = logits[0].clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8, device=logits.device)
    for number in range(1, len(logits)):
        labels.masked_fill_(logits[number] > best, number)
        torch.maximum(best, logits[number], out=best)
    return labels


def _stripes(
    values: torch.Tensor, warp: torch.Tensor, ori_shape: tuple[int, int], numbers: int
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Stripes of original rows: which, the ``(C, n, W')`` resampled values, and where the input covers them."""
    height, width = values.shape[-2:]
    step = max(1, numbers // (values.shape[0] * ori_shape[1]))
    columns = torch.arange(ori_shape[1], device=values.device, dtype=_exact(values.device))
    for start in range(0, ori_shape[0], step):
        stop = min(start + step, ori_shape[0])
        rows = torch.arange(start, stop, device=values.device, dtype=_exact(values.device))
        x, y = _source_coordinates(warp, rows[:, None], columns[None])
        inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1).float()
        stripe = F.grid_sample(values[None], grid[None], padding_mode='border', align_corners=False)[0]
        yield slice(start, stop), stripe, inside


def _look_up(values: torch.Tensor, y: torch.Tensor, x: torch.Tensor, upright: bool) -> torch.Tensor:
    """``values[y, x]``; of an upright frame, whose ``y`` is a column and whose ``x`` is a row, by whole rows."""
    return values[y[:, 0]].index_select(1, x[0]) if upright else values[y, x]


def _interpolated_argmax(
    pixels: torch.Tensor,
    place: torch.Tensor,
    corner: torch.Tensor,
    fx: torch.Tensor,
    fy: torch.Tensor,
    size: tuple[int, int],
) -> torch.Tensor:
    """Argmax of logits mixed at points given by their upper left corner and fractions.

    Args:
        pixels: ``(n, C)`` logits of some pixels.
        place: ``(H W,)`` where among them a pixel is.
        corner: ``(N,)`` numbers of pixels.
        fx, fy: ``(N,)``.
        size: ``(H, W)``.
    """
    height, width = size
    best = torch.empty(corner.shape[0], dtype=torch.uint8, device=pixels.device)
    chunk = max(1, STRIPE // (8 * pixels.shape[1]))
    for start in range(0, corner.shape[0], chunk):
        part = slice(start, start + chunk)
        at = corner[part]
        right = torch.where(at % width < width - 1, 1, 0)
        down = torch.where(at < (height - 1) * width, width, 0)
        wx, wy = fx[part, None].to(pixels.dtype), fy[part, None].to(pixels.dtype)
        left_top, right_top, left_bottom, right_bottom = (
            pixels.index_select(0, place[index]) for index in (at, at + right, at + down, at + down + right)
        )
        top, bottom = torch.lerp(left_top, right_top, wx), torch.lerp(left_bottom, right_bottom, wx)
        best[part] = torch.lerp(top, bottom, wy).argmax(1).to(torch.uint8)
    return best
