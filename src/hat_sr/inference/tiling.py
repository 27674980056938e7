"""Large images in tiles with context, blended where they meet: planned in integers, then applied to tensors.

    one axis      |<------- read -------->|
    tile 1        ======================|--
    tile 2                   --|//====================\\\\|--
                               |<- used ->  // \\\\ blend, -- context that is dropped

All lengths are in LR pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hat_sr.errors import ConfigError
from hat_sr.inference.upscale import Upscale


@dataclass(frozen=True, kw_only=True)
class Span:
    """One tile along one axis: [start, stop) is read, and of its result [core_start, core_stop) is used.

    The cores of neighbours overlap by the blend, in which one fades into the other.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int


def smallest_tile_size(*, tile_pad: int, blend_size: int, align: int) -> int:
    """The least `tile_size` that `plan_axis` takes with these settings."""
    return _shared(tile_pad, blend_size, align) + align


def plan_axis(length: int, *, tile_size: int, tile_pad: int, blend_size: int, align: int) -> list[Span]:
    """Cut an axis of `length` pixels into the fewest tiles of at most `tile_size`, context included.

    A pixel is used only from a tile that reads at least `tile_pad` pixels on each side of it (or all there are), and
    neighbours blend over `blend_size` pixels. Tiles are made equal, no larger than their number asks for. Starts are
    multiples of `align`, so that a tile has the same window grid as the whole image; the last tile is moved inwards
    and may be up to align − 1 shorter. Raises ConfigError for settings that cannot be.
    """
    _check(tile_size, tile_pad, blend_size, align)
    if length <= tile_size:
        return [Span(start=0, stop=length, core_start=0, core_stop=length)]

    shared = _shared(tile_pad, blend_size, align)
    count = math.ceil((length - shared) / (tile_size - shared))
    stride = _round_up(math.ceil((length - shared) / count), align)
    size = stride + shared
    last_start = _round_up(length - size, align)
    starts = [min(number * stride, last_start) for number in range(count)]
    stops = [min(start + size, length) for start in starts]

    blend_starts = [(stop + start - blend_size) // 2 for stop, start in zip(stops[:-1], starts[1:], strict=True)]
    core_starts = [0, *blend_starts]
    core_stops = [*(start + blend_size for start in blend_starts), length]
    return [
        Span(start=start, stop=stop, core_start=core_start, core_stop=core_stop)
        for start, stop, core_start, core_stop in zip(starts, stops, core_starts, core_stops, strict=True)
    ]


def blend_weights(span: Span, length: int, *, blend_size: int, scale: int) -> Tensor:
    """How much each output pixel of a tile's core counts along one axis: (scale·core,) float64 in [0, 1].

    Over all tiles of an axis of `length` pixels the weights of a pixel add up to 1.
    """
    position = torch.arange(span.core_start * scale, span.core_stop * scale, dtype=torch.float64) + 0.5

    def rise(start: int) -> Tensor:
        return ((position - start * scale) / (blend_size * scale)).clamp(0, 1)

    weights = torch.ones_like(position) if span.start == 0 else rise(span.core_start)
    return weights if span.stop == length else weights - rise(span.core_stop - blend_size)


def tiled(
    upscale: Upscale, *, scale: int, tile_size: int, tile_pad: int, blend_size: int = 8, align: int = 1
) -> Upscale:
    """An Upscale that runs `upscale` on one tile after the other, and blends them without seams.

    Each call of `upscale` gets at most tile_size × tile_size pixels; the result is gathered on the input's device, so
    that with the image on the CPU only tiles are on an accelerator. The settings are those of `plan_axis`.
    Equal to the whole image at once where no output pixel depends on input further than `tile_pad` away. HAT does
    (attention chains, and the global mean in channel attention): there it is an approximation.
    Raises ConfigError for settings that cannot be.
    """
    _check(tile_size, tile_pad, blend_size, align)

    def plan(length: int) -> list[tuple[Span, Tensor]]:
        spans = plan_axis(length, tile_size=tile_size, tile_pad=tile_pad, blend_size=blend_size, align=align)
        return [(span, blend_weights(span, length, blend_size=blend_size, scale=scale)) for span in spans]

    def run(x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        rows, columns = plan(H), plan(W)
        if len(rows) == len(columns) == 1:
            return upscale(x)
        out = x.new_zeros(B, C, H * scale, W * scale)
        for row, row_weights in rows:
            for column, column_weights in columns:
                tile = upscale(x[..., row.start : row.stop, column.start : column.stop])
                weights = torch.outer(row_weights, column_weights).to(x)
                core = tile[..., _core(row, row.start, scale), _core(column, column.start, scale)]
                out[..., _core(row, 0, scale), _core(column, 0, scale)] += core * weights
        return out

    return run


def _core(span: Span, origin: int, scale: int) -> slice:
    """The core in output pixels, counted from `origin`."""
    return slice((span.core_start - origin) * scale, (span.core_stop - origin) * scale)


def _shared(tile_pad: int, blend_size: int, align: int) -> int:
    """How many pixels two neighbours both read, at least."""
    return _round_up(2 * tile_pad + blend_size, align)


def _round_up(value: int, multiple: int) -> int:
    return value + -value % multiple


def _check(tile_size: int, tile_pad: int, blend_size: int, align: int) -> None:
    if tile_pad < 0 or blend_size < 1 or align < 1:
        raise ConfigError(
            f"tile_pad {tile_pad} must be at least 0, blend_size {blend_size} and align {align} at least 1"
        )
    smallest = smallest_tile_size(tile_pad=tile_pad, blend_size=blend_size, align=align)
    if tile_size < smallest or tile_size % align:
        raise ConfigError(
            f"tile_size {tile_size} must be a multiple of {align} and at least {smallest}: it includes tile_pad "
            f"{tile_pad} on both sides and blend_size {blend_size}"
        )
