# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""UDP heatmaps (Huang et al., CVPR 2020) with DARK decoding (Zhang et al., CVPR 2020), on tensors."""

from __future__ import annotations

import math
from numbers import Integral

import cv2
import numpy as np
import torch

from ..errors import UserError
from ..registry import CODECS
from ..utils.full_precision import full_precision
from ..utils.numbers import check_number
from ..utils.on_device import constants

# Longest step from the highest pixel to the peak between pixels, in heatmap pixels.
MAX_STEP = 1.5


@CODECS.register_module()
class UDPHeatmap:
    """Gaussian heatmaps without quantisation error, and their decoding.

    The first and last pixel centres of input and heatmap coincide (UDP): a heatmap coordinate is the input
    coordinate divided by ``((W - 1) / (w - 1), (H - 1) / (h - 1))``. A target is a Gaussian around the exact
    position, cut to a window of 3 sigma around the nearest pixel, hence the outer product of two vectors.

    Args:
        input_size: ``(H, W)`` of the network's input.
        heatmap_size: ``(h, w)`` of the heatmaps; a quarter of the input by default.
        sigma: Standard deviation of the target in heatmap pixels; ``w / 32`` by default (6 for 256 x 192).
        blur_kernel_size: Odd number of taps of the Gaussian blur before decoding (11).

    Raises:
        UserError: A number that makes no sense.
    """

    def __init__(
        self,
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int] | None = None,
        sigma: float | None = None,
        blur_kernel_size: int = 11,
    ) -> None:
        check_number('UDPHeatmap.blur_kernel_size', blur_kernel_size, 1, whole=True)
        if blur_kernel_size % 2 == 0:
            raise UserError(f'UDPHeatmap.blur_kernel_size must be odd, not {blur_kernel_size}')
        self.input_size = tuple(input_size)
        self.heatmap_size = tuple(heatmap_size or (n // 4 for n in self.input_size))
        for name in ('input_size', 'heatmap_size'):
            size = getattr(self, name)
            if len(size) != 2 or not all(isinstance(side, Integral) for side in size):
                raise UserError(f'UDPHeatmap.{name} is {size}; give (H, W), two whole numbers')
        if min(self.heatmap_size) < 2:
            h, w = self.heatmap_size
            raise UserError(f'UDPHeatmap: heatmaps of {h} x {w} are too small; check img_size of the backbone')
        sigma = self.heatmap_size[1] / 32 if sigma is None else sigma
        check_number('UDPHeatmap.sigma', sigma, above=True)
        self.sigma = float(sigma)
        self.blur_kernel_size = blur_kernel_size

    def __repr__(self) -> str:
        return f'UDPHeatmap(input_size={self.input_size}, heatmap_size={self.heatmap_size}, sigma={self.sigma})'

    def _scale(self, like: torch.Tensor) -> torch.Tensor:
        """Input pixels per heatmap pixel, ``(2,)`` in x, y."""
        (height, width), (h, w) = self.input_size, self.heatmap_size
        return constants([(width - 1) / (w - 1), (height - 1) / (h - 1)], like)

    def factors(
        self, keypoints: torch.Tensor, visible: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The two vectors whose outer product is the target.

        Args:
            keypoints: ``(B, K, 2)`` x, y in input pixels; rows of invisible points may be NaN.
            visible: ``(B, K)``; below 0.5 = no target; a value between 0.5 and 1 weights the point down.

        Returns:
            ``gx`` (B, K, w), ``gy`` (B, K, h) and ``weights`` (B, K): ``min(visible, 1)`` for visible points whose
            window meets the heatmap, else 0 (then both vectors are 0).
        """
        points = torch.nan_to_num(keypoints.float()) / self._scale(keypoints.float())
        # Rounding half up and towards zero, as the published targets do.
        centre = (points + 0.5).trunc()
        radius = 3 * self.sigma
        height, width = self.heatmap_size
        limit = constants([width, height], points)
        inside = ((centre - radius < limit) & (centre + radius >= 0)).all(-1)
        drawn = (visible >= 0.5) & inside

        def gaussian(axis: int, length: int) -> torch.Tensor:
            pixels = torch.arange(length, device=points.device, dtype=torch.float32)
            distance = pixels - points[..., axis, None]
            window = (pixels - centre[..., axis, None]).abs() <= radius
            return torch.exp(-(distance**2) / (2 * self.sigma**2)) * window * drawn[..., None]

        return gaussian(0, width), gaussian(1, height), visible.float().clamp(max=1) * drawn

    def encode(self, keypoints: torch.Tensor, visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rendered targets: ``(B, K, h, w)`` float32 in [0, 1] and weights ``(B, K)``; arguments as `factors`."""
        gx, gy, weights = self.factors(keypoints, visible)
        return gy[..., :, None] * gx[..., None, :], weights

    @full_precision
    def decode(self, heatmaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions of the peaks by one Newton step on the blurred log map.

        Only a window around each argmax is read: blurring is local and its rescaling is a constant in log space.
        A map without a positive value gets score 0 and the coordinates of its argmax.

        Args:
            heatmaps: ``(B, K, h, w)``.

        Returns:
            Keypoints ``(B, K, 2)`` float32 in input pixels (always finite) and scores ``(B, K)`` float32, the maxima
            of the maps (at least 0).
        """
        batch, count, height, width = heatmaps.shape
        # The maxima of groups of rows first: one pass at the speed of the memory, where a search for the position over
        # whole maps is several times slower.
        length = width * math.gcd(height, 4)
        groups = heatmaps.flatten(2).unflatten(2, (-1, length))
        group = groups.amax(-1).argmax(-1)
        peak, place = groups.gather(2, group[..., None, None].expand(-1, -1, 1, length))[..., 0, :].max(-1)
        peak = torch.nan_to_num(peak.float()).clamp(min=0)
        index = group * length + place
        row, column = index // width, index % width
        window = self._blurred_window(heatmaps, row, column)
        # The blurred map is rescaled to the height of the raw one and clipped, so that noise far below the peak
        # cannot bend the step.
        window = window * (peak / self._blurred_peak(heatmaps, window, peak).clamp(min=1e-12))[..., None, None]
        log = window.clamp(1e-3, 50.0).log()  # floats both, for exporters
        # The window at a border repeats the last row or column inside the map.
        offset = torch.arange(-1, 2, device=heatmaps.device)
        rows = (row[..., None] + offset).clamp(0, height - 1) - row[..., None] + 1
        columns = (column[..., None] + offset).clamp(0, width - 1) - column[..., None] + 1
        log = log.gather(2, rows[..., None].expand(-1, -1, -1, 3)).gather(
            3, columns[..., None, :].expand(-1, -1, 3, -1)
        )
        step = self._newton_step(log, flattest=self._flattest)
        step = torch.where((peak > 0)[..., None], step, torch.zeros_like(step))
        points = torch.stack([column, row], -1).float() + step
        return points * self._scale(points), peak

    def _blurred_window(self, heatmaps: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        """Blurred values of the 3 x 3 pixels around ``(row, column)``; zeros lie outside: ``(B, K, 3, 3)``."""
        batch, count, height, width = heatmaps.shape
        taps = self.blur_kernel_size
        reach = taps // 2 + 1
        offset = torch.arange(-reach, reach + 1, device=heatmaps.device)
        rows, columns = row[..., None] + offset, column[..., None] + offset
        inside = ((rows >= 0) & (rows < height))[..., :, None] & ((columns >= 0) & (columns < width))[..., None, :]
        flat = rows.clamp(0, height - 1)[..., :, None] * width + columns.clamp(0, width - 1)[..., None, :]
        patch = heatmaps.flatten(2).gather(2, flat.flatten(2)).float().reshape(inside.shape) * inside
        patch = torch.nan_to_num(patch)
        kernel = self._kernel(patch)
        blur = torch.stack([torch.nn.functional.pad(kernel, (i, 2 - i)) for i in range(3)])
        return blur @ patch @ blur.T

    def _kernel(self, like: torch.Tensor) -> torch.Tensor:
        """Taps of the blur."""
        taps = self.blur_kernel_size
        sigma = _blur_sigma(taps)
        distance = torch.arange(taps, device=like.device, dtype=torch.float32) - taps // 2
        kernel = torch.exp(-(distance**2) / (2 * sigma**2))
        return kernel / kernel.sum()

    def _blurred_peak(self, heatmaps: torch.Tensor, window: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
        """Maximum of the blurred map ``(B, K)``, exact where it can matter.

        A common factor cancels in the derivatives of the logarithm, so the maximum matters only where clipping
        acts: the window touches the lower bound or the peak the upper one. Only those maps are blurred whole, and
        not those whose peak is noise.
        """
        maximum = window.amax((-1, -2))
        matters = ((window.amin((-1, -2)) < 1e-3) & (peak > 1e-2)) | (peak > 50)
        if _may_branch(heatmaps):
            taps = self._kernel(window).numpy()
            # One by one: copying many maps would cost as much as blurring them.
            for b, k in matters.nonzero().tolist():
                maximum[b, k] = _blurred_maximum(heatmaps[b, k], taps)
            return maximum
        return torch.where(matters, self._blurred_maxima(heatmaps), maximum)

    def _blurred_maxima(self, heatmaps: torch.Tensor) -> torch.Tensor:
        """Maxima ``(B, K)`` of all maps after the blur, as two products with constant banded matrices.

        Nothing here depends on values: a GPU need not wait, and the graph can be exported. A CPU takes 25 times as long
        as for `_blurred_maximum` of the few maps that need it.
        """
        maps = torch.nan_to_num(heatmaps.float())
        kernel = self._kernel(maps)
        half = len(kernel) // 2

        def band(length: int) -> torch.Tensor:
            place = torch.arange(length, device=maps.device)
            distance = (place[:, None] - place).abs()
            return kernel[half + distance.clamp(max=half)] * (distance <= half)

        return (band(maps.shape[-2]) @ maps @ band(maps.shape[-1])).amax((-1, -2))

    @property
    def _flattest(self) -> float:
        """Curvature of the log map of a peak that is twice as wide as a blurred target; less is noise."""
        return 0.25 / (self.sigma**2 + _blur_sigma(self.blur_kernel_size) ** 2)

    @staticmethod
    def _newton_step(log: torch.Tensor, flattest: float) -> torch.Tensor:
        """``-H^-1 g`` at the centre of ``(B, K, 3, 3)`` log values: ``(B, K, 2)`` in x, y.

        Where noise makes a map almost flat, the inverse of the Hessian is huge and changes sign with the last bit:
        eigenvalues h smaller than ``flattest`` are inverted as ``h / flattest^2``, and no step is longer than
        `MAX_STEP`. So the step is a continuous function of the map.
        """
        centre = log[..., 1, 1]
        right, left = log[..., 1, 2], log[..., 1, 0]
        down, up = log[..., 2, 1], log[..., 0, 1]
        dx, dy = (right - left) / 2, (down - up) / 2
        dxx = right - 2 * centre + left
        dyy = down - 2 * centre + up
        dxy = (log[..., 2, 2] - right - down + 2 * centre - left - up + log[..., 0, 0]) / 2
        # A function of a symmetric 2 x 2 matrix is a multiple of the matrix less its mean, plus a multiple of 1.
        mean, half = (dxx + dyy) / 2, (dxx - dyy) / 2
        radius = (half.square() + dxy.square()).sqrt()
        small, large = (h / h.square().clamp(min=flattest**2) for h in (mean - radius, mean + radius))
        along, across = (small + large) / 2, (large - small) / (2 * radius).clamp(min=1e-12)
        step = -torch.stack(
            [along * dx + across * (half * dx + dxy * dy), along * dy + across * (dxy * dx - half * dy)], -1
        )
        return step * (MAX_STEP / step.norm(dim=-1, keepdim=True).clamp(min=MAX_STEP))


def _blur_sigma(taps: int) -> float:
    """OpenCV's rule for a kernel of that size, which published decoding relies on."""
    return 0.3 * ((taps - 1) * 0.5 - 1) + 0.8


def _may_branch(heatmaps: torch.Tensor) -> bool:
    """Whether decoding may look at values and branch: on a CPU, unless a graph is made of it."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return heatmaps.device.type == 'cpu' and not traced


def _blurred_maximum(heatmap: torch.Tensor, taps: np.ndarray) -> float:
    """Maximum of a map ``(h, w)`` on the CPU after a separable blur; zeros lie outside."""
    # Many times faster than a convolution of one channel.
    pixels = torch.nan_to_num(heatmap.detach().float()).numpy()
    return float(cv2.sepFilter2D(pixels, -1, taps, taps, borderType=cv2.BORDER_CONSTANT).max())
