"""The one type that networks, runtimes, baselines and wrappers share, the check of what it takes, and three wrappers:
padding, self-ensemble, and colours that stay faithful."""

import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_sr.errors import InputError

Upscale = Callable[[Tensor], Tensor]
"""Enlarges a batch of images by a whole factor s: (B, C, H, W) float in [0, 1] → (B, C, s·H, s·W).

Dtype and device stay the same. The result may leave [0, 1] a little: whoever turns it into pixels clamps.
"""

_LEAST, _GREATEST = -0.5, 2.0
"""Values beyond these are no picture in [0, 1], even one that a network or a filter made brighter."""


def check_images(x: object, *, in_chans: int) -> Tensor:
    """`x` if it is a batch of images, (B, in_chans, H, W) float in [0, 1]; what is a little beyond is let pass.

    Raises InputError if it is not.
    """
    wanted = f"(B, {in_chans}, H, W)"
    if isinstance(x, str | os.PathLike):
        raise InputError(
            f"the input is {str(x)!r}: a tensor {wanted} of floats in [0, 1] is accepted; for files there is "
            "hat_sr.enlarge_file"
        )
    if not isinstance(x, Tensor):
        raise InputError(
            f"the input is {type_name(x)}: a tensor {wanted} of floats in [0, 1] is accepted: of RGB in 8 bits, "
            "torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)[None] / 255"
        )
    if x.dim() != 4 or x.shape[1] != in_chans or x.numel() == 0:
        raise InputError(f"the input has the shape {tuple(x.shape)}: {wanted} with at least one pixel is taken")
    if not x.is_floating_point():
        raise InputError(f"the input is {x.dtype}: convert it to float in [0, 1] first")
    if x.is_meta:
        raise InputError("the input is on the device meta, without values: make it on cpu or where the network is")
    least, greatest = (float(value) for value in x.detach().aminmax())
    if not (least >= _LEAST and greatest <= _GREATEST):  # NaN, too
        raise InputError(
            f"the input's values are {least:g} to {greatest:g}: [0, 1] is accepted, black to white: divide values of "
            "8 bits by 255"
        )
    return x


def type_name(value: object) -> str:
    """The full name of a value's type, for messages."""
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def padded(upscale: Upscale, *, multiple: int, scale: int) -> Upscale:
    """An Upscale for any size from 1×1, out of one whose input sides must be multiples of `multiple`.

    The image is extended at the bottom and on the right by reflection about the centre of its last row and column, as
    with the published results; a side too short for that is reflected back and forth. The result is cropped.
    scale: the factor by which `upscale` enlarges.
    """

    def run(x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        out = upscale(_extend(_extend(x, -2, multiple), -1, multiple))
        return out[..., : height * scale, : width * scale]

    return run


def _extend(x: Tensor, dim: int, multiple: int) -> Tensor:
    length = x.shape[dim]
    if length % multiple == 0:
        return x
    period = max(2 * (length - 1), 1)
    position = torch.arange(length + -length % multiple, device=x.device) % period
    return x.index_select(dim, torch.minimum(position, period - position))


def self_ensemble(upscale: Upscale) -> Upscale:
    """An Upscale that runs `upscale` eight times, on the image turned by 0–270° and mirrored, and takes the mean.

    `upscale` must take H×W and W×H alike.
    """

    def run(x: Tensor) -> Tensor:
        total = upscale(x)
        for number in range(1, 8):
            mirrored, turns = divmod(number, 4)
            view = (x.flip(-1) if mirrored else x).rot90(turns, (-2, -1))
            out = upscale(view).rot90(-turns, (-2, -1))
            total = total + (out.flip(-1) if mirrored else out)
        return total / 8

    return run


_BLOCK = 4
"""LR pixels a side of the blocks whose means are compared. With two more on each side, and between their centres, an
area reaches 14 pixels, less than tiles have as context."""

_BORDER = 4
"""LR pixels from the border of the picture up to which flat areas are more than a level off."""


def faithful(upscale: Upscale, *, scale: int) -> Upscale:
    """An Upscale that keeps to the colours of the picture, out of one that may stray from them.

    What the result lacks of the picture's mean in the area around each place, some 10 LR pixels wide, is added to it.
    In a frame of 4 LR pixels along the border, values may then lie outside the range of the 3×3 LR pixels around their
    place by as much as that is wide, and no further. Details and sharpness stay.
    scale: the factor by which `upscale` enlarges. Its result is changed in place, so it must be a tensor of its own.
    """

    def run(x: Tensor) -> Tensor:
        out = upscale(x)
        height, width = x.shape[-2:]
        rows = out.unflatten(-2, (height, scale))
        lacking = _area_mean(x - rows.mean(-2).unflatten(-1, (width, scale)).mean(-1))
        rows += lacking.repeat_interleave(scale, -1).unsqueeze(-2)
        for dim in (-2, -1):
            _limit_border(out, x, dim, scale)
        return out

    return run


def _area_mean(x: Tensor) -> Tensor:
    """The mean around each pixel, under a binomial kernel of blocks, over what there is inside of the border."""
    blocks = F.avg_pool2d(x, _BLOCK, ceil_mode=True, count_include_pad=False).flatten(0, 1).unsqueeze(1)
    weights = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=x.dtype, device=x.device)
    kernel = torch.outer(weights, weights)[None, None]
    sums, total = (F.conv2d(one, kernel, padding=2) for one in (blocks, torch.ones_like(blocks[:1])))
    means = F.interpolate(sums / total, scale_factor=_BLOCK, mode="bilinear")
    return means[..., : x.shape[-2], : x.shape[-1]].reshape(x.shape)


def _limit_border(out: Tensor, x: Tensor, dim: int, scale: int) -> None:
    """Limit the first and the last pixels along an axis."""
    length = x.shape[dim]
    width = min(_BORDER, length)
    for start in (0, length - width):
        first = max(start - 1, 0)  # what is beside the frame belongs to the range of its pixels
        near = x.narrow(dim, first, min(start + width + 1, length) - first)
        least, greatest = -F.max_pool2d(-near, 3, stride=1, padding=1), F.max_pool2d(near, 3, stride=1, padding=1)
        bounds = (
            F.interpolate(bound.narrow(dim, start - first, width), scale_factor=scale)
            for bound in (2 * least - greatest, 2 * greatest - least)
        )
        out.narrow(dim, start * scale, width * scale).clamp_(*bounds)
