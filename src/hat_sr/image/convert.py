"""Pixels (numpy) to the tensors that a network takes, and back.

Tensors here are float32 BCHW with B = 1; numpy stays on the other side of `to_tensor` and `to_pixels`.
"""

import numpy as np
import torch
from torch import Tensor

from hat_sr.errors import InputError
from hat_sr.image.pixels import DTYPES, Pixels

_WHITE = {"uint8": 255, "uint16": 65535, "float16": 1, "float32": 1}
_FLOAT16_MAX = float(np.finfo(np.float16).max)


def to_tensor(pixels: Pixels) -> Tensor:
    """HWC pixels (uint8, uint16, float16, float32) to a (1, C, H, W) float32 tensor, white being 1.

    Floats are taken as they are, beyond [0, 1] too. Raises InputError for another dtype or shape.
    """
    if pixels.dtype.name not in _WHITE or pixels.ndim != 3:
        raise InputError(
            f"pixels of shape {pixels.shape} and type {pixels.dtype}: HWC of {', '.join(DTYPES)} is accepted"
        )
    values = pixels.astype(np.float32) / np.float32(_WHITE[pixels.dtype.name])
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]


def to_pixels(x: Tensor, dtype: str) -> Pixels:
    """A (1, C, H, W) float tensor to HWC pixels of `dtype` ("uint8", "uint16", "float16" or "float32").

    Integers: clamped to [0, 1], scaled, rounded to nearest (halves to even). Floats: as they are, float16 clamped to
    its range. Raises InputError for another dtype, a batch, or NaN and infinity, which a network run in too low a
    precision gives.
    """
    if dtype not in _WHITE:
        raise InputError(f"pixel type {dtype!r}: {', '.join(DTYPES)} are accepted")
    if x.ndim != 4 or x.shape[0] != 1:
        raise InputError(f"a tensor of shape {tuple(x.shape)}: (1, C, H, W) is accepted")
    x = x.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(x).all()):
        raise InputError("the result holds NaN or infinity: run in a higher precision")
    if dtype.startswith("uint"):
        x = (x.clamp(0, 1) * _WHITE[dtype]).round()
    elif dtype == "float16":
        x = x.clamp(-_FLOAT16_MAX, _FLOAT16_MAX)
    return np.ascontiguousarray(x[0].permute(1, 2, 0).numpy().astype(dtype))
