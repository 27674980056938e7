"""The end of the network as one convolution.

After the last activation only convolutions and pixel shuffles follow. Together they are linear, and treat every pixel
alike, so they are one convolution into the upscale² pixels that each input pixel becomes: of 5×5, whatever the upscale,
since convolutions of 3×3 at the input's size and its multiples reach less than three pixels. It takes a fifth of the
work (HAT ×4: a tenth), and none of the wide maps at the enlarged sizes are made.

Only the outermost pixels become something else, since each convolution sees zeros beyond its own input. So along an
axis there are three kinds of pixels, the first, those between, and the last, and nine kinds in a map, each with a
kernel of its own. All nine are one tensor: along either axis of it, first the taps of the first pixel (on itself and
those behind it), then those of a pixel between, then those of the last (on those before it and itself).

The kernels are made from the last layer to the first, since few channels come out there. What `_before` does, along an
axis: an input pixel becomes, by a convolution and a pixel shuffle, `factor` inner ones, whose kernels are known. They
take inner pixels, which are channels of the convolution's output at some input pixels (`_taken`, `_takes`). There the
convolution has three taps on the input. Some of these are on the same input pixel: their sum is a tap of the whole
(`_sums`). What would be taken from beyond the edge is left out, for there the inner map has ended.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KINDS = _FIRST, _BETWEEN, _LAST = range(3)
"""Of pixels, along an axis."""

_REACH = 2
"""Input pixels on each side that a result depends on."""


def enlarge(layers: Sequence[nn.Module], x_BCHW: Tensor) -> Tensor:
    """What the layers make of x one after the other, up to rounding: (B, C, H, W) → (B, C', scale·H, scale·W).

    layers: for each step of the enlargement a 3×3 convolution with zero padding and a pixel shuffle; and a last
    convolution alike.
    """
    *steps, last = layers
    convolutions = cast(list[nn.Conv2d], steps[::2])
    factors = [cast(nn.PixelShuffle, step).upscale_factor for step in steps[1::2]]
    strip, scale = 1 + _REACH, math.prod(factors)
    if not steps or min(x_BCHW.shape[2:]) < strip:
        return _one_by_one(layers, x_BCHW)
    # Nothing becomes biases, and a map of 3×3 has one pixel of each kind.
    nothing = x_BCHW.new_zeros(1, x_BCHW.shape[1], 3, 3)
    biases = F.pixel_unshuffle(_one_by_one(layers, nothing), scale)[0]
    kernels = _kernels(convolutions, factors, cast(nn.Conv2d, last))
    num_taps = [strip, 2 * _REACH + 1, strip]
    rows = []
    for i, kernels_of_row in zip(_KINDS, kernels.split(num_taps, dim=2), strict=True):
        x = (x_BCHW[:, :, :strip], x_BCHW, x_BCHW[:, :, -strip:])[i]
        row = []
        for j, kernel in zip(_KINDS, kernels_of_row.split(num_taps, dim=3), strict=True):
            part = (x[..., :strip], x, x[..., -strip:])[j]
            padding = int(i == _BETWEEN), int(j == _BETWEEN)  # 2 would make the outermost pixels, too
            row.append(F.conv2d(part, kernel, biases[:, i, j], padding=padding))
        rows.append(torch.cat(row, dim=3))
    return F.pixel_shuffle(torch.cat(rows, dim=2), scale)


def _one_by_one(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    return reduce(lambda x, layer: cast(Tensor, layer(x)), layers, x)


def _kernels(convolutions: list[nn.Conv2d], factors: list[int], last: nn.Conv2d) -> Tensor:
    """(C'·scale², C, 11, 11): those of all layers, before a single pixel shuffle by the whole scale."""
    kernels, reach = last.weight.transpose(0, 1), 1
    for axis in (2, 3):  # no tap before the first pixel, none behind the last
        kernels = torch.cat([kernels.narrow(axis, 1, 2), kernels, kernels.narrow(axis, 0, 2)], dim=axis)
    kernels = kernels[:, :, None, None]
    for convolution, factor in zip(reversed(convolutions), reversed(factors), strict=True):
        kernels = _before(convolution, factor, kernels, reach)
        reach = _reach_before(factor, reach)
    return kernels.flatten(1, 3).transpose(0, 1)


def _before(convolution: nn.Conv2d, factor: int, kernels: Tensor, reach: int) -> Tensor:
    """Kernels of a convolution, a pixel shuffle by `factor`, and what has these kernels, which reach so many pixels.

    kernels: (C, C', scale, scale, T, T), from C channels into C' of the scale² pixels that each pixel becomes, T taps
    along an axis. → (C₀, C', factor·scale, factor·scale, T', T'), for a convolution of C₀ channels into C·factor².
    """
    C, C_out, scale = kernels.shape[:3]
    takes, sums = (kernels.new_tensor(matrix) for matrix in (_takes(factor, reach), _sums(factor, reach)))
    n, T = len(takes) // factor, len(sums) // factor
    taken = (takes @ kernels @ takes.T).view(C, -1, n, factor, n, factor)
    weight = convolution.weight.view(C, factor, factor, -1, 3, 3)
    # c o: channels after and before it; r: results; y x: what is taken; p q: which inner pixel of there; v h: taps
    tapped = torch.einsum("cpqovh,crypxq->orvyhx", weight, taken).flatten(4, 5).flatten(2, 3)
    summed = (sums @ tapped @ sums.T).view(-1, C_out, scale, scale, factor, T, factor, T)
    return summed.permute(0, 1, 4, 2, 6, 3, 5, 7).reshape(-1, C_out, factor * scale, factor * scale, T, T)


def _reach_before(factor: int, reach: int) -> int:
    """Of a 3×3 convolution, a pixel shuffle by `factor`, and what reaches so many pixels."""
    return 1 + -(-reach // factor)


def _pixels(kind: int, start: int, stop: int) -> range:
    """From start to stop, seen from a pixel of this kind; there are none before the first one or behind the last."""
    return range(max(start, 0) if kind == _FIRST else start, (min(stop, 0) if kind == _LAST else stop) + 1)


def _taps(reach: int) -> list[tuple[int, int]]:
    """Of the kernels, along an axis: for a pixel of which kind, and on which pixel, seen from it."""
    return [(kind, pixel) for kind in _KINDS for pixel in _pixels(kind, -reach, reach)]


def _taken(factor: int, reach: int) -> list[tuple[int, int, int]]:
    """The kind of an inner pixel, its place in its input pixel, and an input pixel, seen from that, it takes from."""
    inner = [(_FIRST, 0), *((_BETWEEN, place) for place in range(factor)), (_LAST, factor - 1)]
    return [
        (kind, place, pixel)
        for kind, place in inner
        for pixel in _pixels(kind, (place - reach) // factor, (place + reach) // factor)
    ]


def _takes(factor: int, reach: int) -> list[list[bool]]:
    """Rows: for each of `_taken`, the inner pixels of that input pixel. Columns: `_taps`. True: taken by this tap."""
    rows = [
        {(kind, factor * pixel + inner - place)}
        for kind, place, pixel in _taken(factor, reach)
        for inner in range(factor)
    ]
    return [[column in row for column in _taps(reach)] for row in rows]


def _sums(factor: int, reach: int) -> list[list[bool]]:
    """Rows: for each place of an inner pixel in its input pixel, `_taps` of the whole. Columns: for each of the
    convolution's three taps, `_taken`, which it follows. True: part of the whole's tap.
    """
    kept = {(_FIRST, 0), (_LAST, factor - 1)}
    columns = [(*taken, step) for step in (-1, 0, 1) for taken in _taken(factor, reach)]
    rows = [
        {
            (kind if (kind, place) in kept else _BETWEEN, place, pixel, tap - pixel)
            for pixel in _pixels(kind, tap - 1, tap + 1)
        }
        for place in range(factor)
        for kind, tap in _taps(_reach_before(factor, reach))
    ]
    return [[column in row for column in columns] for row in rows]
