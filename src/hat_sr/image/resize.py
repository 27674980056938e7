"""Antialiased bicubic resizing: MATLAB's, bit for bit, on uint8, and the same kernel on floats.

The low-resolution images of every benchmark and published training come from MATLAB's `imresize`. Four of its habits
matter, and other libraries differ in each: the cubic kernel has a = −0.5, it is stretched by the factor when shrinking,
uint8 results are rounded after each one-dimensional pass, and the edge is mirrored (older releases repeat it).

Both functions make two one-dimensional passes, each a weighted sum of a few taps:
`out[i] = Σ_t weights[t, i] · in[indices[t, i]]`.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from hat_sr.errors import InputError

Border = Literal["mirror", "clamp"]
"""What lies beyond the edge: `mirror` repeats it backwards (… c b a a b c …), `clamp` repeats the last pixel."""

_KERNEL_WIDTH = 4.0


def imresize(image: Tensor, target: float | tuple[int, int], *, border: Border = "mirror") -> Tensor:
    """Resize by MATLAB's bicubic `imresize`, bit for bit.

    image: uint8, (…, H, W), values 0–255. target: a factor (the result is ceil(factor · side), as in MATLAB) or a size
    (height, width). border: `mirror` as in today's MATLAB and most papers, `clamp` as in releases of about 2010.
    Returns uint8 (…, height, width). Raises InputError for another dtype, an empty image or an impossible target.
    """
    if image.dtype != torch.uint8:
        raise InputError(f"imresize takes a uint8 image, got {image.dtype}: use resize for floats")
    height, width = _sides(image)
    if isinstance(target, tuple):
        size = target
        _check_size(size)
        scales = size[0] / height, size[1] / width
    else:
        if not (math.isfinite(target) and target > 0):
            raise InputError(f"the factor must be a finite number above 0, got {target}")
        size = math.ceil(target * height), math.ceil(target * width)
        scales = float(target), float(target)
    x = image
    for dim in _pass_order(scales):
        summed = _resize_dim(x.to(torch.float64), dim, size[dim], scales[dim], border)
        x = (summed + 0.5).floor_().clamp_(0, 255).to(torch.uint8)
    return x


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize by the same kernel in floating point, without rounding or clipping: values may leave the input's range.

    x: float (…, H, W), any range; size: (height, width). Borders are mirrored. Differentiable. float16 and bfloat16 are
    computed in float32. Returns x's dtype, (…, height, width). Raises InputError for integers, an empty image or size.
    """
    if not x.is_floating_point():
        raise InputError(f"resize takes a float tensor, got {x.dtype}: use imresize for uint8")
    height, width = _sides(x)
    _check_size(size)
    scales = size[0] / height, size[1] / width
    out = x if x.dtype in (torch.float32, torch.float64) else x.float()
    for dim in _pass_order(scales):
        out = _resize_dim(out, dim, size[dim], scales[dim], "mirror")
    return out.to(x.dtype)


def resize_rows(
    read: Callable[[int, int], Tensor], height: int, width: int, size: tuple[int, int], start: int, stop: int
) -> Tensor:
    """The rows from `start` to before `stop` of what `resize` makes of an image that is not in memory.

    read: gives the image's rows from one to before another, float32 or float64 (…, rows, width), `height` in all.
    """
    _check_size(size)
    scales = size[0] / height, size[1] / width
    indices, weights = _taps(height, size[0], scales[0], "mirror")
    indices, weights = indices[:, start:stop], weights[:, start:stop]
    first = int(indices.min())
    out = read(first, int(indices.max()) + 1)
    for dim in _pass_order(scales):
        if dim == 1:
            out = _resize_dim(out, 1, size[1], scales[1], "mirror")
        elif size[0] != height:
            out = _weighted(out, indices - first, weights)
    return out


def _sides(image: Tensor) -> tuple[int, int]:
    if image.ndim < 2 or image.numel() == 0:
        raise InputError(f"an image of shape (…, H, W) with at least one pixel is needed, got {tuple(image.shape)}")
    return image.shape[-2], image.shape[-1]


def _check_size(size: tuple[int, int]) -> None:
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"the size must be (height, width), both at least 1, got {size}")


def _pass_order(scales: tuple[float, float]) -> tuple[int, int]:
    """MATLAB takes the axis that shrinks most first, and height if they are equal; 0 is height, 1 is width."""
    return (0, 1) if scales[0] <= scales[1] else (1, 0)


def _resize_dim(x: Tensor, dim: int, length: int, scale: float, border: Border) -> Tensor:
    """Resize one of the last two axes of a float tensor: dim 0 is height, 1 is width."""
    if dim == 1:
        # Whole rows are gathered several times faster than columns.
        return _resize_dim(x.mT.contiguous(), 0, length, scale, border).mT.contiguous()
    if scale == 1 and length == x.shape[-2]:
        return x
    return _weighted(x, *_taps(x.shape[-2], length, scale, border))


def _weighted(x: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows, by what `_taps` returns."""
    indices, weights = indices.to(x.device), weights.to(x).unsqueeze(-1)
    # Tap by tap with a product and a sum each, as MATLAB does: a matrix product adds in another order, and sums that
    # end close to .5 would round the other way on some machines.
    out = x.index_select(-2, indices[0]) * weights[0]
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        out.add_(x.index_select(-2, index).mul_(weight))
    return out


@lru_cache(maxsize=64)
def _taps(in_length: int, out_length: int, scale: float, border: Border) -> tuple[Tensor, Tensor]:
    """Indices (int64) and weights (float64, summing to 1 over taps) of one pass, both (taps, out_length) on the CPU."""
    # A tensor made under inference_mode could not be used for training later, and these are kept.
    with torch.inference_mode(False):
        shrink = min(scale, 1.0)
        support = _KERNEL_WIDTH / shrink
        position = torch.arange(1, out_length + 1, dtype=torch.float64)
        center = position / scale + 0.5 * (1 - 1 / scale)
        first = torch.floor(center - support / 2)
        indices = first + torch.arange(math.ceil(support) + 2, dtype=torch.float64).unsqueeze(1)
        weights = shrink * _cubic(shrink * (center - indices))
        weights = weights / weights.sum(dim=0)
        indices = indices.long() - 1
        if border == "mirror":
            indices = indices.remainder(2 * in_length)
            indices = torch.minimum(indices, 2 * in_length - 1 - indices)
        else:
            indices = indices.clamp(0, in_length - 1)
        used = (weights != 0).any(dim=1)
        return indices[used], weights[used]


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = −0.5 (IEEE TASSP 29, 1981)."""
    x = x.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, torch.zeros_like(x)))
