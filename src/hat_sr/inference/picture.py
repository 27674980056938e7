"""A picture through an upscaler: what that means for gray, alpha, depth, and light beyond white."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hat_sr.errors import InputError
from hat_sr.image.alpha import fill_transparent, neighbourhood, within
from hat_sr.image.color import srgb_decode, srgb_encode
from hat_sr.image.convert import to_pixels, to_tensor
from hat_sr.image.pixels import Image, Pixels
from hat_sr.inference.upscale import Upscale

logger = logging.getLogger(__name__)


def upscale_image(image: Image, upscale: Upscale, *, in_chans: int, name: object = "the picture") -> Image:
    """The picture, larger: same kind of channels, depth and metadata.

    `upscale` maps (1, in_chans, H, W) in [0, 1] to (1, in_chans, sH, sW); `in_chans` is 3 or 1. `name` is for warnings.
    Gray is repeated for a network of 3 and averaged after. Light is encoded by sRGB first and decoded after; a peak
    above 1 is divided out and put back; values below 0 become 0, with a warning. Alpha goes through as a gray picture,
    kept between its neighbours; colours of wholly transparent pixels are filled from visible ones first, unless they
    are multiplied by alpha, and so are what is seen of them.
    Raises InputError for RGB and a network of one channel.
    """
    check_channels(image.color.shape[2], in_chans)
    color, alpha = to_tensor(image.color), None if image.alpha is None else to_tensor(image.alpha).clamp(0, 1)
    if alpha is not None and not image.associated:
        color = fill_transparent(color, alpha)
    if bool((color < 0).any()):
        warn_of_negative(int((color < 0).sum()), name)
    treatment = Treatment(
        channels=color.shape[1],
        in_chans=in_chans,
        dtype=image.pixels.dtype.name,
        linear=image.linear,
        peak=color.max().clamp(min=1),
    )
    result = treatment.color(upscale(treatment.of_color(color)))
    if alpha is not None:
        enlarged = treatment.alpha(upscale(treatment.of_alpha(alpha)), neighbourhood(alpha))
        result = np.concatenate([result, enlarged], axis=2)
    return replace(image, pixels=result)


def check_channels(channels: int, in_chans: int) -> None:
    """Raise InputError if colour of so many channels cannot go through a network of `in_chans`."""
    if in_chans not in (1, 3):
        raise InputError(f"a network of {in_chans} channels cannot take a picture: 1 (gray) or 3 (RGB) is accepted")
    if channels > in_chans:
        raise InputError("an RGB picture needs a network of 3 channels, this one has 1: use another, or make it gray")


def warn_of_negative(count: int, name: object) -> None:
    """Say that so many values of a picture become 0."""
    logger.warning("%s: %d values below 0 are taken as 0", name, count)


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What is done to a picture before and after the network: to each pixel alone, so that any part of it will do.

    channels: of the colour, 1 or 3. dtype, linear: as `Image` has them. peak: the largest value, a tensor of no
    dimensions, at least 1.
    """

    channels: int
    in_chans: int
    dtype: str
    linear: bool
    peak: Tensor

    def of_color(self, color: Tensor) -> Tensor:
        """Colours (1, channels, H, W) → (1, in_chans, H, W) in [0, 1] for the network."""
        x = color.clamp(min=0) / self.peak
        return (srgb_encode(x) if self.linear else x).expand(-1, self.in_chans, -1, -1)

    def of_alpha(self, alpha: Tensor) -> Tensor:
        """Alpha (1, 1, H, W) as a gray picture for the network."""
        return alpha.expand(-1, self.in_chans, -1, -1)

    def color(self, y: Tensor) -> Pixels:
        """What the network made of `of_color`, as pixels."""
        y = _channels(y, self.channels)
        return to_pixels((srgb_decode(y) if self.linear else y) * self.peak, self.dtype)

    def alpha(self, y: Tensor, neighbours: tuple[Tensor, Tensor]) -> Pixels:
        """What the network made of `of_alpha`, as pixels, kept within the `neighbourhood` of that."""
        return to_pixels(within(_channels(y, 1), *neighbours), self.dtype)


def _channels(y: Tensor, channels: int) -> Tensor:
    """The network's result with so many channels, in [0, 1] and float32 on the CPU."""
    y = y.detach().to("cpu", torch.float32)
    # Three equal channels must come back as they were, which their float mean need not.
    if channels < y.shape[1]:
        y = torch.where((y == y[:, :1]).all(dim=1, keepdim=True), y[:, :1], y.mean(dim=1, keepdim=True))
    # NaN passes through clamp, so that to_pixels sees it.
    return y.clamp(0, 1)
