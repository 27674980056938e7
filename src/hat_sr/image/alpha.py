"""Transparency: colours where nothing is seen, and edges that stay where they were.

Tensors are float BCHW: colour (B, C, H, W), alpha (B, 1, H, W) in [0, 1].
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_COARSE = 32
"""By how much the picture is smaller where colours are filled for all of it at once."""

_PART = 8 * _COARSE
"""Rows that are read at once for that."""


def fill_transparent(color: Tensor, alpha: Tensor) -> Tensor:
    """Colours with those of wholly transparent pixels (alpha 0) replaced by a smooth blend of visible ones near by.

    What lies under alpha 0 is arbitrary (mostly black) and would bleed over the edge when a network looks at it.
    Pixels with alpha above 0 keep their colour exactly; a picture without any is returned as it is.
    """
    seen = alpha > 0
    return color if bool(seen.all()) or not bool(seen.any()) else _fill(color, seen)


class Filling:
    """`fill_transparent` for a picture that is not in memory: the same colours, for some rows at a time.

    `read` gives (colour, alpha) of the rows from one to before another. There is at least one visible pixel.
    """

    def __init__(self, read: Callable[[int, int], tuple[Tensor, Tensor]], height: int) -> None:
        self._read, self._height = read, height
        parts = [self._halved(start, min(start + _PART, height))[-1] for start in range(0, height, _PART)]
        color, seen = (torch.cat(maps, dim=-2) for maps in zip(*parts, strict=True))
        self._coarse = _fill(color, seen)

    def rows(self, start: int, stop: int) -> Tensor:
        """The colours of these rows, filled."""
        # A coarse row more on each side: what is wrong at the edge comes nearer by less than that on its way down.
        first = max(start // _COARSE - 1, 0)
        last = min(-(-stop // _COARSE) + 1, self._coarse.shape[-2])
        maps = self._halved(first * _COARSE, min(last * _COARSE, self._height))
        filled = self._coarse[..., first:last, :]
        for color, seen in reversed(maps[:-1]):
            filled = torch.where(seen, color, _doubled(filled, color))
        return filled[..., start - first * _COARSE : stop - first * _COARSE, :]

    def _halved(self, start: int, stop: int) -> list[tuple[Tensor, Tensor]]:
        """(colour, whether known) of the rows, then of half their size, and so on; the last is smaller by _COARSE."""
        color, alpha = self._read(start, stop)
        maps = [(color, alpha > 0)]
        for _ in range(_COARSE.bit_length() - 1):
            maps.append(_half(*maps[-1]))
        return maps


def neighbourhood(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum and maximum of the 3×3 pixels around each pixel."""
    return -F.max_pool2d(-alpha, 3, stride=1, padding=1), F.max_pool2d(alpha, 3, stride=1, padding=1)


def within(result: Tensor, least: Tensor, greatest: Tensor) -> Tensor:
    """The enlarged alpha (B, 1, sH, sW) kept between the `neighbourhood` of its source (B, 1, H, W).

    So opaque areas stay exactly opaque and empty ones exactly empty, whatever a network makes of flat areas.
    """
    size = (result.shape[-2], result.shape[-1])
    return torch.clamp(result, F.interpolate(least, size=size), F.interpolate(greatest, size=size))


def _fill(color: Tensor, seen: Tensor) -> Tensor:
    """Pull-push: halve until every pixel has a colour, averaging only seen ones, then fill holes on the way back."""
    if bool(seen.all()):
        return color
    return torch.where(seen, color, _doubled(_fill(*_half(color, seen)), color))


def _half(color: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the seen ones of 2×2 pixels, and where there are any."""
    weight = F.avg_pool2d(seen.to(color.dtype), 2, ceil_mode=True)
    sums = F.avg_pool2d(torch.where(seen, color, torch.zeros_like(color)), 2, ceil_mode=True)
    known = weight > 0
    return sums / torch.where(known, weight, torch.ones_like(weight)), known


def _doubled(coarse: Tensor, like: Tensor) -> Tensor:
    """Enlarged by 2, linearly between the centres of pixels, and cropped to the size of `like`.

    Not by torch's interpolate, whose rounding depends on the size.
    """
    rows = _doubled_rows(coarse)[..., : like.shape[-2], :]
    return _doubled_rows(rows.mT).mT[..., : like.shape[-1]]


def _doubled_rows(x: Tensor) -> Tensor:
    above = torch.cat([x[..., :1, :], x[..., :-1, :]], dim=-2)
    below = torch.cat([x[..., 1:, :], x[..., -1:, :]], dim=-2)
    return torch.stack([0.75 * x + 0.25 * above, 0.75 * x + 0.25 * below], dim=-2).flatten(-3, -2)
