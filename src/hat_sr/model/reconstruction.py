"""The end of the network as one convolution.

After the last activation only convolutions and pixel shuffles follow. Together they are linear, and treat every pixel
alike, so they are one convolution into the upscale² pixels that each input pixel becomes: of 5×5, whatever the upscale,
since convolutions of 3×3 at the input's size and its multiples reach less than three pixels. It takes a fifth of the
work (HAT ×4: a tenth), and none of the wide maps at the enlarged sizes are made. Only along the edges the result is
another, where each convolution sees zeros beyond its own input: there the layers run one after the other.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_REACH = 2
"""Input pixels on each side that a result depends on."""

_RIM = 1
"""Input pixels along the edges whose results are touched by zeros beyond the edges of inner maps."""


def enlarge(layers: Sequence[nn.Module], x_BCHW: Tensor) -> Tensor:
    """What the layers make of x one after the other, up to rounding: (B, C, H, W) → (B, C', scale·H, scale·W).

    layers: for each step of the enlargement a 3×3 convolution with zero padding and a pixel shuffle; and a last
    convolution alike.
    """
    *steps, last = layers
    convolutions = cast(list[nn.Conv2d], steps[::2])
    factors = [cast(nn.PixelShuffle, step).upscale_factor for step in steps[1::2]]
    strip = _RIM + _REACH
    if not steps or min(x_BCHW.shape[2:]) < strip:
        return reduce(lambda x, layer: cast(Tensor, layer(x)), layers, x_BCHW)
    scale = math.prod(factors)
    kernel, bias = _as_convolution(convolutions, factors, cast(nn.Conv2d, last))
    inner = F.pixel_shuffle(F.conv2d(x_BCHW, kernel, bias, padding=_REACH - _RIM), scale)
    rim = _RIM * scale
    top = _at_edge(layers, x_BCHW[:, :, :strip], (1, 1, 1, 0))[:, :, :rim]
    bottom = _at_edge(layers, x_BCHW[:, :, -strip:], (1, 1, 0, 1))[:, :, -rim:]
    left = _at_edge(layers, x_BCHW[..., :strip], (1, 0, 1, 1))[:, :, rim:-rim, :rim]
    right = _at_edge(layers, x_BCHW[..., -strip:], (0, 1, 1, 1))[:, :, rim:-rim, -rim:]
    return torch.cat([top, torch.cat([left, inner, right], dim=3), bottom], dim=2)


def _at_edge(layers: Sequence[nn.Module], x: Tensor, zeros: tuple[int, int, int, int]) -> Tensor:
    """What the layers make of a strip along an edge.

    zeros: 1 for each side (left, right, top, bottom) that is the map's edge too. The other one is where the strip was
    cut off: there each convolution makes a pixel less than it gets, since it would need the one beyond.
    """
    for layer in layers:
        x = F.conv2d(F.pad(x, zeros), layer.weight, layer.bias) if isinstance(layer, nn.Conv2d) else layer(x)
    return x


def _as_convolution(convolutions: list[nn.Conv2d], factors: list[int], last: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Kernel (C'·scale², C, 5, 5) and bias (C'·scale²) of what they are together, before a pixel shuffle by scale."""
    kernel, bias, scale = last.weight, cast(Tensor, last.bias), 1
    for convolution, factor in zip(reversed(convolutions), reversed(factors), strict=True):
        kernel, bias = _joined(convolution, factor, kernel, bias, scale)
        scale *= factor
    return kernel, bias


def _joined(convolution: nn.Conv2d, factor: int, kernel: Tensor, bias: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution, a pixel shuffle by `factor`, and a convolution with this kernel and bias.

    They are that of the whole, where pixel shuffles that follow are put off to the end: one by `scale` becomes one by
    factor·scale. (O·scale², C, k, k) and (O·scale²) → (O·(factor·scale)², C₀, 2r + 1, 2r + 1) and
    (O·(factor·scale)²), for a convolution of C₀ channels into C·factor².
    """

    def put_off(x: Tensor) -> Tensor:
        return F.pixel_unshuffle(F.pixel_shuffle(x, scale), factor * scale)

    reach = kernel.shape[-1] // 2  # at the enlarged size
    reach_before = 1 + -(-reach // factor)
    # A pixel of 1 answers at all places that it reaches: seen from these, it lies on the other side.
    answers = F.pixel_shuffle(convolution.weight.transpose(0, 1).flip(2, 3), factor)
    answers = F.pad(F.conv2d(answers, kernel, padding=2 * reach), [(reach_before - 1) * factor - reach] * 4)
    # Without input the convolution makes its bias everywhere; what becomes of that is read in the middle.
    side = 2 * reach_before + 1
    nothing = F.pixel_shuffle(cast(Tensor, convolution.bias)[None, :, None, None].expand(-1, -1, side, side), factor)
    of_nothing = put_off(F.conv2d(nothing, kernel, bias, padding=reach))
    joined = put_off(answers).transpose(0, 1).flip(2, 3)
    return joined, of_nothing[0, :, reach_before, reach_before]
