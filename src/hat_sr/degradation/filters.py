"""Blurring, resizing and sharpening of (3, H, W) uint8 images, with the same result on every machine.

Levels and weights are whole numbers that float32 sums exactly (see `kernels.UNIT`); each filter ends in levels again.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hat_sr.degradation.config import Mode
from hat_sr.degradation.kernels import UNIT, in_units
from hat_sr.image.resize import imresize

_LARGE = 13
"""Kernels of this side and above are quicker through Fourier transforms."""

_SHARPEN_SIGMA = 8.0
_SHARPEN_RADIUS = 25
_SHARPEN_WEIGHT = 0.5
_SHARPEN_THRESHOLD = 10
"""Of the unsharp mask, as published for Real-ESRGAN: differences of up to so many levels are left alone."""


def filtered(image_CHW: Tensor, kernel: Tensor) -> Tensor:
    """Correlate each channel with a square kernel in whole units; the edge is mirrored."""
    radius = len(kernel) // 2
    rows, columns = (torch.from_numpy(_mirrored(side, radius)) for side in image_CHW.shape[1:])
    wide = image_CHW[:, rows][:, :, columns]
    units = _direct(wide, kernel) if len(kernel) < _LARGE else _by_fourier(wide, kernel)
    return _rounded(units).clamp_(0, 255).to(torch.uint8)


def _direct(wide_CHW: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(wide_CHW[None].float(), kernel.expand(len(wide_CHW), 1, -1, -1), groups=len(wide_CHW))[0]


def _by_fourier(wide_CHW: Tensor, kernel: Tensor) -> Tensor:
    """The same sums: float64 errs by far less than 1 / 2, and they are whole numbers."""
    sides = [_smooth(side) for side in wide_CHW.shape[1:]]
    product = torch.fft.rfft2(wide_CHW.double(), s=sides) * torch.fft.rfft2(kernel.double(), s=sides).conj()
    height, width = (side - len(kernel) + 1 for side in wide_CHW.shape[1:])
    units: Tensor = torch.fft.irfft2(product, s=sides)
    return units[:, :height, :width].round_().float()


def _smooth(length: int) -> int:
    """The next number without prime factors above 5, which are slow."""
    rest = length
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    return length if rest == 1 else _smooth(length + 1)


def resized(image_CHW: Tensor, size: tuple[int, int], mode: Mode) -> Tensor:
    """Resize to (height, width); "matlab" as `imresize`, else as torch's `interpolate` but for rounding."""
    if size == tuple(image_CHW.shape[1:]):
        return image_CHW
    if mode == "matlab":
        return imresize(image_CHW.contiguous(), size)
    height, width = (_resampling(old, new, mode) for old, new in zip(image_CHW.shape[1:], size, strict=True))
    return _separable(image_CHW, height, width)


def sharpened(image_CHW: Tensor) -> Tensor:
    """The image with an unsharp mask where it differs from its surroundings, as Real-ESRGAN sharpens its targets."""
    x = image_CHW.float()
    difference = x - _surroundings(image_CHW).float()
    edges = (difference.abs() > _SHARPEN_THRESHOLD).to(torch.uint8) * 255
    weight = _surroundings(edges).float() / 255
    sharp = (x + _SHARPEN_WEIGHT * difference).clamp_(0, 255)
    return (x + weight * (sharp - x)).round_().to(torch.uint8)


def _surroundings(image_CHW: Tensor) -> Tensor:
    height, width = (_smoothing(side) for side in image_CHW.shape[1:])
    return _separable(image_CHW, height, width)


def _separable(image_CHW: Tensor, height: Tensor, width: Tensor) -> Tensor:
    return _rounded(_rounded(height @ image_CHW.float()) @ width.T).clamp_(0, 255).to(torch.uint8)


def _rounded(units: Tensor) -> Tensor:
    """Sums in units as levels, in place: rounded, halves up."""
    return units.add_(UNIT // 2).div_(UNIT).floor_()


def _mirrored(length: int, margin: int) -> NDArray[np.int64]:
    """Where the pixels of a row with a margin on both sides come from: … b a a b c … c b …"""
    places = np.arange(-margin, length + margin) % (2 * length)
    return np.minimum(places, 2 * length - 1 - places)


@lru_cache(maxsize=8)
def _smoothing(length: int) -> Tensor:
    """The matrix of a row's Gaussian blur, mirrored at its ends."""
    across = np.arange(-_SHARPEN_RADIUS, _SHARPEN_RADIUS + 1)
    weights = np.broadcast_to(np.exp(-0.5 * (across / _SHARPEN_SIGMA) ** 2), (length, len(across)))
    windows = np.lib.stride_tricks.sliding_window_view(_mirrored(length, _SHARPEN_RADIUS), len(across))
    return _matrix(windows, weights, length)


@lru_cache(maxsize=8)
def _resampling(old: int, new: int, mode: Mode) -> Tensor:
    """The matrix of resizing a row of `old` pixels to `new`, not antialiased: (new, old) in whole units."""
    places = np.arange(new)
    if mode == "area":
        first, last = places * old // new, -(-(places + 1) * old // new)
        indices = first[:, None] + np.arange(math.ceil(old / new) + 1)
        return _matrix(indices, (indices < last[:, None]).astype(np.float64), old)
    center = (places + 0.5) * (old / new) - 0.5
    if mode == "bilinear":
        center = np.maximum(center, 0)
        indices = np.floor(center).astype(np.int64)[:, None] + np.arange(2)
        return _matrix(indices, 1 - np.abs(center[:, None] - indices), old)
    indices = np.floor(center).astype(np.int64)[:, None] + np.arange(-1, 3)
    return _matrix(indices, _cubic(np.abs(center[:, None] - indices)), old)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel with torch's a = −0.75."""
    near = 1.25 * distance**3 - 2.25 * distance**2 + 1
    far = -0.75 * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance <= 2, far, 0.0))


def _matrix(indices: NDArray[np.int64], weights: NDArray[np.float64], length: int) -> Tensor:
    """Rows of a matrix of so many columns with the weights where the indices, kept inside, say: both (rows, taps)."""
    rows = torch.arange(len(indices))[:, None].expand(indices.shape)
    columns = torch.from_numpy(np.clip(indices, 0, length - 1))
    return torch.zeros(len(indices), length).index_put_((rows, columns), in_units(weights), accumulate=True)
