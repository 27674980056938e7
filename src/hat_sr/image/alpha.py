"""Transparency: colours where nothing is seen, and edges that stay where they were.

Tensors are float BCHW: colour (B, C, H, W), alpha (B, 1, H, W) in [0, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def fill_transparent(color: Tensor, alpha: Tensor) -> Tensor:
    """Colours with those of wholly transparent pixels (alpha 0) replaced by a smooth blend of visible ones near by.

    What lies under alpha 0 is arbitrary (mostly black) and would bleed over the edge when a network looks at it.
    Pixels with alpha above 0 keep their colour exactly; a picture without any is returned as it is.
    """
    seen = alpha > 0
    return color if bool(seen.all()) or not bool(seen.any()) else _fill(color, seen)


def within_neighbours(result: Tensor, alpha: Tensor) -> Tensor:
    """The enlarged alpha (B, 1, sH, sW) kept between the least and greatest of the 3×3 source pixels around each place.

    So opaque areas stay exactly opaque and empty ones exactly empty, whatever a network makes of flat areas.
    """
    size = (result.shape[-2], result.shape[-1])
    greatest = F.max_pool2d(alpha, 3, stride=1, padding=1)
    least = -F.max_pool2d(-alpha, 3, stride=1, padding=1)
    return torch.clamp(result, F.interpolate(least, size=size), F.interpolate(greatest, size=size))


def _fill(color: Tensor, seen: Tensor) -> Tensor:
    """Pull-push: halve until every pixel has a colour, averaging only seen ones, then fill holes on the way back."""
    if bool(seen.all()):
        return color
    weight = F.avg_pool2d(seen.to(color.dtype), 2, ceil_mode=True)
    sums = F.avg_pool2d(torch.where(seen, color, torch.zeros_like(color)), 2, ceil_mode=True)
    known = weight > 0
    coarse = _fill(sums / torch.where(known, weight, torch.ones_like(weight)), known)
    size = (color.shape[-2], color.shape[-1])
    return torch.where(seen, color, F.interpolate(coarse, size=size, mode="bilinear"))
