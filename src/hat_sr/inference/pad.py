"""Images of any size for a network that wants sides of a certain multiple."""

import torch
from torch import Tensor

from hat_sr.inference.upscale import Upscale


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
