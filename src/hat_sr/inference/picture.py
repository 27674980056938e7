"""A picture through an upscaler: what that means for gray, alpha, depth, and light beyond white."""

import logging
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hat_sr.errors import InputError
from hat_sr.image.alpha import fill_transparent, within_neighbours
from hat_sr.image.color import srgb_decode, srgb_encode
from hat_sr.image.convert import to_pixels, to_tensor
from hat_sr.image.pixels import Image
from hat_sr.inference.upscale import Upscale

logger = logging.getLogger(__name__)


def upscale_image(image: Image, upscale: Upscale, *, in_chans: int, name: object = "the picture") -> Image:
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


def _upscale_color(x: Tensor, upscale: Upscale, in_chans: int, *, linear: bool) -> Tensor:
    peak = x.max().clamp(min=1)
    x = x / peak
    y = _upscale_plane(srgb_encode(x) if linear else x, upscale, in_chans)
    return (srgb_decode(y) if linear else y) * peak


def _upscale_plane(x: Tensor, upscale: Upscale, in_chans: int) -> Tensor:
    """Gray or RGB in [0, 1] through the network, and back to as many channels, in [0, 1] and float32 on the CPU."""
    y = upscale(x.expand(-1, in_chans, -1, -1)).detach().to("cpu", torch.float32)
    # Three equal channels must come back as they were, which their float mean need not.
    if x.shape[1] < in_chans:
        y = torch.where((y == y[:, :1]).all(dim=1, keepdim=True), y[:, :1], y.mean(dim=1, keepdim=True))
    # NaN passes through clamp, so that to_pixels sees it.
    return y.clamp(0, 1)
