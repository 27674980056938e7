"""Colour arithmetic: luma as benchmarks measure it, and the sRGB transfer functions."""

import torch
from torch import Tensor

from hat_sr.errors import InputError

# Weights of R, G, B and the offset, for inputs in [0, 1] and a result in 8-bit codes: BT.601 with the studio range
# 16–235, to the digits that MATLAB's rgb2ycbcr uses.
_Y_WEIGHTS = (65.481, 128.553, 24.966)
_Y_OFFSET = 16.0

# IEC 61966-2-1, where the linear part meets the power law, on either side.
_LINEAR_KNEE = 0.0031308
_ENCODED_KNEE = 0.04045


def rgb_to_y(x: Tensor) -> Tensor:
    """Luma of BT.601 in studio range, not rounded.

    x: float (B, 3, H, W), RGB in [0, 1]. Returns (B, 1, H, W) of x's dtype, 16/255 for black and 235/255 for white.
    Raises InputError for another shape or an integer dtype.
    """
    if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
        raise InputError(f"rgb_to_y takes float (B, 3, H, W) in [0, 1], got {x.dtype} of shape {tuple(x.shape)}")
    weights = torch.tensor(_Y_WEIGHTS, dtype=x.dtype, device=x.device).view(3, 1, 1)
    return ((x * weights).sum(dim=1, keepdim=True) + _Y_OFFSET) / 255


def srgb_encode(linear: Tensor) -> Tensor:
    """Linear light to sRGB code values (IEC 61966-2-1): float of any shape, 0 → 0 and 1 → 1.

    The power law goes on above 1, and the straight part below 0, so that srgb_decode undoes it everywhere.
    """
    curve = 1.055 * linear.clamp(min=_LINEAR_KNEE) ** (1 / 2.4) - 0.055
    return torch.where(linear <= _LINEAR_KNEE, 12.92 * linear, curve)


def srgb_decode(encoded: Tensor) -> Tensor:
    """sRGB code values to linear light (IEC 61966-2-1): float of any shape, 0 → 0 and 1 → 1; undoes srgb_encode."""
    curve = ((encoded.clamp(min=_ENCODED_KNEE) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= _ENCODED_KNEE, encoded / 12.92, curve)
