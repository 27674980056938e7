"""NIQE: how far an image's statistics are from those of good photographs; it needs no original.

Mittal, Soundararajan and Bovik, "Making a 'completely blind' image quality analyzer", IEEE SPL 20.3 (2013). The
statistics of good photographs, niqe.npz, are those of the authors' release (Laboratory for Image and Video Engineering,
The University of Texas at Austin, http://live.ece.utexas.edu, copyright 2011, which permits use, copying and
distribution for any purpose with this notice).
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hat_sr.errors import InputError
from hat_sr.evaluate.metrics import y_codes
from hat_sr.image.resize import resize

_BLOCK = 96
_WINDOW, _SIGMA = 7, 7 / 6
_SHAPES = torch.arange(0.2, 10.0005, 0.001, dtype=torch.float64)
"""Exponents that a fitted distribution may have."""
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))


def niqe(image: Tensor) -> float:
    """The distance, lower is better: about 3 to 5 for good photographs.

    image: RGB or gray, (C, H, W) or (1, C, H, W), at least 96×96; uint8, or float in [0, 1], rounded to 8 bits. Scored
    is luma Y of BT.601 in studio range, rounded to levels, in whole blocks of 96×96 from the top left. Raises
    InputError for a smaller image, or one that is flat.
    """
    y = y_codes(image).round()
    height, width = (side // _BLOCK * _BLOCK for side in y.shape[-2:])
    if not height or not width:
        raise InputError(f"NIQE of {y.shape[-1]}×{y.shape[-2]} pixels: sides of at least {_BLOCK} are needed")
    y = y[..., :height, :width]
    features = [_features(y, _BLOCK), _features(resize(y, (height // 2, width // 2)), _BLOCK // 2)]
    found = torch.cat(features, dim=1).numpy()
    mean, covariance = _good_photographs()
    whole = found[~np.isnan(found).any(axis=1)]
    if not len(whole):
        raise InputError("NIQE of an image without texture: it has no statistics to compare")
    difference = mean - np.nanmean(found, axis=0)
    both = (covariance + (np.cov(whole, rowvar=False) if len(whole) > 1 else np.zeros_like(covariance))) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(both) @ difference))


def _features(y: Tensor, block: int) -> Tensor:
    """(number of blocks, 18): two of the normalised luma's distribution, and four of each product of neighbours."""
    normal = _normalised(y)
    rows, columns = (side // block for side in y.shape[-2:])
    blocks = normal.reshape(rows, block, columns, block).transpose(1, 2).reshape(-1, block, block)
    shape, left, right = _fit(blocks)
    found = [shape, (left + right) / 2]
    for shift in _SHIFTS:
        shape, left, right = _fit(blocks * blocks.roll(shift, dims=(1, 2)))
        mean = (right - left) * (torch.lgamma(2 / shape) - torch.lgamma(1 / shape)).exp()
        found += [shape, mean, left, right]
    return torch.stack(found, dim=1)


def _normalised(y: Tensor) -> Tensor:
    """(1, 1, H, W): the local mean taken off, divided by the local deviation plus 1."""
    taps = torch.arange(_WINDOW, dtype=y.dtype).sub(_WINDOW // 2).div(_SIGMA).square().mul(-0.5).exp()
    kernel = (taps[:, None] * taps / taps.sum().square())[None, None]
    mean, square = (F.conv2d(F.pad(x, (_WINDOW // 2,) * 4, mode="replicate"), kernel) for x in (y, y.square()))
    return (y - mean) / ((square - mean.square()).abs().sqrt() + 1)


def _fit(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shape, left and right width of an asymmetric generalized Gaussian fitted by moments to each of (N, h, w)."""
    x = x.flatten(1)
    squares = x.square()
    left, right = ((squares.where(side, 0).sum(1) / side.sum(1)).sqrt() for side in (x < 0, x > 0))
    ratio = left / right
    moment = x.abs().mean(1).square() / squares.mean(1)
    wanted = moment * (ratio**3 + 1) * (ratio + 1) / (ratio.square() + 1).square()
    gamma1, gamma2, gamma3 = (torch.lgamma(number / _SHAPES) for number in (1, 2, 3))
    moments = (2 * gamma2 - gamma1 - gamma3).exp()
    above = torch.searchsorted(moments, wanted.nan_to_num(0)).clamp(1, len(moments) - 1)  # the moments rise
    nearer = (wanted - moments[above - 1]) < (moments[above] - wanted)
    shape = _SHAPES[above - nearer.int()]
    width = ((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2).exp()
    return shape, left * width, right * width


@cache
def _good_photographs() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (36) and covariance (36, 36) of the features of good photographs. The file is read once."""
    with np.load(Path(__file__).with_name("niqe.npz")) as content:
        return content["mean"], content["covariance"]
