"""Pixels to what a network takes, and back, and what that means for gray, alpha, 16 bit and light beyond white.

Tensors here are float32 BCHW with B = 1; numpy stays on the other side of `to_tensor` and `to_pixels`.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hat_sr.errors import InputError
from hat_sr.image.alpha import fill_transparent, within_neighbours
from hat_sr.image.color import srgb_decode, srgb_encode
from hat_sr.image.pixels import DTYPES, Image, Pixels

logger = logging.getLogger(__name__)

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


def upscale_image(
    image: Image, upscale: Callable[[Tensor], Tensor], *, in_chans: int, name: object = "the picture"
) -> Image:
    """The picture, larger: same kind of channels, depth and metadata.

    `upscale` maps (1, in_chans, H, W) in [0, 1] to (1, in_chans, sH, sW); `in_chans` is 3 or 1. `name` is for warnings.
    Gray is repeated for a network of 3 and averaged after. Light is encoded by sRGB first and decoded after; a peak
    above 1 is divided out and put back; values below 0 become 0, with a warning. Alpha goes through as a gray picture,
    kept between its neighbours; colours of wholly transparent pixels are filled from visible ones first.
    Raises InputError for RGB and a network of one channel.
    """
    if in_chans not in (1, 3):
        raise InputError(f"a network of {in_chans} channels cannot take a picture: 1 (gray) or 3 (RGB) is accepted")
    color, alpha = to_tensor(image.color), None if image.alpha is None else to_tensor(image.alpha).clamp(0, 1)
    if color.shape[1] > in_chans:
        raise InputError("an RGB picture needs a network of 3 channels, this one has 1: use another, or make it gray")
    if alpha is not None:
        color = fill_transparent(color, alpha)
    if bool((color < 0).any()):
        logger.warning("%s: %d values below 0 are taken as 0", name, int((color < 0).sum()))
        color = color.clamp(min=0)
    result = to_pixels(_upscale_color(color, upscale, in_chans, linear=image.linear), image.pixels.dtype.name)
    if alpha is not None:
        alpha = within_neighbours(_upscale_plane(alpha, upscale, in_chans), alpha)
        result = np.concatenate([result, to_pixels(alpha, image.pixels.dtype.name)], axis=2)
    return replace(image, pixels=result)


def _upscale_color(x: Tensor, upscale: Callable[[Tensor], Tensor], in_chans: int, *, linear: bool) -> Tensor:
    peak = x.max().clamp(min=1)
    x = x / peak
    y = _upscale_plane(srgb_encode(x) if linear else x, upscale, in_chans)
    return (srgb_decode(y) if linear else y) * peak


def _upscale_plane(x: Tensor, upscale: Callable[[Tensor], Tensor], in_chans: int) -> Tensor:
    """Gray or RGB in [0, 1] through the network, and back to as many channels, in [0, 1] and float32 on the CPU."""
    y = upscale(x.expand(-1, in_chans, -1, -1)).detach().to("cpu", torch.float32)
    # Three equal channels must come back as they were, which their float mean need not.
    if x.shape[1] < in_chans:
        y = torch.where((y == y[:, :1]).all(dim=1, keepdim=True), y[:, :1], y.mean(dim=1, keepdim=True))
    # NaN passes through clamp, so that to_pixels sees it.
    return y.clamp(0, 1)
